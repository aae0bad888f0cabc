"""How a story of any length is told to a network of F frames: which frames it draws together, and which sentences it reads.

"windows": all frames are denoised together, in overlapping windows (storyjax/diffusion/windows.py). "chain": F frames are drawn,
then F - 1 more that continue from the last of them, and so on.

Either way a network sees F sentences at a time, and the fortieth may only say "they". So each caption is contextualized once, among
the sentences that a reader would have to recall for it (storyjax/story/recall.py), and is used so wherever its frame is drawn.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from storyjax.config import nearest
from storyjax.diffusion.windows import Blend, Rows, Windows, default_overlap, make_rows, make_windows
from storyjax.errors import StoryjaxError
from storyjax.story.recall import recalled
from storyjax.story.story import Story

MOST_FRAMES = 1000

Method = Literal["windows", "chain"]
Captions = Literal["recalled", "window"]


@dataclasses.dataclass(frozen=True)
class LongStory:
    """How stories of more frames than the model has are drawn."""

    method: Method = "windows"
    """windows (denoised together), or chain (each F - 1 frames continue from the last picture)."""
    overlap: int | None = None
    """Frames that neighbouring windows share; None: as few as bring every frame but the ends into two windows."""
    anchors: int = 0
    """Earlier frames that each window sees besides its own: those that name who is in it, or else the nearest."""
    captions: Captions = "recalled"
    """Among which sentences a caption is contextualized: those to be recalled for it, or those of the window it is drawn in."""
    blend: Blend = "triangular"
    """Weights of overlapping predictions: triangular or uniform."""
    windows_at_once: int = 8
    """Windows that one device denoises at a time; memory grows with it, not with the story."""

    def __post_init__(self) -> None:
        for name, kind in (("method", Method), ("captions", Captions), ("blend", Blend)):
            value, known = getattr(self, name), list(get_args(kind))
            if value not in known:
                raise StoryjaxError(
                    f"a long story's {name} is {' or '.join(known)}, got '{value}'{nearest(str(value), known)}"
                )
        if self.anchors < 0 or self.windows_at_once < 1:
            raise StoryjaxError(
                f"expected anchors of at least 0 and windows_at_once of at least 1, got {self.anchors} and {self.windows_at_once}"
            )
        if self.method == "chain" and (self.overlap is not None or self.anchors):
            raise StoryjaxError(
                "parts of a chained story share one frame and have no anchors; leave overlap and anchors out, or use windows"
            )


class Reading(NamedTuple):
    """For every frame of B stories the F sentences among which its caption is contextualized, and its own place there."""

    sentences: Any  # (B, N, F) int32
    place: Any  # (B, N) int32


def windows_of(long: LongStory, story: Story, frames: int, pinned: bool) -> Windows:
    """The windows over a story of at least `frames` frames. pinned: every window begins with frame 0, a given picture.

    Errors: more anchors than leave two frames to draw, an overlap that does not fit.
    """
    anchors = max(long.anchors, int(pinned))
    if anchors > max(frames - 2, 0):
        raise StoryjaxError(
            f"this model draws {frames} frames together: it can have 0 to {max(frames - 2, 0)} anchors, got {anchors}"
        )
    own = frames - anchors
    overlap = default_overlap(own) if long.overlap is None else long.overlap
    seen = recalled(story.sentences, anchors, _cast(story)) if anchors else None
    if seen and pinned:
        seen = [_with_first(one) for one in seen]
    return make_windows(len(story.frames), frames, overlap, anchors=seen, blend=long.blend)


def rows_of(
    long: LongStory, stories: Sequence[Story], frames: int, pinned: bool, devices: int, branches: int
) -> tuple[Rows, int]:
    """The windows of all stories as rows, and how many of them are denoised at once on all devices together."""
    windows = [windows_of(long, story, frames, pinned) for story in stories]
    total = len(stories) * len(windows[0].frames)
    # Rows times branches divide over the devices; rows alone, too, where there are enough.
    step = devices if total >= devices else devices // math.gcd(devices, branches)
    chunks = math.ceil(total / (long.windows_at_once * devices))
    size = math.ceil(total / (chunks * step)) * step
    return make_rows(windows, size), size


def chain_of(count: int, frames: int) -> np.ndarray:
    """(S, F) int32: the frames of each part of a chain; beyond the end the last frame stands in.

    Error: a network of one frame, which nothing can follow.
    """
    if frames < 2:
        raise StoryjaxError("a model of 1 frame cannot continue from a picture; use the method 'windows'")
    begins = [0, *range(frames - 1, count - 1, frames - 1)]
    return np.minimum(np.add.outer(begins, np.arange(frames)), count - 1).astype(np.int32)


def reading_of(stories: Sequence[Story], frames: int) -> Reading:
    """What is recalled for every frame: the first F frames read each other; a later one reads F - 1 frames before it."""
    tables, places = [], []
    for story in stories:
        earlier = recalled(story.sentences, frames - 1, _cast(story))
        whole = list(range(frames))
        tables.append([whole if n < frames else [*earlier[n], n] for n in range(len(story.frames))])
        places.append([min(n, frames - 1) for n in range(len(story.frames))])
    return Reading(np.array(tables, np.int32), np.array(places, np.int32))


def filled(story: Story, frames: int) -> Story:
    """The story with its last sentence repeated until it has `frames` frames."""
    short = max(frames - len(story.frames), 0)
    last = dataclasses.replace(story.frames[-1], image=None)
    return dataclasses.replace(story, frames=(*story.frames, *[last] * short))


def check_count(story: Story) -> None:
    """Raise if the story has more frames than any is drawn with."""
    if len(story.frames) > MOST_FRAMES:
        raise StoryjaxError(
            f"the story has {len(story.frames):,} frames, at most {MOST_FRAMES:,} are drawn; leave some out, or tell it as two"
        )


def _cast(story: Story) -> list[str]:
    return [character.name for character in story.cast]


def _with_first(frames: list[int]) -> list[int]:
    """Frame 0 instead of the earliest, unless it is among them."""
    return frames if not frames or frames[0] == 0 else [0, *frames[1:]]
