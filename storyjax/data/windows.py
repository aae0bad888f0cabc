"""Sliding windows over stories of any length, as StoryGen's second stage trains: three references and the frame to draw.

A story of n frames has n - length + 1 windows (none where it is shorter). They are a view: nothing is stored or kept twice,
and a window decodes its own pictures only.
"""

import bisect
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from storyjax.data.source import StorySource, StoryTable
from storyjax.errors import StoryjaxError


class Windows(StorySource):
    """Every run of `length` consecutive frames of the stories of `source` as a story of its own; story by story, in order.

    Ids are "<story>[3:7]", counted from 0. A decoded window also has `figures` (F, H, W) where the source has them.

    Errors: a length below 1, or no story that is long enough.
    """

    def __init__(self, source: StorySource, length: int = 4):
        if length < 1:
            raise StoryjaxError(f"windows must have at least 1 frame, got {length}")
        self.source, self.frames, self.given = source, length, length - 1
        counts = [max(0, n - length + 1) for n in source.lengths]
        self._starts = list(itertools.accumulate(counts, initial=0))
        if not self._starts[-1]:
            raise StoryjaxError(
                f"{source.name}, split '{source.split}': no story has {length} frames, the longest has "
                f"{max(source.lengths, default=0)}; ask for shorter windows"
            )
        self.name, self.split, self.labels, self.size = source.name, source.split, source.labels, source.size
        self.table = self._cut_table()

    def place(self, index: int) -> tuple[int, range]:
        """The story of `source` and its frames that window `index` shows."""
        story = bisect.bisect_right(self._starts, index) - 1
        start = index - self._starts[story]
        return story, range(start, start + self.frames)

    def images(self, index: int) -> np.ndarray:
        return self.source.some_images(*self.place(index))

    def figures(self, index: int) -> np.ndarray | None:
        """The figure masks of a window, (F, H, W) uint8; None where the source has none."""
        return self.source.some_figures(*self.place(index))

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]
        figures = self.figures(index)
        return super().__getitem__(index) | ({} if figures is None else {"figures": figures})

    @property
    def fields(self) -> tuple[str, ...]:
        return (*super().fields, "figures")

    def arrays(
        self, index: int, fields: Sequence[str], rng: np.random.Generator | None = None
    ) -> dict[str, np.ndarray]:
        found = super().arrays(index, [name for name in fields if name != "figures"], rng)
        if "figures" in fields:
            figures = self.figures(index)
            if figures is None:
                raise StoryjaxError(f"{self.table.ids[index]} of {self.name} has no figure masks; leave `figures` out")
            found["figures"] = figures
        return found

    def fingerprint(self) -> dict[str, Any]:
        return self.source.fingerprint() | {"windows": self.frames, "stories": len(self)}

    def _cut_table(self) -> StoryTable:
        table, places = self.source.table, [self.place(index) for index in range(self._starts[-1])]

        def cut(values: Any) -> list[Any]:
            return [values[story][frames.start : frames.stop] for story, frames in places]

        return StoryTable(
            [f"{table.ids[story]}[{frames.start}:{frames.stop}]" for story, frames in places],
            [table.titles[story] for story, _ in places],
            cut(table.sentences),
            {name: np.stack(cut(values)) for name, values in table.truth.items()},
            {name: cut(values) for name, values in table.texts.items()},
        )


def references_and_target(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Windows (..., F, H, W, 3) uint8 as StoryGen feeds its autoencoder: references (..., F - 1, H, W, 3), target (..., H, W, 3).

    float32; the target is in -1..1, and the references stay in 0..1: the released loader means to map them, too, but does not, and
    the released weights were trained so.
    """
    share = images.astype(np.float32) / np.float32(255)
    return share[..., :-1, :, :, :], share[..., -1, :, :, :] * 2 - 1


def loss_mask(figures: np.ndarray) -> np.ndarray:
    """Masks of windows (..., F, H, W) uint8 to that of the target, (..., H, W) float32 in 0..1, not made binary."""
    return figures[..., -1, :, :].astype(np.float32) / np.float32(255)
