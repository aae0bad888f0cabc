"""What the targets of a launch have in common: checks of names, and the protocol."""

import dataclasses
import re
from typing import Any, Protocol

from storyjax.errors import StoryjaxError
from storyjax.launch.plan import Plan
from storyjax.launch.training import Training

# RFC 1035, and short enough for what Kubernetes and XPK append to the names of pods and nodes.
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
# Zones, projects, image names, partitions: no space, no quote, nothing that a shell, YAML or #SBATCH would read.
_PLAIN = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._:@/#+&|*()\[\],=-]*")


class Target(Protocol):
    """A kind of cluster: a frozen dataclass whose fields are what `--on` sets."""

    def plan(self, training: Training, command: str) -> Plan:
        """What to run and the file it reads; `command` is what the user typed, and heads the file."""
        ...


def check_needed(target: Any, kind: str, **needed: str) -> None:
    """Error: fields that were not given; names all of them, each with an example."""
    missing = [f"{name}={example}" for name, example in needed.items() if not getattr(target, name)]
    if missing:
        raise StoryjaxError(
            f"{kind} needs {', '.join(name.partition('=')[0] for name in missing)}: --on {' '.join(missing)}"
        )


def check_name(name: str, what: str) -> None:
    """Error: a name that Google Cloud or Kubernetes would refuse."""
    if not _NAME.fullmatch(name):
        raise StoryjaxError(
            f"{what} '{name}': expected at most 40 small letters, digits and '-', a letter first and no '-' last; "
            f"such as '{_mended(name)}'"
        )


def check_plain(target: Any) -> None:
    """Error: a field with a character that no such name has, such as a space or a quote."""
    for field in dataclasses.fields(target):
        value = getattr(target, field.name)
        if isinstance(value, str) and value and not _PLAIN.fullmatch(value.removeprefix("/")):
            raise StoryjaxError(
                f"{field.name}={value!r}: expected a name without spaces, quotes and other signs of a shell"
            )


def check_positive(target: Any, *names: str) -> None:
    """Error: a number below one."""
    for name in names:
        if getattr(target, name) < 1:
            raise StoryjaxError(f"{name}={getattr(target, name)}: expected 1 or more")


def _mended(name: str) -> str:
    return re.sub(r"^[^a-z]+|[^a-z0-9]+$", "", re.sub(r"[^a-z0-9]+", "-", name.lower())[:40]) or "story"
