"""Fréchet distances of whole stories as short films: FSD (Song et al. 2020, CP-CSV) and FVD (Unterthiner et al. 2018)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import StoryFrames
from storyjax.evals.metrics.feature_metrics import FrechetMetric, Network
from storyjax.evals.networks import published_networks as networks


class FSD(FrechetMetric):
    """Fréchet story distance as CP-CSV computes it: R(2+1)D-18's 512 features of a story, which is one sample.

    Its code shows the network frames of 64x64 pixels in -1..1, neither enlarged to the 112 pixels nor normalised by the colours
    that the network was trained with. That is kept, because published numbers are made so; larger frames are averaged down to
    64 first, as CP-CSV's loader does. `fsd_corrected` shows the network what it expects.
    """

    name, title = "fsd", "FSD"

    @classmethod
    def open(cls, *, batch: int = 8) -> "FSD":
        """With the published weights; a missing file is an error that says where it is published."""
        return cls(networks.open_r2plus1d(networks.STORY_INPUT, batch=batch), _about(networks.STORY_INPUT))

    def looked_at(self, frames: np.ndarray, story: StoryFrames) -> np.ndarray:
        """One clip of all counted frames."""
        return _clip(frames, story)


class FSDCorrected(FSD):
    """The same with the input that the network was trained on: 112x112 pixels, Kinetics' mean and deviation."""

    name, title = "fsd_corrected", "FSD (corrected input)"

    @classmethod
    def open(cls, *, batch: int = 8) -> "FSDCorrected":
        """With the published weights."""
        return cls(networks.open_r2plus1d(networks.KINETICS_INPUT, batch=batch), _about(networks.KINETICS_INPUT))


class FVD(FrechetMetric):
    """Fréchet video distance: I3D's 400 logits of a story, which is one sample. Frames of 224x224, bilinear, not antialiased.

    The network needs films of 16 frames or another multiple of 8. A story with more gives its first `frames`; one with fewer is
    shown slower, frame k of the film being frame floor(k n / frames) of the story. (CP-CSV glues two stories of five frames
    together instead, so its numbers are others.)
    """

    name, title = "fvd", "FVD"

    def __init__(self, network: Network, about: Mapping[str, Any], *, frames: int = 16):
        if frames < 16 or frames % 8:
            raise StoryjaxError(f"FVD: a film of {frames} frames cannot be looked at; expected 16, 24, 32, ...")
        super().__init__(network, {**about, "frames": frames})
        self.frames = frames

    @classmethod
    def open(cls, *, weights: str = "i3d_torchscript", frames: int = 16, batch: int = 2) -> "FVD":
        """With published weights. weights: "i3d_torchscript" (what FVD is defined by) or "rgb_imagenet" (the first release)."""
        if weights not in networks.I3D_FILES:
            raise StoryjaxError(f"FVD has no weights '{weights}'{nearest(weights, list(networks.I3D_FILES))}")
        file = networks.I3D_FILES[weights]
        about = {"network": "I3D, RGB, Kinetics-400", "features": "400 logits, mean over time"}
        about |= file.about() | networks.VIDEO_INPUT.about()
        return cls(networks.open_i3d(file, batch=batch), about, frames=frames)

    def looked_at(self, frames: np.ndarray, story: StoryFrames) -> np.ndarray:
        """One film of `self.frames` frames."""
        clip = _clip(frames, story)
        if clip.shape[1] >= self.frames:
            return clip[:, : self.frames]
        return clip[:, np.arange(self.frames) * clip.shape[1] // self.frames]


def _clip(frames: np.ndarray, story: StoryFrames) -> np.ndarray:
    """(1, n, H, W, 3) of the counted frames (n, H, W, 3)."""
    if not len(frames):
        raise StoryjaxError(f"story '{story.story_id}' has no frames that count; at least one must have been generated")
    return frames[None]


def _about(prepare: networks.Preparation) -> dict[str, Any]:
    about = {"network": "R(2+1)D-18, Kinetics-400", "features": "pooled, 512"}
    return about | networks.R2PLUS1D_18.about() | prepare.about()
