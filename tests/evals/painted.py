"""A world whose frames say their labels in their first pixels, and a recogniser that reads them there."""

from typing import Any

import numpy as np

from storyjax.data.labels import Labels
from storyjax.data.source import StorySource, StoryTable
from storyjax.evals.networks.recogniser import KINDS, Reading, Recogniser, RecogniserConfig

LABELS = Labels(("Ann", "Bob", "Cid"), ("hill", "lake"), ("sun", "rain"), ("run", "sit", "nap"))
SIZE, FRAMES = 8, 2


def paint(truth: dict[str, np.ndarray]) -> np.ndarray:
    """characters (..., K), place, weather, action (...) -> frames (..., SIZE, SIZE, 3) uint8."""
    images = np.zeros((*truth["place"].shape, SIZE, SIZE, 3), np.uint8)
    images[..., 0, : len(LABELS.characters), 0] = truth["characters"]
    for row, kind in enumerate(KINDS[1:], start=1):
        images[..., row, 0, 0] = truth[kind]
    return images


class PaintedSource(StorySource):
    """`count` stories of random labels."""

    def __init__(self, count: int, labels: Labels = LABELS, without: tuple[str, ...] = ()):
        self.name, self.split, self.labels, self.frames, self.size = "painted", "test", labels, FRAMES, (SIZE, SIZE)
        random = np.random.default_rng(0)
        shape = (count, FRAMES)
        truth: dict[str, Any] = {"characters": random.integers(0, 2, (*shape, 3)).astype(np.uint8)}
        truth |= {kind: random.integers(0, len(getattr(LABELS, kind)), shape).astype(np.int32) for kind in KINDS[1:]}
        truth |= {flag: random.integers(0, 2, shape).astype(bool) for flag in ("names_characters", "names_place")}
        sentences = [[f"story {i} frame {f}" for f in range(FRAMES)] for i in range(count)]
        truth = {name: value for name, value in truth.items() if name not in without}
        self.table = StoryTable([f"id-{i}" for i in range(count)], [""] * count, sentences, truth)

    def images(self, index: int) -> np.ndarray:
        return paint({kind: self.table.truth[kind][index] for kind in KINDS})

    def fingerprint(self) -> dict[str, Any]:
        return {"stories": len(self)}


class PixelReader(Recogniser):
    """Reads what `paint` wrote."""

    def __init__(self, content_hash: str = "abc"):
        super().__init__(RecogniserConfig(LABELS, SIZE, 4, (8,), 8), {}, name="pixels", content_hash=content_hash)

    def read(self, images: np.ndarray) -> Reading:
        rows = {kind: images[:, row, 0, 0].astype(np.int32) for row, kind in enumerate(KINDS[1:], start=1)}
        return Reading(characters=images[:, 0, : len(LABELS.characters), 0] > 0, **rows)
