"""What a metric of generated stories is: evidence story by story, merged exactly, scored over all stories at the end.

A metric looks at each story once and keeps of it what the number needs (similarities, features, counts). The evidence of
stories seen by different hosts, in different batches or before and after a stop is simply put together; the number is
computed from all of it in the order of the stories. So it is the same for any batch size and any number of hosts, to the bit, and
an interval comes from drawing whole stories.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from scipy import stats

Evidence = Mapping[str, np.ndarray]  # of one story; small enough to keep for all stories (a row of features a frame)


@dataclasses.dataclass(frozen=True)
class Box:
    """Where someone or something is in a frame: `name` and the sides in 0..1 of height and width."""

    name: str
    top: float
    left: float
    bottom: float
    right: float


@dataclasses.dataclass(frozen=True)
class StoryFrames:
    """One story as metrics see it. Pictures are uint8 (F, H, W, 3); generated and real ones may differ in size.

    real: the data's own frames. characters: (F, K) bool, who is in each frame by the data. boxes: of the generated frames, a list a
    frame. given: how many of the first frames were given to the model and do not count (story continuation: 1). truth: all that
    the data say of the frames, arrays (F, ...) as in `storyjax.data.source.StoryTable`.
    """

    story_id: str
    sentences: Sequence[str]
    generated: np.ndarray
    real: np.ndarray | None = None
    characters: np.ndarray | None = None
    boxes: Sequence[Sequence[Box]] | None = None
    given: int = 0
    truth: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


Need = Literal["real", "characters", "boxes", "truth"]


@dataclasses.dataclass(frozen=True)
class Interval:
    """A bootstrap interval: `low` and `high` at `level`, from `resamples` draws of whole stories. NaN: none can be given."""

    low: float
    high: float
    level: float = 0.95
    resamples: int = 1000


class StoryMetric(abc.ABC):
    """One number for a set of generated stories.

    `name` is what the command and the JSON call it, `title` what a table says; `better` is the direction of improvement;
    `needs` are the fields of `StoryFrames` that must be there besides sentences and generated frames. `resamples` and `method`
    are those of the bootstrap ("basic" mirrors the draws around the value: for distances that grow when stories repeat, as
    Fréchet's do). `real_apart`: what is kept of real frames depends on them alone and has names that begin with "real"; it is then
    computed once for a split, and `measure` is given stories without real frames, for which it leaves that out. Such a metric
    compares sets, which may have different numbers of stories.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    better: ClassVar[Literal["higher", "lower"]]
    needs: ClassVar[frozenset[Need]] = frozenset()
    resamples: ClassVar[int] = 1000
    method: ClassVar[Literal["percentile", "basic"]] = "percentile"
    real_apart: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def about(self) -> dict[str, Any]:
        """What the number depends on besides the pictures, as JSON values: network, file and hash of its weights, resize, ..."""

    def check(self, source: Any) -> None:
        """Errors, before anything is looked at: a `StorySource` whose truth, labels or sizes this metric cannot be used with."""
        del source

    @abc.abstractmethod
    def measure(self, stories: Sequence[StoryFrames]) -> list[Evidence]:
        """The evidence of each story. It must not depend on which stories are measured together."""

    @abc.abstractmethod
    def score(self, evidence: Sequence[Evidence]) -> float:
        """The number for these stories, in float64; NaN where nothing counts."""

    def scores(self, evidence: Sequence[Evidence], draws: np.ndarray) -> np.ndarray:
        """The numbers (R,) of R draws of whole stories; draws (R, N) are positions in `evidence`."""
        return np.array([self.score([evidence[int(i)] for i in chosen]) for chosen in draws], np.float64)

    def reading(self, evidence: Evidence) -> Any:
        """What a person may want to look up of one story, as a JSON value; None: nothing."""
        del evidence

    def details(self, evidence: Sequence[Evidence], *, seed: int = 0) -> dict[str, Any] | None:
        """More numbers than the one, as JSON values, for those who want to know where it comes from."""
        del evidence, seed
        return None

    def interval(self, evidence: Sequence[Evidence], *, seed: int = 0, level: float = 0.95) -> Interval:
        """Bootstrap over stories: frames of one story are not independent."""
        if len(evidence) < 2:
            return Interval(np.nan, np.nan, level, 0)

        def drawn(chosen: np.ndarray) -> float:
            return self.score([evidence[int(i)] for i in chosen])

        found = stats.bootstrap(
            (np.arange(len(evidence)),),
            drawn,
            vectorized=False,
            method=self.method,
            n_resamples=self.resamples,
            confidence_level=level,
            rng=np.random.default_rng(seed),
        ).confidence_interval
        return Interval(float(found.low), float(found.high), level, self.resamples)


class MeanMetric(StoryMetric):
    """A metric that is the mean of one value per counted item; evidence {"values": (n,) float64}."""

    def score(self, evidence: Sequence[Evidence]) -> float:
        values = np.concatenate([each["values"] for each in evidence]) if evidence else np.zeros(0)
        return float(values.mean(dtype=np.float64)) if len(values) else float("nan")

    def reading(self, evidence: Evidence) -> float | None:
        return float(np.mean(evidence["values"])) if len(evidence["values"]) else None
