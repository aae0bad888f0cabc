"""The frames of stories that a metric counts, checked, and one call of a network over all of them."""

from collections.abc import Callable, Sequence

import numpy as np

from storyjax.errors import StoryjaxError
from storyjax.evals.metric import StoryFrames


def counted(story: StoryFrames, *, sentences: bool = False, real: bool = False) -> range:
    """Numbers of the frames that count: those behind the given ones. Errors: frames, sentences and real frames that do not pair."""
    frames = len(story.generated)
    if sentences and len(story.sentences) != frames:
        raise StoryjaxError(
            f"story '{story.story_id}': expected one sentence a frame, got {len(story.sentences)} for {frames} frames"
        )
    if real and story.real is None:
        raise StoryjaxError(f"story '{story.story_id}' has no real frames to compare with; take data that has them")
    if real and story.real is not None and len(story.real) != frames:
        raise StoryjaxError(
            f"story '{story.story_id}': expected as many generated frames as real ones, got {frames} and {len(story.real)}"
        )
    return range(story.given, frames)


def by_story(items: Sequence[Sequence | np.ndarray], run: Callable[[list], np.ndarray]) -> list[np.ndarray]:
    """`run` over the items of all stories at once, its rows given back story by story."""
    rows = run([item for story in items for item in story])
    ends = np.cumsum([len(story) for story in items])
    return np.split(rows, ends[:-1]) if len(items) else []
