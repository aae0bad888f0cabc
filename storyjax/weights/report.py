"""What happened to every tensor of a checkpoint: one report, and one error that lists everything that went wrong."""

import dataclasses
import textwrap
from collections.abc import Iterable

from storyjax.errors import StoryjaxError

WIDTH = 118


@dataclasses.dataclass
class Report:
    """The fate of every tensor. Names are PyTorch names; native paths are dotted."""

    source: str = "the checkpoint"
    placed: dict[str, str] = dataclasses.field(default_factory=dict)  # name -> path
    dead: list[str] = dataclasses.field(default_factory=list)  # dropped: they never influence an output
    allowed: list[str] = dataclasses.field(default_factory=list)  # unused, and allowed to be
    missing: list[str] = dataclasses.field(default_factory=list)  # "name (path)" that the model needs
    unused: list[str] = dataclasses.field(default_factory=list)
    wrong_shape: list[str] = dataclasses.field(default_factory=list)  # "name: expected ..., got ..."
    ambiguous: list[str] = dataclasses.field(default_factory=list)  # "name: rule and rule"
    duplicates: list[str] = dataclasses.field(default_factory=list)  # "path: name and name"

    @property
    def complete(self) -> bool:
        """Whether every parameter was filled, by exactly one tensor of its shape, and no tensor was left over."""
        return not (self.missing or self.unused or self.wrong_shape or self.ambiguous or self.duplicates)

    def require_complete(self) -> None:
        """Raise one StoryjaxError that lists every problem, unless there is none."""
        if not self.complete:
            raise StoryjaxError(self.text())

    def text(self) -> str:
        """Counts in one line, then every problem, grouped and sorted."""
        wrong = [
            ("missing (the model needs them, the checkpoint lacks them)", self.missing, True),
            ("unused (no place in this model; allow by pattern with allow_unused)", self.unused, True),
            ("wrong shape (shapes in PyTorch's layout)", self.wrong_shape, False),
            ("matched by more than one rule", self.ambiguous, False),
            ("several tensors for one place", self.duplicates, False),
        ]
        dropped = f", {len(self.dead)} dead tensors dropped" if self.dead else ""
        dropped += f", {len(self.allowed)} unused as allowed" if self.allowed else ""
        counts = ", ".join(f"{len(names)} {title.split(' (')[0]}" for title, names, _ in wrong if names)
        head = f"{self.source}: {len(self.placed)} tensors placed{dropped}"
        lines = [f"{head}, but {counts}" if counts else head]
        return "\n".join(lines + [listing(title, names, wrap) for title, names, wrap in wrong if names])


def listing(title: str, names: Iterable[str], wrap: bool = True) -> str:
    """A titled, sorted list of names, wrapped into lines or one a line."""
    names = sorted(names)
    body = ", ".join(names) if wrap else "\n".join(names)
    lines = [
        textwrap.fill(line, WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
        for line in body.splitlines()
    ]
    return "\n".join([f"  {title}: {len(names)}", *lines])
