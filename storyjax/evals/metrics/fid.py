"""FID and the inception score: the Fréchet inception distance (Heusel et al. 2017) and Salimans et al. (2016)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from scipy import special

from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Evidence, StoryFrames, StoryMetric
from storyjax.evals.metrics.feature_metrics import FrechetMetric, Network, generated_frames, rows_of
from storyjax.evals.networks import published_networks as networks


class FID(FrechetMetric):
    """Fréchet distance of Inception's 2048 pooled features, with the network and the resize that published numbers use.

    Every counted frame is one sample. As pytorch-fid 0.3.0 computes it, which the field's papers run: TensorFlow's weights of
    December 2015, pictures stretched to 299x299 in float, bilinear, without antialiasing.
    """

    name, title = "fid", "FID"

    @classmethod
    def open(cls, *, batch: int = 16) -> "FID":
        """With the published weights; a missing file is an error that says where it is published."""
        network = networks.open_inception("fid", networks.pooled, networks.FID_INPUT, batch=batch)
        about = {"network": "Inception-v3, FID variant", "features": "pool3, 2048"}
        return cls(network, about | networks.INCEPTION_FID.about() | networks.FID_INPUT.about())


class FIDTorchvision(FrechetMetric):
    """The same with torchvision's Inception-v3 and antialiased pictures. Not comparable with published FIDs."""

    name, title = "fid_torchvision", "FID (torchvision)"

    @classmethod
    def open(cls, *, batch: int = 16) -> "FIDTorchvision":
        """With the published weights."""
        prepare = networks.TORCHVISION_INPUT
        network = networks.open_inception("torchvision", networks.pooled, prepare, batch=batch)
        about = {"network": "Inception-v3, torchvision", "features": "pooled, 2048"}
        return cls(network, about | networks.INCEPTION_TORCHVISION.about() | prepare.about())


class InceptionScore(StoryMetric):
    """exp of the mean of KL(p(y|x) || p(y)) over the frames of a split, then the mean over splits (ten, as published).

    Logits of the 2015 network, 1008 classes, without the bias of the last layer, as the original code computes them. Splits are
    consecutive frames. NaN with fewer frames than splits. Evidence: {"probabilities": (n, K) float32, "entropy": (n,) float64, in
    nats}.
    """

    name, title, better = "inception_score", "IS", "higher"
    resamples: ClassVar[int] = 200

    def __init__(self, network: Network, about: Mapping[str, Any], *, splits: int = 10):
        if splits < 1:
            raise StoryjaxError(f"the inception score is a mean over splits: expected 1 or more, got {splits}")
        self.network, self.splits, self._about = network, splits, dict(about)

    @classmethod
    def open(cls, *, splits: int = 10, batch: int = 16) -> "InceptionScore":
        """With the published weights."""
        network = networks.open_inception("fid", networks.logits_without_bias, networks.FID_INPUT, batch=batch)
        about = {"network": "Inception-v3, FID variant", "features": "1008 logits without bias"}
        return cls(network, about | networks.INCEPTION_FID.about() | networks.FID_INPUT.about(), splits=splits)

    @property
    def about(self) -> dict[str, Any]:
        return self._about | {"splits": self.splits}

    def measure(self, stories: Sequence[StoryFrames]) -> list[Evidence]:
        found: list[Evidence] = []
        for logits in rows_of(self.network, [generated_frames(story) for story in stories]):
            logarithms = special.log_softmax(logits.astype(np.float64), axis=-1)
            probabilities = np.exp(logarithms)
            entropy = -(probabilities * logarithms).sum(axis=-1)
            found.append({"probabilities": probabilities.astype(np.float32), "entropy": entropy})
        return found

    def score(self, evidence: Sequence[Evidence]) -> float:
        count = sum(len(each["entropy"]) for each in evidence)
        if count < self.splits:
            return float("nan")
        probabilities = np.concatenate([each["probabilities"] for each in evidence])
        entropy = np.concatenate([each["entropy"] for each in evidence])
        scores = []
        for split in range(self.splits):
            part = slice(split * count // self.splits, (split + 1) * count // self.splits)
            marginal = probabilities[part].mean(axis=0, dtype=np.float64)
            scores.append(np.exp(special.entr(marginal).sum() - entropy[part].mean()))
        return float(np.mean(scores))
