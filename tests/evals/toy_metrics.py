"""Metrics whose numbers can be worked out by hand, of the kinds that there are, and a world of pictures for them."""

from typing import Any

import numpy as np

from storyjax.data.labels import Labels
from storyjax.data.source import StorySource, StoryTable
from storyjax.evals.metric import MeanMetric, StoryMetric

FRAMES, SIZE = 3, 6


class Brightness(MeanMetric):
    """Mean brightness of the generated frames, 0 to 1."""

    name, title, better = "brightness", "Brightness", "higher"
    about: Any = None  # said by each

    def __init__(self):
        self.measured: list[str] = []
        self.about = {"scale": 255}

    @classmethod
    def open(cls):
        return cls()

    def measure(self, stories):
        self.measured += [story.story_id for story in stories]
        return [{"values": s.generated[s.given :].mean(axis=(1, 2, 3), dtype=np.float64) / 255} for s in stories]


class Distance(MeanMetric):
    """Mean absolute difference of a generated and a real frame: needs pairs."""

    name, title, better = "distance", "Distance", "lower"
    about: Any = None  # said by each
    needs = frozenset({"real"})

    def __init__(self, power: float = 1):
        self.about = {"power": power}

    @classmethod
    def open(cls, power: float = 1):
        return cls(power)

    def measure(self, stories):
        gaps = [np.abs(s.generated[s.given :].astype(float) - s.real[s.given :]) for s in stories]
        return [{"values": gap.mean(axis=(1, 2, 3))} for gap in gaps]


class Sets(StoryMetric):
    """Distance of the mean colours of two sets, as Frechet distances compare sets."""

    name, title, better = "sets", "Sets", "lower"
    about: Any = None  # said by each
    needs = frozenset({"real"})
    real_apart, resamples, method = True, 50, "basic"

    def __init__(self):
        self.real_seen = 0
        self.about = {"features": "mean colour"}

    @classmethod
    def open(cls):
        return cls()

    def measure(self, stories):
        found = []
        for story in stories:
            evidence = {"generated": colours(story.generated[story.given :])}
            if story.real is not None:
                self.real_seen += 1
                evidence["real"] = colours(story.real[story.given :])
            found.append(evidence)
        return found

    def score(self, evidence):
        generated, real = (np.concatenate([each[side] for each in evidence]) for side in ("generated", "real"))
        return float(np.linalg.norm(generated.mean(0, dtype=np.float64) - real.mean(0, dtype=np.float64)))


class Needy(Brightness):
    """Cannot be opened without being told with what."""

    @classmethod
    def open(cls, *, classifier: str):
        raise AssertionError(classifier)


def colours(frames: np.ndarray) -> np.ndarray:
    return frames.mean(axis=(1, 2)).astype(np.float32)


PLACES = {f"{cls.name}": f"tests.evals.toy_metrics:{cls.__name__}" for cls in (Brightness, Distance, Sets)}


class Plain(StorySource):
    """`count` stories of noise pictures; names of pictures as a video's clips have them: story i shows clips i, i + 1, i + 2."""

    def __init__(self, count: int = 40, *, given: int = 0, size: int = SIZE, seed: int = 0):
        self.name, self.split, self.labels, self.frames, self.size = "plain", "test", Labels(), FRAMES, (size, size)
        self.given, self.seed = given, seed
        sentences = [[f"story {i} frame {f}" for f in range(FRAMES)] for i in range(count)]
        truth = {"characters": np.ones((count, FRAMES, 2), np.uint8)}
        self.table = StoryTable([f"id-{i}" for i in range(count)], [""] * count, sentences, truth)

    def images(self, index: int) -> np.ndarray:
        return noise(FRAMES, self.size[0], self.seed, index)

    def picture_names(self, index: int) -> list[str]:
        return [f"ep1/{index + frame}" for frame in range(FRAMES)]

    def fingerprint(self) -> dict[str, Any]:
        return {
            "dataset": self.name,
            "split": self.split,
            "stories": len(self),
            "size": list(self.size),
            "content": str(self.seed),
        }


def noise(frames: int, size: int, *seeds: int) -> np.ndarray:
    """uint8 (F, size, size, 3), a function of the seeds."""
    return np.random.default_rng(seeds).integers(0, 256, (frames, size, size, 3)).astype(np.uint8)


def generated(story: int, size: int = SIZE) -> np.ndarray:
    """What a model would have drawn for a story."""
    return noise(FRAMES, size, 77, story)
