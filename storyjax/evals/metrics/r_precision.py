"""R-precision: is a frame nearer to its own sentence than to 99 others? (Xu et al. 2018, section 4; Maharana et al. 2021
for stories.)

Both papers look with a DAMSM trained on the data set. There is none to load, so CLIP ViT-B/32 takes its place: the numbers
order models, and are not those of the papers.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Evidence, Interval, MeanMetric, StoryFrames
from storyjax.evals.metrics.frames import by_story, counted
from storyjax.evals.networks.clip_network import VIT_B32, ClipNetwork

Level = Literal["frame", "story"]
ROWS = 256  # queries whose similarities are held at once


class RPrecision(MeanMetric):
    """Share of frames whose nearest sentence among `candidates` is their own; the others are drawn from the other
    sentences of the set.

    Drawn without repetition from all different sentences, by `seed` and the sentence, `trials` times (StoryViz: 10), the mean of
    all. The same for any order of the stories. level "story": mean vectors of a story's frames and of its sentences instead, as in
    Maharana et al. 2021.
    """

    name: ClassVar[str] = "r_precision"
    title: ClassVar[str] = "R-precision"
    better = "higher"

    def __init__(
        self, network: ClipNetwork, *, candidates: int = 100, trials: int = 10, seed: int = 0, level: str = "frame"
    ):
        if level not in get_args(Level):
            raise StoryjaxError(f"R-precision: unknown level '{level}'{nearest(level, list(get_args(Level)))}")
        if candidates < 2 or trials < 1 or seed < 0:
            raise StoryjaxError(
                f"R-precision: expected at least 2 candidates, 1 trial and a seed from 0, got {candidates}, {trials}, {seed}"
            )
        self.network, self.candidates, self.trials, self.seed, self.level = network, candidates, trials, seed, level

    @classmethod
    def open(
        cls,
        *,
        model: str | Path = VIT_B32.name,
        candidates: int = 100,
        trials: int = 10,
        seed: int = 0,
        level: str = "frame",
        batch: int = 16,
    ) -> "RPrecision":
        """model: OpenAI's ViT-B/32 on the hub, or a folder with it. Error: it is not here and cannot be fetched."""
        network = ClipNetwork.open(model, published=VIT_B32.name, what=cls.title, batch=batch)
        return cls(network, candidates=candidates, trials=trials, seed=seed, level=level)

    @property
    def about(self) -> dict[str, Any]:
        return self.network.about | {
            "candidates": self.candidates,
            "trials": self.trials,
            "seed": self.seed,
            "level": self.level,
        }

    def measure(self, stories: Sequence[StoryFrames]) -> list[Evidence]:
        """{"images", "texts": (n, P) float32, "captions": (n,) uint64, a hash of the sentence as CLIP reads it}."""
        frames = [counted(story, sentences=True) for story in stories]
        tokens = [self.network.tokens([story.sentences[i] for i in n]) for story, n in zip(stories, frames)]
        images = by_story([story.generated[list(n)] for story, n in zip(stories, frames)], self.network.images)
        texts = by_story(tokens, lambda rows: self.network.texts(np.array(rows, np.int32)))
        return [
            {"images": a, "texts": b, "captions": np.array([_hash(row) for row in rows], np.uint64)}
            for a, b, rows in zip(images, texts, tokens)
        ]

    def score(self, evidence: Sequence[Evidence]) -> float:
        """Error: fewer different sentences than candidates."""
        return super().score(self.judged(evidence))

    def scores(self, evidence: Sequence[Evidence], draws: np.ndarray) -> np.ndarray:
        """As `interval`: of drawn stories, each with what was found among the sentences of all."""
        return super().scores(self.judged(evidence), draws)

    def interval(self, evidence: Sequence[Evidence], *, seed: int = 0, level: float = 0.95) -> Interval:
        """Stories are drawn, each with what was found among the sentences of all of them."""
        return super().interval(self.judged(evidence), seed=seed, level=level)

    def judged(self, evidence: Sequence[Evidence]) -> Sequence[Evidence]:
        """{"values"}: of each frame (or story) the share of trials in which its own sentence was the nearest."""
        if all("values" in each for each in evidence):
            return evidence
        rows = [_unit(each, whole=self.level == "story") for each in evidence]
        captions = np.concatenate([each["captions"] for each in rows])
        pool, first = np.unique(captions, return_index=True)
        if len(captions) and len(pool) < self.candidates:
            raise StoryjaxError(
                f"R-precision among {self.candidates} needs as many different sentences, these stories have {len(pool)}; "
                "take more stories, or fewer candidates"
            )
        texts = np.concatenate([each["texts"] for each in rows])[first]
        own = np.searchsorted(pool, captions)
        drawn = {int(n): self._others(pool, int(n)) for n in np.unique(own)}
        images = np.concatenate([each["images"] for each in rows])
        shares = []
        for start in range(0, len(images), ROWS):
            similar = images[start : start + ROWS] @ texts.T
            for row, n in zip(similar, own[start : start + ROWS]):
                shares.append((row[n] > row[drawn[int(n)]].max(axis=1)).mean())
        ends = np.cumsum([len(each["captions"]) for each in rows])[:-1]
        return [{"values": part} for part in np.split(np.array(shares, np.float64), ends)]

    def _others(self, pool: np.ndarray, own: int) -> np.ndarray:
        """(trials, candidates - 1) places in the pool, none of them `own`."""
        random = np.random.default_rng([self.seed, int(pool[own])])
        draws = [random.choice(len(pool) - 1, self.candidates - 1, replace=False) for _ in range(self.trials)]
        return np.array([draw + (draw >= own) for draw in draws])


def _hash(tokens: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(tokens).tobytes(), digest_size=8).digest(), "little")


def _unit(evidence: Evidence, *, whole: bool) -> Evidence:
    """Vectors of length 1 in float64, of a whole story one: the mean of its frames' and of its sentences'."""
    images, texts = (_normed(np.asarray(evidence[name], np.float64)) for name in ("images", "texts"))
    captions = np.asarray(evidence["captions"], np.uint64)
    if whole and len(captions):
        images, texts = (_normed(each.mean(axis=0, keepdims=True)) for each in (images, texts))
        captions = np.array([_hash(captions)], np.uint64)
    return {"images": images, "texts": texts, "captions": captions}


def _normed(rows: np.ndarray) -> np.ndarray:
    return rows / np.sqrt((rows * rows).sum(-1, keepdims=True))
