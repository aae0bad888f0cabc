"""What a recogniser sees in generated frames against what the stories say, as one of the metrics.

Three rows come out. `generated` is the model; `real` are the data's own frames of the same stories, the most that this recogniser
can give (the ceiling); `shuffled` are the generated frames of one story against the truth of another, what a model gets that draws
good stories but does not read (the floor).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table as RichTable

from storyjax.data.source import StorySource
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Evidence, Interval, StoryFrames, StoryMetric
from storyjax.evals.metrics.counts import METRICS, SUBSETS, Table, story_metrics, summary
from storyjax.evals.metrics.readings import names_of
from storyjax.evals.networks.recogniser import KINDS, Reading, Recogniser, load_recogniser

TRUTH = (*KINDS, "names_characters", "names_place")
TITLES = {
    "char_f1": "Char-F1",
    "frm_acc": "Frm-Acc",
    "place_acc": "place",
    "action_acc": "action",
    "weather_acc": "weather",
}
SHORT = {  # no word longer than five letters: the table fits into 80 columns
    "characters_named": "who named",
    "characters_not_named": "who not named",
    "place_named": "where named",
    "place_not_named": "where not named",
}


class RecogniserMetric(StoryMetric):
    """Who, where and what a recogniser sees in a frame, against the truth: Char-F1, Frm-Acc, place, action and weather.

    Evidence: `generated_*` and `real_*`, what is seen (F, ...), and `truth_*`. The one number is the Char-F1 of all generated
    frames; `details` has the rest: {"rows": {row: {metric: {subset: {"value", "low", "high"}}}}}.
    """

    name = "recogniser"
    title = "Char-F1 by the recogniser"
    better = "higher"
    needs = frozenset({"real", "truth"})
    real_apart = True

    def __init__(self, recogniser: Recogniser):
        self.recogniser = recogniser

    @classmethod
    def open(cls, name: str = "cartoon") -> "RecogniserMetric":
        """name: a recogniser that ships, or the model folder of one."""
        return cls(load_recogniser(name))

    @property
    def about(self) -> dict[str, Any]:
        return {"recogniser": self.recogniser.name, "recogniser_hash": self.recogniser.hash}

    def check(self, source: StorySource) -> None:
        """Errors: data without the truth of every frame, of another world, of pictures of another size."""
        where = f"the data '{source.name}', split '{source.split}'"
        missing = [name for name in TRUTH if name not in source.table.truth]
        if missing:
            raise StoryjaxError(f"evaluation needs the truth of every frame, but {where} has no {', '.join(missing)}")
        self.recogniser.check_labels(source.labels, where)
        size = self.recogniser.config.image_size
        if tuple(source.size) != (size, size):
            raise StoryjaxError(
                f"the recogniser reads {size}x{size} frames, {where} gives {source.size[0]}x{source.size[1]}; "
                f"open it with size={size}"
            )

    def measure(self, stories: Sequence[StoryFrames]) -> list[Evidence]:
        read = {"generated": self._read([story.generated[story.given :] for story in stories])}
        if all(story.real is not None for story in stories):
            same = all(story.real is story.generated for story in stories)
            real = [story.real[story.given :] for story in stories if story.real is not None]
            read["real"] = read["generated"] if same else self._read(real)
        truth = [{f"truth_{name}": np.asarray(s.truth[name])[s.given :] for name in TRUTH} for s in stories]
        return [
            {f"{row}_{kind}": getattr(seen[n], kind) for row, seen in read.items() for kind in KINDS} | truth[n]
            for n in range(len(stories))
        ]

    def score(self, evidence: Sequence[Evidence]) -> float:
        value = _row(evidence, "generated", range(len(evidence)), seed=None)["char_f1"]["all"]["value"]
        return float("nan") if value is None else value

    def interval(self, evidence: Sequence[Evidence], *, seed: int = 0, level: float = 0.95) -> Interval:
        found = _row(evidence, "generated", range(len(evidence)), seed, level)["char_f1"]["all"]
        if found["low"] is None:
            return Interval(np.nan, np.nan, level, 0)
        return Interval(found["low"], found["high"], level, self.resamples)

    def scores(self, evidence: Sequence[Evidence], draws: np.ndarray) -> np.ndarray:
        states = [_state(each, "generated", each).char_f1__all.counts() for each in evidence]
        sums = np.array(states, np.float64)[draws].sum(axis=1)  # (R, 2)
        return sums[:, 0] / sums[:, 1]

    def details(self, evidence: Sequence[Evidence], *, seed: int = 0) -> dict[str, Any]:
        whole = range(len(evidence))
        rows = {row: _row(evidence, row, whole, seed) for row in ("generated", "real")}
        if len(evidence) > 1:  # one story has no other
            rows["shuffled"] = _row(evidence, "shuffled", shuffled_partners(len(evidence), seed), seed)
        return {"rows": rows}

    def reading(self, evidence: Evidence) -> dict[str, Any]:
        return {row: self._names(evidence, row) for row in ("generated", "real")}

    def _names(self, evidence: Evidence, row: str) -> dict[str, list[Any]]:
        seen = Reading(**{kind: evidence[f"{row}_{kind}"] for kind in KINDS})
        return names_of(seen, slice(None), self.recogniser.labels)

    def _read(self, stories: Sequence[np.ndarray]) -> list[Reading]:
        """What is seen in each story's frames; the network sees the frames of all of them in one row."""
        ends = np.cumsum([len(story) for story in stories])
        whole = self.recogniser.read(np.concatenate(stories))
        parts = [slice(end - len(story), end) for end, story in zip(ends, stories)]
        return [Reading(**{kind: getattr(whole, kind)[part] for kind in KINDS}) for part in parts]


def _state(evidence: Evidence, row: str, told: Evidence) -> Any:
    """The state of all numbers for one story: what was seen, against the truth of the story `told`."""
    seen = "real" if row == "real" else "generated"
    predicted = {kind: evidence[f"{seen}_{kind}"] for kind in KINDS}
    return story_metrics(predicted, {name: told[f"truth_{name}"] for name in TRUTH})


def _row(
    evidence: Sequence[Evidence], row: str, told: Sequence[int] | np.ndarray, seed: int | None, level: float = 0.95
) -> Table:
    """The numbers of one row, with intervals unless `seed` is None."""
    states = [_state(each, row, evidence[int(told[n])]) for n, each in enumerate(evidence)]
    return summary(states, seed=seed or 0, level=level, resamples=0 if seed is None else 1000)


def shuffled_partners(count: int, seed: int) -> np.ndarray:
    """(count,) int: whose truth story i is scored against; one random circle through all stories, so never its own."""
    order = np.random.default_rng(seed).permutation(count)
    partner = np.empty(count, int)
    partner[order] = np.roll(order, 1)
    return partner


def main_scores(rows: Mapping[str, Table]) -> dict[str, float]:
    """The main numbers of the first row, flat, as a training loop logs them; a number that does not exist is left out."""
    table = next(iter(rows.values()))
    wanted = [(metric, "all") for metric in METRICS] + [("char_f1", "characters_not_named")]
    wanted += [("place_acc", "place_not_named")]
    found = {(m if s == "all" else f"{m}_{s}"): table[m][s]["value"] for m, s in wanted}
    return {name: value for name, value in found.items() if value is not None}


def rows_table(rows: Mapping[str, Table], title: str) -> RichTable:
    """Rows: numbers of each kind of frames; columns: all frames, with a 95 % interval, and the four subsets."""
    table = RichTable(title=title, box=box.MARKDOWN, title_justify="left", caption_justify="left")
    table.caption = (
        "place, action, weather: accuracy. who, where: frames whose own sentence names everyone in it, or the place"
    )
    for column in ("frames", "metric", "all [95 %]"):
        table.add_column(column, no_wrap=True)
    for subset in SUBSETS:
        if subset != "all":
            table.add_column(SHORT[subset], min_width=5, justify="right")
    for row, metrics in rows.items():
        for metric in METRICS:
            entry, rest = metrics[metric]["all"], [metrics[metric][s] for s in SUBSETS if s != "all"]
            interval = "" if entry["low"] is None else f" [{_number(entry['low'])}, {_number(entry['high'])}]"
            cells = [_number(entry["value"]) + interval, *(_number(other["value"]) for other in rest)]
            table.add_row(row, TITLES[metric], *cells)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
