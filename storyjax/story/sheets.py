"""A long story goes onto several sheets, about equally full, each with its number behind the title."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from storyjax.story.story import Story


def sheets_of(
    story: Story, images: np.ndarray | Sequence[np.ndarray], most: int
) -> list[tuple[Story, np.ndarray | Sequence[np.ndarray]]]:
    """Parts of the story of at most `most` frames with their pictures (F,H,W,3); the story itself where that is enough."""
    count = math.ceil(len(story.frames) / most)
    if count == 1:
        return [(story, images)]
    bounds = [part * len(story.frames) // count for part in range(count + 1)]
    return [
        (_sheet(story, start, stop, f"{number} of {count}"), images[start:stop])
        for number, (start, stop) in enumerate(itertools.pairwise(bounds), 1)
    ]


def sheet_name(name: str, number: int) -> str:
    """The file of sheet `number`, counted from 1: strip.png, strip-2.png, ..."""
    path = PurePath(name)
    return name if number == 1 else f"{path.stem}-{number}{path.suffix}"


def _sheet(story: Story, start: int, stop: int, number: str) -> Story:
    title = f"{story.title} ({number})" if story.title else number
    return dataclasses.replace(story, frames=story.frames[start:stop], title=title)
