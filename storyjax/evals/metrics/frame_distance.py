"""Scores that compare a generated frame with the real one of its place: SSIM and LPIPS."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Evidence, MeanMetric, Need, StoryFrames
from storyjax.evals.metrics.feature_metrics import Network, frame_pairs, rows_of
from storyjax.evals.networks import published_networks as networks
from storyjax.evals.networks.features import Preparation

WINDOW, SIGMA = 11, 1.5  # pixels
C1, C2 = 0.01**2, 0.03**2  # for pictures in 0..1


def _equal_sizes(story: StoryFrames, metric: str) -> tuple[np.ndarray, np.ndarray]:
    generated, real = frame_pairs(story, metric)
    if generated.shape[1:] != real.shape[1:]:
        sizes = ["x".join(map(str, frames.shape[1:3])) for frames in (generated, real)]
        raise StoryjaxError(
            f"{metric} compares pixel with pixel, but the frames of story '{story.story_id}' are {sizes[0]} generated and "
            f"{sizes[1]} real; evaluate both at one size"
        )
    return generated, real


def ssim(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004) of uint8 pictures (N, H, W, C) -> (N,) float64, 1 for equal ones.

    On 0..1, a Gaussian window of 11x11 with deviation 1.5, each channel by itself, the mean over all places where the whole window
    lies inside the picture. In float64 on the host: the variance of a flat region is a difference of nearly equal numbers.
    """
    if one.shape != other.shape or one.ndim != 4 or min(one.shape[1:3]) < WINDOW:
        raise StoryjaxError(
            f"SSIM: expected two stacks of pictures (N, H, W, C) of one shape, at least {WINDOW} pixels on a side, got "
            f"{one.shape} and {other.shape}"
        )
    x, y = one / 255.0, other / 255.0
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    likeness /= (mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2)
    return likeness.mean(axis=(1, 2, 3))


def _blurred(x: np.ndarray) -> np.ndarray:
    """Gaussian mean of every whole window, (N, H - 10, W - 10, C)."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    for axis in (1, 2):
        length = x.shape[axis] - WINDOW + 1
        x = sum(w * x.take(range(k, k + length), axis) for k, w in enumerate(weights))  # type: ignore[assignment]
    return x


class SSIM(MeanMetric):
    """Mean structural similarity of generated and real frames. Evidence: {"values": one a counted frame}."""

    name, title, better = "ssim", "SSIM", "higher"
    needs: ClassVar[frozenset[Need]] = frozenset({"real"})

    @classmethod
    def open(cls) -> "SSIM":
        """It has no weights."""
        return cls()

    @property
    def about(self) -> dict[str, Any]:
        return {
            "window": f"Gaussian {WINDOW}x{WINDOW}, sigma {SIGMA}, whole windows only",
            "range": "0..1, per channel",
        }

    def measure(self, stories: Sequence[StoryFrames]) -> list[Evidence]:
        return [{"values": ssim(*_equal_sizes(story, "SSIM"))} for story in stories]


class LPIPSMetric(MeanMetric):
    """Mean LPIPS distance of generated and real frames (version 0.1). Evidence: {"values": one a counted frame}.

    The papers report the AlexNet trunk unless they say otherwise. Frames are looked at in the size that they have.
    """

    name, title, better = "lpips", "LPIPS", "lower"
    needs: ClassVar[frozenset[Need]] = frozenset({"real"})

    def __init__(self, network: Network, about: Mapping[str, Any]):
        self.network, self._about = network, dict(about)

    @classmethod
    def open(cls, *, trunk: str = "alex", batch: int = 8) -> "LPIPSMetric":
        """With published weights. trunk: "alex", "vgg" or "squeeze"."""
        if trunk not in networks.LPIPS_TRUNKS:
            raise StoryjaxError(f"LPIPS has no trunk '{trunk}'; it has {', '.join(networks.LPIPS_TRUNKS)}")
        prepare = Preparation()
        network = networks.open_lpips(trunk, prepare, batch=batch)  # type: ignore[arg-type]
        heads = networks.LPIPS_HEADS[trunk].about()
        about = {"network": f"LPIPS 0.1, {trunk}", "heads": heads["weights"], "heads_sha256": heads["sha256"]}
        return cls(network, about | networks.LPIPS_TRUNKS[trunk].about() | prepare.about())

    @property
    def about(self) -> dict[str, Any]:
        return dict(self._about)

    def measure(self, stories: Sequence[StoryFrames]) -> list[Evidence]:
        pairs = [np.stack(_equal_sizes(story, "LPIPS"), axis=1) for story in stories]
        return [{"values": rows.astype(np.float64)} for rows in rows_of(self.network, pairs)]
