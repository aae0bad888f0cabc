"""Generated stories as an evaluation sees them: frames by the story's number, from memory or a folder (`picture_folders.py`)."""

import abc
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from storyjax.data.source import StorySource
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Box


class Pictures(abc.ABC):
    """The generated frames of the stories of a split.

    `about`: what they are, as JSON values, for the result's record.
    """

    about: dict[str, Any]

    @abc.abstractmethod
    def frames(self, story: int) -> np.ndarray:
        """uint8 (F, H, W, 3); of the frames that `shown` names, where that is not None."""

    @abc.abstractmethod
    def digest(self, story: int) -> str:
        """What tells these pictures from others, found without decoding them where possible."""

    def has(self, story: int) -> bool:
        """Whether there are pictures of this story."""
        del story
        return True

    def shown(self, story: int) -> Sequence[int] | None:
        """Which frames of the story there are pictures of; None: all."""
        del story

    def boxes(self, story: int) -> Sequence[Sequence[Box]] | None:
        """Where someone or something is, a list for each of `frames`; None: nobody says."""
        del story


class InMemory(Pictures):
    """Stories that are made when they are asked for, in ascending order; the last one is remembered."""

    def __init__(self, make: Callable[[int], np.ndarray], frames: int, about: dict[str, Any] | None = None):
        """make: story number -> uint8 (F, H, W, 3). frames: F."""
        self.about, self._make, self._count = about or {"kind": "frames in memory"}, make, frames
        self._last: tuple[int, np.ndarray] | None = None

    @classmethod
    def of(cls, stories: Iterable[np.ndarray], frames: int) -> "InMemory":
        """Of frames (F, H, W, 3) in the order of the source, each taken once. Error: fewer of them than stories."""
        iterator, position = iter(stories), 0

        def take(story: int) -> np.ndarray:
            nonlocal position
            for images in iterator:
                position += 1
                if position > story:
                    return np.asarray(images)
            raise StoryjaxError(
                f"expected the frames of story {story}, but the given frames ended after {position} stories"
            )

        return cls(take, frames)

    @classmethod
    def real(cls, source: StorySource) -> "InMemory":
        """The data's own frames: what a perfect model would draw."""
        return cls(source.images, source.frames, {"kind": "the data's own frames"})

    def frames(self, story: int) -> np.ndarray:
        if self._last is None or self._last[0] != story:
            images = np.asarray(self._make(story))
            check_frames(images, (self._count,))
            self._last = story, images
        return self._last[1]

    def digest(self, story: int) -> str:
        return hashlib.blake2b(np.ascontiguousarray(self.frames(story)).tobytes(), digest_size=16).hexdigest()


def in_batches(draw: Callable[[range], np.ndarray], count: int, batch_size: int) -> Iterator[np.ndarray]:
    """The stories one by one, of a function that draws some at once: numbers -> uint8 (B, F, H, W, 3)."""
    for start in range(0, count, batch_size):
        yield from draw(range(start, min(start + batch_size, count)))


def check_frames(images: np.ndarray, lead: tuple[int, ...]) -> None:
    """Errors about dtype and number of frames; `lead` is the shape before (H, W, 3)."""
    if images.dtype != np.uint8 or images.ndim != len(lead) + 3 or images.shape[: len(lead)] != lead:
        expected = ", ".join(str(n) for n in lead)
        raise StoryjaxError(
            f"expected generated frames as uint8 ({expected}, H, W, 3), got {images.dtype} {images.shape}"
        )
