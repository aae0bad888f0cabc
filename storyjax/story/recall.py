"""Which earlier sentences a reader needs to understand a later one: "they" is whoever was named last.

A network that reads F sentences at a time must be shown the right ones. These rules look at words alone: names are those of the
cast, or else words with a capital letter in the middle of a sentence. A sentence stands by itself when it names somebody before
any "she", "he" or "they". Where a language has no capitals or other pronouns, what is left is the nearest sentences.
"""

import itertools
import re
from collections.abc import Sequence

PRONOUNS = frozenset(
    ("she", "he", "they", "it", "her", "him", "them", "his", "hers", "their", "theirs", "its", "both", "all")
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_SENTENCE_END = re.compile(r"[.!?:…\"“”]\s*$")


def names_in(sentences: Sequence[str], cast: Sequence[str] = ()) -> frozenset[str]:
    """Words that name somebody: those of the cast's names, or else capitalised words that do not begin a sentence."""
    if cast:
        return frozenset(word for name in cast for word in _spoken(name))
    found = set()
    for sentence in sentences:
        for match in _WORD.finditer(sentence):
            before = sentence[: match.start()]
            if before.strip() and not _SENTENCE_END.search(before) and match[0][0].isupper() and match[0] != "I":
                found.add(_stem(match[0]))
    return frozenset(found)


def stands_alone(sentence: str, names: frozenset[str]) -> bool:
    """Whether somebody is named before any pronoun."""
    for word in _WORD.findall(sentence):
        if _stem(word) in names:
            return True
        if word.casefold() in PRONOUNS:
            return False
    return False


def needed(sentences: Sequence[str], frame: int, names: frozenset[str]) -> list[int]:
    """Earlier frames, rising, that say who is in `frame`: the last that stands by itself, and those after it that name somebody.

    Empty for a frame that stands by itself. Where nobody is ever named, the story's first sentence.
    """
    alone, naming = _marks(sentences[: frame + 1], names)
    return _needed(alone, naming, frame)


def recalled(sentences: Sequence[str], count: int, cast: Sequence[str] = ()) -> list[list[int]]:
    """For every frame `count` earlier frames, rising: those it needs (of too many the first and the latest), then the nearest.

    If the first of them does not stand by itself, the last one before that does takes its place: networks learn from stories whose
    first sentence says who it is about. A frame with fewer than `count` before it gets all of them.
    """
    alone, naming = _marks(sentences, names_in(sentences, cast))
    chosen = []
    for frame in range(len(sentences)):
        said = _needed(alone, naming, frame) if count else []
        if len(said) > count:
            said = [said[0], *said[len(said) - count + 1 :]]
        nearest = (n for n in range(frame - 1, -1, -1) if n not in said)
        told = sorted([*said, *itertools.islice(nearest, count - len(said))])
        if told and told[0] not in said:
            told[0] = next((n for n in range(told[0], -1, -1) if alone[n]), told[0])
        chosen.append(told)
    return chosen


def _marks(sentences: Sequence[str], names: frozenset[str]) -> tuple[list[bool], list[bool]]:
    """Which sentences stand by themselves, and which name anybody."""
    alone = [stands_alone(sentence, names) for sentence in sentences]
    return alone, [_names(sentence, names) for sentence in sentences]


def _needed(alone: list[bool], naming: list[bool], frame: int) -> list[int]:
    if alone[frame] or frame == 0:
        return []
    last = next((n for n in range(frame - 1, -1, -1) if alone[n]), 0)
    return [last, *(n for n in range(last + 1, frame) if naming[n])]


def _spoken(name: str) -> list[str]:
    """The words of a name that a sentence would use: the capitalised ones, or else the last ("the little fox")."""
    words = _WORD.findall(name)
    return [word for word in words if word[0].isupper()] or words[-1:]


def _names(sentence: str, names: frozenset[str]) -> bool:
    return any(_stem(word) in names for word in _WORD.findall(sentence))


def _stem(word: str) -> str:
    """Without the possessive: Poppy's is Poppy."""
    return re.sub(r"['’]s?$", "", word)
