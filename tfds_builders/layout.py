"""How the files of a published data set lie on disk: what each builder knows of its owners' tree, without TFDS.

A layout is plain Python that can be pickled, so that the same reading code serves one process, several, and Apache Beam.
"""

import abc
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

Key = Any  # names one story of a split; picklable and small


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that `storyjax data check` says about a tree.

    missing: a build cannot start. broken: these stories cannot be built (left out only when asked to). note: worth knowing.
    """

    kind: Literal["missing", "broken", "note"]
    what: str


class LayoutError(ValueError):
    """The tree as a whole cannot be read: what was expected, what is there, what to do."""


class BrokenStory(ValueError):
    """One story cannot be built; its text names the file and what is wrong with it."""


class Layout(abc.ABC):
    """The tree of one data set below `folder`, as its owners distribute it.

    Args:
        folder: the user's copy (`manual_dir`).
        variant: name of the builder's configuration, for layouts that read different files for different ones.
    """

    data_set: ClassVar[str]
    published: ClassVar[Mapping[str, int]] = {}  # stories of each split as the papers count them
    chunk: int = 16  # stories that a reading process takes at a time; fewer where their pictures are large

    def __init__(self, folder: str | Path, variant: str | None = None):
        self.folder, self.variant = Path(folder), variant

    @classmethod
    @abc.abstractmethod
    def recognises(cls, folder: Path) -> bool:
        """Whether this looks like a (perhaps incomplete) tree of this data set: a few names, nothing is opened."""

    @abc.abstractmethod
    def check(self, *, pictures: bool = False) -> Iterator[Finding]:
        """What is missing or broken, from names and indices alone; with `pictures` every picture is decoded, too."""

    @abc.abstractmethod
    def splits(self) -> Mapping[str, Sequence[Key]]:
        """The stories of each split in the order they are written. Errors: LayoutError."""

    @abc.abstractmethod
    def story(self, key: Key) -> dict[str, Any]:
        """The record of one story as the builder's features take it; pictures as encoded bytes. Errors: BrokenStory."""
