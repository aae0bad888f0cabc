"""May a recogniser be trusted on frames that are softer than drawn ones? Its scores on real frames, mildly spoiled.

Generated frames come out of a decoder: slightly blurred, with less fine detail and some noise. A recogniser that keeps its
scores on real frames spoiled in such ways is unlikely to blame a model for the decoder's softness.
"""

import functools
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from storyjax.data.source import StorySource
from storyjax.evals.metrics.recogniser_metric import RecogniserMetric
from storyjax.evals.networks.recogniser import Recogniser
from storyjax.evals.sources.generated import InMemory
from storyjax.evals.story_evaluator import StoryEvaluator


def jpeg(picture: Image.Image) -> Image.Image:
    """Written at JPEG quality 50 and read again."""
    page = io.BytesIO()
    picture.save(page, "JPEG", quality=50)
    return Image.open(page)


def blurred(picture: Image.Image, deviation: float = 1.5) -> Image.Image:
    """Gaussian blur with a standard deviation in pixels."""
    return picture.filter(ImageFilter.GaussianBlur(deviation))


def shrunk(picture: Image.Image, times: int = 2) -> Image.Image:
    """Scaled down and back: what is finer than `times` pixels is gone."""
    small = picture.resize((picture.width // times, picture.height // times), Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.BICUBIC)


def noisy(picture: Image.Image) -> Image.Image:
    """Gaussian noise with a standard deviation of 8 of 255 on every value, the same for every picture."""
    noise = np.random.default_rng(0).normal(0, 8, (picture.height, picture.width, 3))
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))


SPOILERS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg quality 50": jpeg,
    "blur 1.5 px": blurred,
    "blur 3 px": functools.partial(blurred, deviation=3.0),
    "half size and back": shrunk,
    "quarter size and back": functools.partial(shrunk, times=4),
    "noise 8/255": noisy,
}


def robustness(
    source: StorySource, recogniser: Recogniser, stories: int | None = None, *, progress: bool = False
) -> dict[str, dict[str, float]]:
    """How the frames were spoiled -> the main scores of the first `stories` stories' real frames read like that."""
    evaluator = StoryEvaluator(source, {"recogniser": RecogniserMetric(recogniser)}, stories)
    return {name: evaluator.run(spoiled(source, spoil), progress=progress).scores() for name, spoil in SPOILERS.items()}


def spoiled(source: StorySource, spoil: Callable[[Image.Image], Image.Image]) -> InMemory:
    """The real frames of the source, story by story, (F, H, W, 3) uint8, each changed by `spoil`."""

    def frames(story: int) -> np.ndarray:
        return np.stack([np.asarray(spoil(Image.fromarray(frame)), np.uint8) for frame in source.images(story)])

    return InMemory(frames, source.frames)
