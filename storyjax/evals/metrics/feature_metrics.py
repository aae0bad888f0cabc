"""What metrics of a network's features share: which frames count, many stories at once, the Fréchet distance, its interval."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Evidence, Interval, Need, StoryFrames, StoryMetric
from storyjax.evals.metrics.frechet import Resampled, frechet_distance

Network = Callable[[np.ndarray], np.ndarray]  # uint8 pictures or clips -> a row each, such as a FeatureNetwork


def generated_frames(story: StoryFrames) -> np.ndarray:
    """The generated frames that count, (n, H, W, 3) uint8: without those that were given to the model."""
    return _frames(story, story.generated, "generated")


def real_frames(story: StoryFrames) -> np.ndarray:
    """The data's frames that count: those of the same numbers."""
    if story.real is None:
        raise StoryjaxError(
            f"story '{story.story_id}' comes without its real frames, which this metric compares with; evaluate against a "
            "data set's split"
        )
    return _frames(story, story.real, "real")


def frame_pairs(story: StoryFrames, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Generated and real frames one by one. Errors: another number of them, or of another size."""
    generated, real = generated_frames(story), real_frames(story)
    if len(generated) != len(real):
        raise StoryjaxError(
            f"{metric} compares frame with frame, but story '{story.story_id}' has {len(generated)} generated and {len(real)} "
            "real frames; generate as many as the data has"
        )
    return generated, real


def _frames(story: StoryFrames, pictures: np.ndarray, which: str) -> np.ndarray:
    pictures = np.asarray(pictures)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3:
        raise StoryjaxError(
            f"story '{story.story_id}': expected its {which} frames as uint8 of shape (F, H, W, 3), got {pictures.dtype} "
            f"{pictures.shape}"
        )
    return pictures[story.given :]


def rows_of(network: Network, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`network` on each of these stacks (n_i, ...): what looks alike in shape goes through it together."""
    rows: list[np.ndarray | None] = [None] * len(pictures)
    shapes: dict[tuple[int, ...], list[int]] = {}
    for number, stack in enumerate(pictures):
        shapes.setdefault(stack.shape[1:], []).append(number)
    for numbers in shapes.values():
        found = network(np.concatenate([pictures[number] for number in numbers]))
        ends = np.cumsum([len(pictures[number]) for number in numbers])
        for number, part in zip(numbers, np.split(found, ends[:-1])):
            rows[number] = part
    return [row for row in rows if row is not None]


class FrechetMetric(StoryMetric):
    """Fréchet distance between features of the generated and of the real frames (or clips) of all stories.

    Evidence: {"generated": (n, D), "real": (m, D)} float32. The interval is of 100 draws of whole stories, mirrored around the
    value: stories drawn twice make both covariances look narrower, and the distance larger.
    """

    better = "lower"
    needs: ClassVar[frozenset[Need]] = frozenset({"real"})
    resamples = 100
    method = "basic"
    real_apart = True

    def __init__(self, network: Network, about: Mapping[str, Any]):
        self.network, self._about = network, dict(about)

    @property
    def about(self) -> dict[str, Any]:
        return dict(self._about)

    def looked_at(self, frames: np.ndarray, story: StoryFrames) -> np.ndarray:
        """What the network gets of a story's frames (n, H, W, 3): each by itself, unless a metric says otherwise."""
        return frames

    def measure(self, stories: Sequence[StoryFrames]) -> list[Evidence]:
        """Without "real" for stories that come without real frames: those are known already."""
        sides = {"generated": stories, "real": [story for story in stories if story.real is not None]}
        frames = {"generated": generated_frames, "real": real_frames}
        looked_at = [self.looked_at(frames[side](story), story) for side, told in sides.items() for story in told]
        rows = iter(rows_of(self.network, looked_at))
        found: list[Evidence] = [{"generated": next(rows)} for _ in stories]
        return [{**one, "real": next(rows)} if story.real is not None else one for one, story in zip(found, stories)]

    def score(self, evidence: Sequence[Evidence]) -> float:
        if not evidence:
            return float("nan")
        if any("real" not in each for each in evidence):
            raise StoryjaxError(
                f"{self.title} compares with real frames, which some stories come without; evaluate against a data set's split"
            )
        generated, real = (np.concatenate([each[name] for each in evidence]) for name in ("generated", "real"))
        if len(generated) != len(real):
            warnings.warn(
                f"{self.name}: {len(generated)} generated against {len(real)} real samples; that is allowed, but the number is "
                "comparable only with others of the same counts",
                stacklevel=2,
            )
        return frechet_distance(generated, real)

    def scores(self, evidence: Sequence[Evidence], draws: np.ndarray) -> np.ndarray:
        names = ("generated", "real")
        rows = {name: np.concatenate([each[name] for each in evidence]) for name in names}
        sizes = {name: [len(each[name]) for each in evidence] for name in names}
        again = Resampled(*rows.values())
        counts = [np.bincount(chosen, minlength=len(evidence)) for chosen in draws]
        return np.array([again.distance(*(np.repeat(each, sizes[name]) for name in names)) for each in counts])

    def interval(self, evidence: Sequence[Evidence], *, seed: int = 0, level: float = 0.95) -> Interval:
        stories = len(evidence)
        if stories < 2:
            return Interval(np.nan, np.nan, level, 0)
        drawn = self.scores(evidence, np.random.default_rng(seed).integers(stories, size=(self.resamples, stories)))
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        value = self.score(evidence)
        return Interval(float(2 * value - high), float(2 * value - low), level, self.resamples)
