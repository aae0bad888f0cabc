"""Score generated stories: what a recogniser sees in their frames against what the stories say.

Three rows come out of one run. `generated` is the model; `real` are the drawn frames of the same stories, the most that this
recogniser can give (the ceiling); `shuffled` are the generated frames of one story against the truth of another, what a
model gets that draws good stories but does not read (the floor).
"""

import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from tqdm import tqdm

from storyjax.data.source import StorySource
from storyjax.errors import StoryjaxError
from storyjax.evals.metrics import METRICS, SUBSETS, Table, story_metrics, summary
from storyjax.evals.readings import StoryLog, labels_of, names_of
from storyjax.evals.recogniser import KINDS, Recogniser

# (the sentences of B stories, key) -> uint8 frames (B, F, H, W, 3)
Generate = Callable[[list[list[str]], jax.Array], np.ndarray]
ROWS = ("generated", "real", "shuffled")
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


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The outcome: `about` says what was scored with which seeds and weights; `rows[row][metric][subset]` are the numbers."""

    about: dict[str, Any]
    rows: dict[str, Table]

    def to_json(self) -> dict[str, Any]:
        return {"about": self.about, "rows": self.rows}

    def scores(self) -> dict[str, float]:
        """The main numbers of the first row, flat, as a training loop logs them; a number that does not exist is left out."""
        table = next(iter(self.rows.values()))
        wanted = [(metric, "all") for metric in METRICS] + [("char_f1", "characters_not_named")]
        wanted += [("place_acc", "place_not_named")]
        found = {(m if s == "all" else f"{m}_{s}"): table[m][s]["value"] for m, s in wanted}
        return {name: value for name, value in found.items() if value is not None}

    def table(self) -> RichTable:
        """Rows: metrics of each kind of frames; columns: all frames, with a 95 % interval, and the four subsets."""
        about = self.about
        title = f"{about['stories']} stories of {about['dataset']}, split {about['split']}, seed {about['seed']}"
        table = RichTable(title=title, box=box.MARKDOWN, title_justify="left", caption_justify="left")
        table.caption = (
            "place, action, weather: accuracy. who, where: frames whose own sentence names everyone in it, or the place"
        )
        for column in ("frames", "metric", "all [95 %]"):
            table.add_column(column, no_wrap=True)
        for subset in SUBSETS:
            if subset != "all":
                table.add_column(SHORT[subset], min_width=5, justify="right")
        for row, metrics in self.rows.items():
            for metric in METRICS:
                entry, rest = metrics[metric]["all"], [metrics[metric][s] for s in SUBSETS if s != "all"]
                interval = "" if entry["low"] is None else f" [{_number(entry['low'])}, {_number(entry['high'])}]"
                cells = [_number(entry["value"]) + interval, *(_number(other["value"]) for other in rest)]
                table.add_row(row, TITLES[metric], *cells)
        return table

    def print(self, console: Console | None = None) -> None:
        (console or Console()).print(self.table())

    def text(self) -> str:
        """The table as Markdown, for a model card."""
        page = io.StringIO()
        Console(file=page, width=160, color_system=None).print(self.table())
        return page.getvalue()


@dataclasses.dataclass(frozen=True)
class StoryEvaluator:
    """Scores the first `stories` stories of a source (None: all) with a recogniser. Same arguments, same numbers.

    source: held-out stories with their truth, opened at the recogniser's picture size. seed: of the generated frames, of who
    is shuffled with whom, and of the intervals. batch_size: stories per call of the generator.
    """

    source: StorySource
    recogniser: Recogniser
    stories: int | None = 500
    batch_size: int = 4
    seed: int = 0

    def run(
        self,
        generate: Generate | Iterable[np.ndarray] | None,
        folder: str | Path | None = None,
        *,
        model_hash: str | None = None,
        settings: Mapping[str, Any] | None = None,
        progress: bool = True,
    ) -> Evaluation:
        """Generate, read, score.

        generate: a function from sentences and a key to frames; or an iterable of stories' frames (F, H, W, 3) uint8 in the
        source's order; or None for the real frames alone. A short last batch is filled up by repeating its last story, so
        that the function sees one shape.

        folder: where `stories.jsonl` grows story by story and `evaluation.json` stands at the end. A run that was stopped
        continues there; a folder of another evaluation (other stories, seeds, weights or `settings`) is refused.
        """
        count = self._check()
        about = self._about(count, generate is not None, model_hash, settings)
        log = StoryLog(folder, about)
        starts = [
            start for start in range(0, count, self.batch_size) if not log.has(range(start, self._end(start, count)))
        ]
        frames = _Frames(generate, self.source, jax.random.key(self.seed), self.batch_size)
        done = count - sum(self._end(start, count) - start for start in starts)
        with tqdm(total=count, initial=done, unit="story", desc="evaluate", disable=not progress) as bar:
            for start in starts:
                stories = range(start, self._end(start, count))
                log.add(self._read(stories, frames(stories)))
                bar.update(len(stories))
        evaluation = Evaluation(about, self._rows(log, count))
        log.finish(evaluation.to_json())
        return evaluation

    def _end(self, start: int, count: int) -> int:
        return min(start + self.batch_size, count)

    def _check(self) -> int:
        """The number of stories to score, after everything that can be wrong before the first frame is made."""
        where = f"the data '{self.source.name}', split '{self.source.split}'"
        missing = [name for name in TRUTH if name not in self.source.table.truth]
        if missing:
            raise StoryjaxError(f"evaluation needs the truth of every frame, but {where} has no {', '.join(missing)}")
        self.recogniser.check_labels(self.source.labels, where)
        size = self.recogniser.config.image_size
        if tuple(self.source.size) != (size, size):
            raise StoryjaxError(
                f"the recogniser reads {size}x{size} frames, {where} gives {self.source.size[0]}x{self.source.size[1]}; "
                f"open it with size={size}"
            )
        count = len(self.source) if self.stories is None else self.stories
        if not 2 <= count <= len(self.source):
            raise StoryjaxError(
                f"expected 2 to {len(self.source)} stories ({where} has {len(self.source)}; shuffling needs two), got {count}"
            )
        return count

    def _about(
        self, count: int, generated: bool, model_hash: str | None, settings: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """What two runs must share to be one: the first line of `stories.jsonl`."""
        return {
            "dataset": self.source.name,
            "split": self.source.split,
            "stories": count,
            "frames_per_story": self.source.frames,
            "generated": generated,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "model_hash": model_hash,
            "recogniser": self.recogniser.name,
            "recogniser_hash": self.recogniser.hash,
            "settings": dict(settings or {}),
        }

    def _read(self, stories: range, generated: np.ndarray | None) -> dict[int, dict[str, Any]]:
        """What the recogniser sees in these stories: story -> {"generated": names, "real": names}."""
        pictures = {} if generated is None else {"generated": generated}
        pictures["real"] = np.stack([self.source.images(story) for story in stories])
        out: dict[int, dict[str, Any]] = {story: {"id": self.source.table.ids[story]} for story in stories}
        for row, images in pictures.items():
            reading = self.recogniser.read(images.reshape(-1, *images.shape[2:]))
            for n, story in enumerate(stories):
                frames = slice(n * self.source.frames, (n + 1) * self.source.frames)
                out[story][row] = names_of(reading, frames, self.source.labels)
        return out

    def _rows(self, log: StoryLog, count: int) -> dict[str, Table]:
        truth = {name: self.source.table.truth[name][:count] for name in TRUTH}
        partner = shuffled_partners(count, self.seed)
        rows: dict[str, Table] = {}
        for row in ROWS if log.about["generated"] else ("real",):
            read = [
                labels_of(log[i]["real" if row == "real" else "generated"], self.source.labels) for i in range(count)
            ]
            told = partner if row == "shuffled" else range(count)
            states = [story_metrics(read[i], {name: truth[name][told[i]] for name in TRUTH}) for i in range(count)]
            rows[row] = summary(states, seed=self.seed)
        return rows


def shuffled_partners(count: int, seed: int) -> np.ndarray:
    """(count,) int: whose truth story i is scored against; one random circle through all stories, so never its own."""
    order = np.random.default_rng(seed).permutation(count)
    partner = np.empty(count, int)
    partner[order] = np.roll(order, 1)
    return partner


class _Frames:
    """Generated frames by story numbers, whether a function makes them or an iterable brings them in order."""

    def __init__(self, generate: Any, source: StorySource, key: jax.Array, batch_size: int):
        self.generate, self.source, self.key, self.batch_size = generate, source, key, batch_size
        self.function = callable(generate)
        self.iterator: Iterator[np.ndarray] = iter(()) if generate is None or self.function else iter(generate)
        self.position = 0  # of the iterator

    def __call__(self, stories: range) -> np.ndarray | None:
        if self.generate is None:
            return None
        if not self.function:
            return np.stack([self._next(story) for story in stories])
        full = [*stories] + [stories[-1]] * (self.batch_size - len(stories))
        key = jax.random.fold_in(self.key, stories[0])  # of the batch, so that a resumed run draws the same
        images = np.asarray(self.generate([list(self.source.sentences(story)) for story in full], key))
        _check_frames(images, (len(full), self.source.frames))
        return images[: len(stories)]

    def _next(self, story: int) -> np.ndarray:
        """Skip the stories that an earlier run has read, then take this one."""
        for images in self.iterator:
            self.position += 1
            if self.position > story:
                _check_frames(np.asarray(images), (self.source.frames,))
                return np.asarray(images)
        raise StoryjaxError(
            f"expected the frames of story {story}, but the given frames ended after {self.position} stories"
        )


def _check_frames(images: np.ndarray, lead: tuple[int, ...]) -> None:
    """Errors about dtype and number of frames; the picture size is the recogniser's business."""
    if images.dtype != np.uint8 or images.ndim != len(lead) + 3 or images.shape[: len(lead)] != lead:
        expected = ", ".join(str(n) for n in lead)
        raise StoryjaxError(
            f"expected generated frames as uint8 ({expected}, H, W, 3), got {images.dtype} {images.shape}"
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
