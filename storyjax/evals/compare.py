"""Results beside each other, with the difference to the first one and an interval for it.

Both sides saw the same stories, so the interval comes from drawing the same stories for both (a paired bootstrap): what is hard for
both does not blur the difference.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from storyjax.errors import StoryjaxError
from storyjax.evals.evaluation import RESULT, Evaluation, Score, shown
from storyjax.evals.evidence import ALONE, EvidenceFolder, filled, joined
from storyjax.evals.metric import Evidence, StoryMetric
from storyjax.evals.registry import open_metric
from storyjax.evals.story_evaluator import digests_of

# What must be alike for numbers to be comparable, and how an error calls it.
ALIKE = {
    "dataset": "data",
    "split": "split",
    "stories": "number of stories",
    "frames_per_story": "frames a story",
    "given_frames": "given frames",
    "size": "size of the real frames",
    "data_fingerprint": "content of the data",
}


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of a result to the first one: value, and the ends of its interval; why there is none, in words."""

    value: float
    low: float | None = None
    high: float | None = None
    why: str = ""


def compare(results: Sequence[str | Path], *, seed: int = 0, level: float = 0.95) -> "Comparison":
    """Read results (`evaluation.json` or its folder) and compare each with the first.

    Errors: fewer than two; another data set, split or number of stories; no metric that all of them have.
    """
    if len(results) < 2:
        raise StoryjaxError(f"expected at least two results to compare, got {len(results)}")
    folders = [Path(result).parent if Path(result).is_file() else Path(result) for result in results]
    found = [Evaluation.read(result) for result in results]
    for path, other in zip(results[1:], found[1:]):
        _check_alike(str(results[0]), found[0], str(path), other)
    shared = [name for name in found[0].metrics if any(name in other.metrics for other in found[1:])]
    if not shared:
        named = "; ".join(f"'{path}' has {', '.join(one.metrics)}" for path, one in zip(results, found))
        raise StoryjaxError(f"no metric is in '{results[0]}' and another: {named}")
    differences: dict[str, list[Difference | None]] = {}
    for name in shared:
        pairs = zip(folders[1:], found[1:])
        differences[name] = [_difference(name, (folders[0], found[0]), pair, seed, level) for pair in pairs]
    return Comparison([str(result) for result in results], found, differences, level)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """`differences[metric][i]`: of result i + 1 to result 0; None where one of them lacks the metric."""

    names: list[str]
    results: list[Evaluation]
    differences: dict[str, list[Difference | None]]
    level: float

    def table(self) -> Table:
        """One line a metric, a column a result, and one for each difference to the first."""
        table = Table(title=self.results[0].title, box=box.MARKDOWN, title_justify="left")
        letters = [chr(ord("A") + n) if n < 26 else str(n) for n in range(len(self.results))]
        table.add_column("metric", no_wrap=True)
        table.add_column("better", no_wrap=True)
        for letter in letters:
            table.add_column(letter, justify="right", no_wrap=True)
        for letter in letters[1:]:
            table.add_column(f"{letter} - A [{100 * self.level:g} %]", justify="right", no_wrap=True)
        for name in dict.fromkeys(name for result in self.results for name in result.metrics):
            scores = [result.metrics.get(name) for result in self.results]
            known = next(score for score in scores if score is not None)
            cells = ["-" if s is None or s.value is None else shown(s.value) for s in scores]
            gaps = self.differences.get(name, [None] * (len(scores) - 1))
            table.add_row(known.title, known.better, *cells, *map(_gap, gaps))
        return table

    def notes(self) -> list[str]:
        """Which letter is which, and why a difference has no interval."""
        letters = [chr(ord("A") + n) for n in range(len(self.names))]
        lines = [f"{letter}  {name}" for letter, name in zip(letters, self.names)]
        for metric, gaps in self.differences.items():
            lines += [f"{metric}, {letters[n + 1]} - A: {gap.why}" for n, gap in enumerate(gaps) if gap and gap.why]
        return lines

    def print(self, console: Console | None = None) -> None:
        console = console or Console()
        console.print(self.table())
        console.print("\n".join(self.notes()), highlight=False, markup=False, soft_wrap=True)

    def to_json(self) -> dict[str, Any]:
        gaps = {
            name: [None if gap is None else dataclasses.asdict(gap) for gap in found]
            for name, found in self.differences.items()
        }
        return {"results": self.names, "differences": gaps, "level": self.level}

    def json_text(self) -> str:
        """As it is written."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"


def _gap(gap: Difference | None) -> str:
    if gap is None:
        return "-"
    interval = "" if gap.low is None or gap.high is None else f" [{_signed(gap.low)}, {_signed(gap.high)}]"
    return _signed(gap.value) + interval


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{shown(abs(value))}"


def _check_alike(first: str, one: Evaluation, second: str, other: Evaluation) -> None:
    for key, word in ALIKE.items():
        here, there = one.about.get(key), other.about.get(key)
        if here != there:
            raise StoryjaxError(
                f"'{first}' and '{second}' cannot be compared: {word} there {_short(here)}, here {_short(there)}; evaluate both on "
                "the same stories"
            )


def _short(value: Any) -> str:
    text = str(value.get("content", value) if isinstance(value, Mapping) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ----- the interval of a difference ----------------------------------------------------------------------------------


def _difference(
    name: str, one: tuple[Path, Evaluation], other: tuple[Path, Evaluation], seed: int, level: float
) -> Difference | None:
    """`other` minus `one`; None where one of them lacks the metric or its value."""
    a, b = one[1].metrics.get(name), other[1].metrics.get(name)
    if a is None or b is None or a.value is None or b.value is None:
        return None
    value = b.value - a.value
    if a.about != b.about:
        return Difference(value, why="measured with other weights or settings of the metric, not comparable")
    first, second = _evidence(name, *one), _evidence(name, *other)
    if first is None or second is None:
        return Difference(value, why=f"no interval: the evidence of one side is not beside its {RESULT}")
    if len(first) != len(second):
        return Difference(value, why="no interval: other stories have pictures")
    try:
        metric = open_metric(name, a.options)
    except StoryjaxError as error:
        return Difference(value, why=f"no interval: {error}")
    low, high = paired_interval(metric, first, second, seed=seed, level=level)
    return Difference(value, low, high)


def paired_interval(
    metric: StoryMetric, first: Sequence[Evidence], second: Sequence[Evidence], *, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval of score(second) - score(first), the same stories drawn for both; method as of the metric's own."""
    stories = len(first)
    draws = np.random.default_rng(seed).integers(0, stories, (metric.resamples, stories))
    gaps = metric.scores(second, draws) - metric.scores(first, draws)
    low, high = np.nanquantile(gaps, [(1 - level) / 2, (1 + level) / 2])
    if metric.method == "basic":
        value = metric.score(second) - metric.score(first)
        low, high = 2 * value - high, 2 * value - low
    return float(low), float(high)


def _evidence(name: str, folder: Path, found: Evaluation) -> list[Evidence] | None:
    """What was measured of each story; None where it is not there any more."""
    score: Score = found.metrics[name]
    digests = digests_of(folder)
    if score.evidence is None or digests is None or not (folder / "evidence" / score.evidence).is_dir():
        return None
    own = EvidenceFolder.at(folder / "evidence" / score.evidence)
    real = None
    if score.real_evidence is not None:
        if not Path(score.real_evidence).is_dir():
            return None
        real = EvidenceFolder.at(Path(score.real_evidence))
    stories: list[Evidence] = []
    for story, digest in enumerate(digests):
        mine = own.get(story, digest)
        theirs = None if real is None else real.get(story, ALONE)
        if mine is None and theirs is None:
            return None
        stories.append(joined(mine, theirs))
    return filled(stories)
