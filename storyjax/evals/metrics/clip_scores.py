"""Scores by CLIP: CLIP-T, CLIP-I and PickScore, as StoryGen's scripts compute them (Liu et al. 2024, evaluation/)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from storyjax.evals.metric import Evidence, MeanMetric, StoryFrames
from storyjax.evals.metrics.frames import by_story, counted
from storyjax.evals.networks.clip_network import PICK_SCORE, VIT_B32, ClipNetwork, cosine


class _ClipMetric(MeanMetric):
    """What the three share: one network, one value a frame."""

    better = "higher"

    def __init__(self, network: ClipNetwork):
        self.network = network

    @property
    def about(self) -> dict[str, Any]:
        return self.network.about

    @classmethod
    def open(cls, *, model: str | Path = VIT_B32.name, batch: int = 16) -> "_ClipMetric":
        """model: OpenAI's ViT-B/32 on the hub, or a folder with it. Error: it is not here and cannot be fetched."""
        return cls(ClipNetwork.open(model, published=VIT_B32.name, what=cls.title, batch=batch))

    def generated(self, stories: Sequence[StoryFrames], frames: Sequence[range]) -> list[np.ndarray]:
        """Vectors of the frames that count, (n, P) a story."""
        return by_story([story.generated[list(n)] for story, n in zip(stories, frames)], self.network.images)


class ClipT(_ClipMetric):
    """Mean cosine of a frame and its sentence (CLIP-T, CLIPScore without its factor)."""

    name: ClassVar[str] = "clip_t"
    title: ClassVar[str] = "CLIP-T"

    def measure(self, stories: Sequence[StoryFrames]) -> list[Evidence]:
        """{"values": (n,) float64}, n frames that count."""
        frames = [counted(story, sentences=True) for story in stories]
        said = [[story.sentences[i] for i in n] for story, n in zip(stories, frames)]
        texts = by_story(said, lambda sentences: self.network.texts(self.network.tokens(sentences)))
        return [{"values": self.value(a, b)} for a, b in zip(self.generated(stories, frames), texts)]

    def value(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """(n,) of vectors (n, P)."""
        return cosine(images, texts)


class PickScore(ClipT):
    """Mean exp(logit_scale) cos(frame, sentence) by a CLIP trained on people's choices (Kirstain et al. 2023)."""

    name: ClassVar[str] = "pick_score"
    title: ClassVar[str] = "PickScore"

    @classmethod
    def open(cls, *, model: str | Path = PICK_SCORE.name, batch: int = 8) -> "PickScore":
        """model: PickScore_v1 on the hub, or a folder with it. Error: it is not here and cannot be fetched."""
        return cls(
            ClipNetwork.open(
                model,
                published=PICK_SCORE.name,
                processor=PICK_SCORE.processor,
                what=cls.title,
                corner="floor",
                batch=batch,
            )
        )

    def value(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        return np.exp(np.float64(self.network.logit_scale)) * cosine(images, texts)


class ClipI(_ClipMetric):
    """Mean cosine of a generated frame and the real frame in its place (CLIP-I)."""

    name: ClassVar[str] = "clip_i"
    title: ClassVar[str] = "CLIP-I"
    needs = frozenset({"real"})

    def measure(self, stories: Sequence[StoryFrames]) -> list[Evidence]:
        """{"values": (n,) float64}, n frames that count."""
        frames = [counted(story, real=True) for story in stories]
        real = [np.asarray(story.real)[list(n)] for story, n in zip(stories, frames)]
        pairs = zip(self.generated(stories, frames), by_story(real, self.network.images))
        return [{"values": cosine(a, b)} for a, b in pairs]
