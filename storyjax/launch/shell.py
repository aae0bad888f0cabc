"""Words and shells: whatever a word holds, the program at the end gets that word."""

import json
import re
import shlex
from collections.abc import Iterable
from typing import Any

# What some reader on the way does not keep inside quotes: sbatch refuses \r, YAML other control characters, and a word of
# several lines would break the comment that names the command.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def quote(word: str) -> str:
    """`word` for bash, on one line: as `shlex.quote`, with control characters as escapes in $'...'."""
    if not _CONTROL.search(word):
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, word)) + "'"


def join(words: Iterable[str]) -> str:
    """A command line that bash splits into `words` again."""
    return " ".join(map(quote, words))


def kubernetes(word: str) -> str:
    """`word` for the `command` and `args` of a container, where $(NAME) is a variable and $$ a dollar."""
    return word.replace("$", "$$")


def yaml(value: Any) -> str:
    """A string, or a list of them, as YAML on one line: JSON, with escapes for what YAML does not take as it is."""
    text = json.dumps(value, ensure_ascii=False)  # not as surrogate pairs, which are no characters in YAML
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    if not _CONTROL.match(character):
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode())  # two digits: what follows is no part of it
