"""How often a recogniser finds in a frame what its story says: Char-F1, Frm-Acc, place, weather and action accuracy.

As in the literature on PororoSV and FlintstonesSV (Maharana et al. 2021, 2022): a multi-label classifier trained on real
frames reads the generated ones; Char-F1 is the F1 score of its character labels micro-averaged over all characters and frames,
Frm-Acc the share of frames whose set of characters is exactly right.

Every metric is a clu `Metric` whose state is a pair or triple of whole numbers, so merging over batches, stories or hosts gives
exactly the number of one pass. Each is kept for all frames and for subsets by what the frame's own sentence names.
"""

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from clu import metrics as clu_metrics
from flax import struct
from scipy import stats

METRICS = ("char_f1", "frm_acc", "place_acc", "action_acc", "weather_acc")
# Subset -> the truth it reads and the value it keeps.
SUBSETS: dict[str, tuple[str, bool] | None] = {
    "all": None,
    "characters_named": ("names_characters", True),
    "characters_not_named": ("names_characters", False),
    "place_named": ("names_place", True),
    "place_not_named": ("names_place", False),
}


def _ratio(over: Any, under: Any) -> Any:
    """over / under in float64; NaN where nothing was counted."""
    over, under = np.asarray(over, np.float64), np.asarray(under, np.float64)
    return np.divide(over, under, out=np.full_like(over, np.nan), where=under > 0)


@struct.dataclass
class MicroF1(clu_metrics.Metric):
    """F1 = 2 TP / (2 TP + FP + FN), counts summed over all labels and frames.

    The state holds whole numbers. NaN when no frame holds or was given any label.
    """

    hits: Any
    spurious: Any
    missed: Any

    @classmethod
    def empty(cls) -> "MicroF1":
        return cls(hits=0, spurious=0, missed=0)

    @classmethod
    def from_model_output(cls, predicted: Any, truth: Any, mask: Any, **_: Any) -> "MicroF1":
        """predicted, truth (N, K) bool; mask (N,) bool, the frames that count."""
        kept = mask[:, None]
        return cls(
            hits=(predicted & truth & kept).sum(),
            spurious=(predicted & ~truth & kept).sum(),
            missed=(~predicted & truth & kept).sum(),
        )

    def merge(self, other: "MicroF1") -> "MicroF1":
        return type(self)(self.hits + other.hits, self.spurious + other.spurious, self.missed + other.missed)

    def counts(self) -> tuple[Any, Any]:
        """(numerator, denominator) of the score."""
        return 2 * self.hits, 2 * self.hits + self.spurious + self.missed

    def compute(self) -> Any:
        return _ratio(*self.counts())


@struct.dataclass
class Share(clu_metrics.Metric):
    """The share of frames that are right. NaN when no frame counts."""

    right: Any
    frames: Any

    @classmethod
    def empty(cls) -> "Share":
        return cls(right=0, frames=0)

    @classmethod
    def from_model_output(cls, predicted: Any, truth: Any, mask: Any, **_: Any) -> "Share":
        """predicted, truth (N,) class numbers, or (N, K) sets that must agree in all K; mask (N,) bool."""
        equal = predicted == truth
        equal = equal.all(axis=-1) if equal.ndim == 2 else equal
        return cls(right=(equal & mask).sum(), frames=mask.sum())

    def merge(self, other: "Share") -> "Share":
        return type(self)(self.right + other.right, self.frames + other.frames)

    def counts(self) -> tuple[Any, Any]:
        """(numerator, denominator) of the score."""
        return self.right, self.frames

    def compute(self) -> Any:
        return _ratio(*self.counts())


def _on(metric: type[clu_metrics.Metric], kind: str, subset: tuple[str, bool] | None) -> type[clu_metrics.Metric]:
    """`metric` reading one kind of label, on one subset of the frames; a frame whose class is unknown (-1) never counts."""

    def choose(**labels: Any) -> dict[str, Any]:
        predicted, truth = labels["predicted"], labels["truth"]
        known = np.ones(len(truth[kind]), bool) if kind == "characters" else truth[kind] >= 0
        mask = known if subset is None else known & (truth[subset[0]] == subset[1])
        return {"predicted": predicted[kind], "truth": truth[kind], "mask": mask}

    return metric.from_fun(choose)


_PARTS: dict[str, tuple[type[clu_metrics.Metric], str]] = {
    "char_f1": (MicroF1, "characters"),
    "frm_acc": (Share, "characters"),
    "place_acc": (Share, "place"),
    "action_acc": (Share, "action"),
    "weather_acc": (Share, "weather"),
}
# One clu collection of all metrics on all subsets; a field is named `<metric>__<subset>`.
StoryMetrics = clu_metrics.Collection.create(
    **{f"{name}__{part}": _on(*_PARTS[name], subset) for name in METRICS for part, subset in SUBSETS.items()}
)


def story_metrics(predicted: Mapping[str, Any], truth: Mapping[str, Any]) -> Any:
    """The state of all metrics for some frames, ready to be merged with others'.

    predicted and truth: `characters` (N, K) multi-hot, `place`, `weather`, `action` (N,) class numbers, in the truth -1 where
    unknown; truth also `names_characters` and `names_place` (N,) bool: does the frame's own sentence say it by name.
    """
    boolean = ("characters", "names_characters", "names_place")
    predicted, truth = (
        {name: np.asarray(value, bool if name in boolean else np.int32) for name, value in labels.items()}
        for labels in (predicted, truth)
    )
    return StoryMetrics.single_from_model_output(predicted=predicted, truth=truth)


Table = dict[str, dict[str, dict[str, Any]]]


def summary(per_story: Sequence[Any], *, seed: int = 0, resamples: int = 1000, level: float = 0.95) -> Table:
    """One state of `StoryMetrics` per story -> table[metric][subset] = {"value", "low", "high"}.

    value: the score of all stories together. low, high: percentile bootstrap interval at `level`, whole stories drawn with
    replacement (frames of a story are not independent). None where nothing counts; no interval for fewer than 2 stories or no
    resamples.
    """
    total = functools.reduce(lambda a, b: a.merge(b), per_story)
    table: Table = {}
    for field, value in total.compute().items():
        metric, subset = field.split("__")
        counts = np.array([getattr(story, field).counts() for story in per_story], np.float64)
        low, high = _interval(counts, seed, resamples, level)
        numbers = {"value": value, "low": low, "high": high}
        table.setdefault(metric, {})[subset] = {name: None if np.isnan(x) else float(x) for name, x in numbers.items()}
    return table


def _interval(counts: np.ndarray, seed: int, resamples: int, level: float) -> tuple[float, float]:
    """Bootstrap interval of sum(numerators) / sum(denominators); counts (S, 2), one row a story."""
    if resamples < 1 or len(counts) < 2 or not counts[:, 1].any():
        return np.nan, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # a perfect score has an interval of width 0
        found = stats.bootstrap(
            (counts[:, 0], counts[:, 1]),
            lambda over, under, axis=-1: _ratio(over.sum(axis=axis), under.sum(axis=axis)),
            paired=True,
            vectorized=True,
            method="percentile",
            n_resamples=resamples,
            confidence_level=level,
            rng=np.random.default_rng(seed),
        )
    return found.confidence_interval.low, found.confidence_interval.high
