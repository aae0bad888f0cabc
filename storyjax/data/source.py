"""What a story source is: random access to stories, with everything but the pictures held in memory.

A source is what grain calls a random-access data source: it has a length and items. Sentences and truth of 20,000
stories are a few megabytes, so they are read once; pictures are decoded only where a caller asks for them.
"""

import abc
import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from storyjax.data.images import Size
from storyjax.data.labels import Labels
from storyjax.errors import StoryjaxError


@dataclasses.dataclass(frozen=True)
class StoryTable:
    """All stories without their pictures.

    `truth` holds, where the data has them: `characters` (N, F, K) uint8 multi-hot; `place`, `weather`, `action` (N, F)
    int32, -1 where unknown; `names_characters`, `names_place` (N, F) bool: does the sentence say it by name.
    """

    ids: list[str]
    titles: list[str]
    sentences: list[list[str]]
    truth: dict[str, np.ndarray]
    texts: dict[str, list[list[str]]] = dataclasses.field(
        default_factory=dict
    )  # further texts of frames, such as `setting`


class StorySource(abc.ABC):
    """Stories by position: `len(source)`, `source[i]`; N stories of F frames of H x W pixels.

    Attributes: `name`, `split`, `table`, `labels` (names behind the numbers), `frames` (F), `size` (H, W), `given` (how many
    first frames a model is given rather than asked for: 1 in story continuation), `has_strips` (a frame has several pictures).
    """

    name: str
    split: str
    table: StoryTable
    labels: Labels
    frames: int
    size: Size
    given: int = 0
    has_strips: bool = False

    @abc.abstractmethod
    def images(self, index: int) -> np.ndarray:
        """The pictures of one story, (F, H, W, 3) uint8; where a frame has several, always the same one."""

    @property
    def lengths(self) -> list[int]:
        """The frames of each story; all F, but for a source that keeps stories of several lengths for `Windows`."""
        return [len(story) for story in self.table.sentences]

    def some_images(self, index: int, frames: range) -> np.ndarray:
        """The pictures of some frames of one story, (len(frames), H, W, 3) uint8."""
        return self.images(index)[frames.start : frames.stop]

    def some_figures(self, index: int, frames: range) -> np.ndarray | None:
        """The figure masks of some frames of one story, (len(frames), H, W) uint8; None where there are none."""
        return None

    def random_images(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """As `images`, but where a frame has several pictures, one that `rng` draws."""
        return self.images(index)

    @abc.abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """What the arrays of this source depend on, as JSON values: name, counts, sizes and a hash of the content."""

    def length(self, index: int) -> int:
        """How many frames a story has: F, unless the source gives stories of any length."""
        return len(self.table.sentences[index])

    def picture_names(self, index: int) -> list[str] | None:
        """What the frames' own files are called in the data as released, without endings; None where that is not kept."""
        names = getattr(self.table, "texts", {}).get("frame_id")
        return None if names is None else names[index]

    @property
    def fields(self) -> tuple[str, ...]:
        """Names that `arrays` knows."""
        return ("images", *self.table.truth)

    def arrays(
        self, index: int, fields: Sequence[str], rng: np.random.Generator | None = None
    ) -> dict[str, np.ndarray]:
        """The named fields of one story, and nothing else: pictures are decoded only when `images` is asked for.

        With `rng`, pictures are those of `random_images`.
        """
        found = {name: self.table.truth[name][index] for name in fields if name != "images"}
        if "images" in fields:
            found["images"] = self.images(index) if rng is None else self.random_images(index, rng)
        return found

    def sentences(self, index: int) -> list[str]:
        """The F sentences of one story."""
        return self.table.sentences[index]

    def all_sentences(self) -> list[str]:
        """The N*F sentences of all stories, story by story."""
        return [sentence for story in self.table.sentences for sentence in story]

    def __len__(self) -> int:
        return len(self.table.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One decoded story: `story_id`, `title`, `sentences`, `images` (F, H, W, 3) uint8, further texts, and its truth."""
        index = range(len(self))[index]  # negative positions and IndexError as a list has them
        story = {"story_id": self.table.ids[index], "title": self.table.titles[index]}
        truth = {name: values[index] for name, values in self.table.truth.items()}
        texts = {name: values[index] for name, values in self.table.texts.items()}
        return story | {"sentences": self.sentences(index), "images": self.images(index)} | texts | truth

    def __repr__(self) -> str:
        height, width = self.size
        return f"{type(self).__name__}({self.name!r}, {self.split!r}: {len(self)} stories of {self.frames} {height}x{width} frames)"


def settle_frames(where: str, stories: Sequence[str], counts: Sequence[int], frames: int | None) -> int:
    """The number F of frames that every story gives: all the same, or the first `frames` of each.

    `stories` are what to call them in errors: no stories; a story without frames; different counts and no `frames`; a
    story with fewer than `frames`.
    """
    if not stories:
        raise StoryjaxError(f"{where} has no stories; expected at least one")
    empty = [name for name, count in zip(stories, counts) if count == 0]
    if empty:
        raise StoryjaxError(f"{where}: {_first(empty)} has no frames; give at least one frame or remove the story")
    if frames is None:
        (usual, _), *others = collections.Counter(counts).most_common()
        if others:
            odd = [f"{name} has {count}" for name, count in zip(stories, counts) if count != usual]
            raise StoryjaxError(
                f"{where}: stories of different length: most have {usual} frames, but {_first(odd)}; pass "
                f"frames={min(counts)} to use the first {min(counts)} of each, or mend these stories"
            )
        return usual
    if frames < 1:
        raise StoryjaxError(f"{where}: expected frames of at least 1, got {frames}")
    short = [f"{name} has {count}" for name, count in zip(stories, counts) if count < frames]
    if short:
        raise StoryjaxError(
            f"{where}: {frames} frames asked for, but {_first(short)}; ask for fewer or remove the story"
        )
    return frames


def _first(parts: Sequence[str], most: int = 5) -> str:
    more = f" and {len(parts) - most} more" if len(parts) > most else ""
    return ", ".join(parts[:most]) + more
