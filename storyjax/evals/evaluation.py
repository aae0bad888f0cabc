"""The outcome of an evaluation: its numbers with everything they depend on, as a table for people and as JSON."""

import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from storyjax.config import from_json
from storyjax.errors import StoryjaxError
from storyjax.evals.metrics.recogniser_metric import main_scores, rows_table

RESULT = "evaluation.json"
FORMAT = 2


@dataclasses.dataclass(frozen=True)
class Score:
    """The number of one metric.

    value: None where nothing counted. low, high: of its interval at `level`, from `resamples` draws of whole stories.
    stories, frames: generated ones that count. real_stories: of the real set, where there is one. about: what the number depends on
    (weights by hash, resize). options: what the metric was opened with. evidence, real_evidence: folders of what was measured.
    """

    title: str
    better: Literal["higher", "lower"]
    value: float | None
    low: float | None
    high: float | None
    level: float
    resamples: int
    stories: int
    frames: int
    real_stories: int | None = None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    evidence: str | None = None
    real_evidence: str | None = None
    details: dict[str, Any] | None = None

    @property
    def interval(self) -> str:
        """For a table; "" where there is none."""
        return "" if self.low is None or self.high is None else f"[{shown(self.low)}, {shown(self.high)}]"

    @property
    def rows(self) -> Any:
        """The table that a recogniser gives; None for other metrics."""
        return (self.details or {}).get("rows")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """`about` says what was scored: data, split, hashes, seed, settings, versions; `metrics` are the numbers by name."""

    about: dict[str, Any]
    metrics: dict[str, Score]

    def to_json(self) -> dict[str, Any]:
        metrics = {name: dataclasses.asdict(score) for name, score in self.metrics.items()}
        return json.loads(json.dumps({"format": FORMAT, "about": self.about, "metrics": metrics}, default=str))

    def json_text(self) -> str:
        """As it is written."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: str | Path) -> "Evaluation":
        """From an `evaluation.json` or the folder that holds it. Errors: no such file, another content."""
        path = Path(path)
        path = path / RESULT if path.is_dir() else path
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["format"] != FORMAT:
                raise StoryjaxError(
                    f"'{path}' has format {found['format']}, expected {FORMAT}; evaluate again with this storyjax"
                )
            metrics = {name: from_json(Score, score, f"'{path}': {name}") for name, score in found["metrics"].items()}
            return cls(dict(found["about"]), metrics)
        except FileNotFoundError:
            raise StoryjaxError(f"there is no result at '{path}'; expected an {RESULT} or the folder of one") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoryjaxError(f"'{path}' is no result of `storyjax evaluate` ({error!r})") from None

    def scores(self) -> dict[str, float]:
        """The numbers flat, as a training loop logs them; one that does not exist is left out."""
        found: dict[str, float] = {}
        for name, score in self.metrics.items():
            found |= main_scores(score.rows) if score.rows else {} if score.value is None else {name: score.value}
        return found

    # ----- for people ------------------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        about = self.about
        return f"{about['stories']} stories of {about['dataset']}, split {about['split']}, seed {about['seed']}"

    def tables(self) -> list[Table]:
        """One line a metric; then the tables of metrics that have their own."""
        plain = {name: score for name, score in self.metrics.items() if not score.rows}
        own = [rows_table(score.rows, self.title) for score in self.metrics.values() if score.rows]
        return ([self._table(plain)] if plain else []) + own

    def _table(self, scores: Mapping[str, Score]) -> Table:
        table = Table(title=self.title, box=box.MARKDOWN, title_justify="left")
        for column in ("metric", "value", "interval", "better", "stories", "frames"):
            table.add_column(column, no_wrap=True, justify="left" if column in ("metric", "better") else "right")
        for score in scores.values():
            value = "-" if score.value is None else shown(score.value)
            sets = score.real_stories is not None and score.real_stories != score.stories
            stories = f"{score.stories} / {score.real_stories} real" if sets else str(score.stories)
            table.add_row(score.title, value, score.interval, score.better, stories, str(score.frames))
        return table

    def notes(self) -> list[str]:
        """Below the tables: what the numbers depend on, one thing a line."""
        about = self.about
        given = f", {about['given_frames']} given" if about.get("given_frames") else ""
        height, width = about["size"]
        lines = [f"data        {about['frames_per_story']} frames a story{given}, real frames {width}x{height}"]
        lines += [f"pictures    {_said(about['pictures'])}"]
        named = {
            "settings": "settings",
            "model_hash": "model",
            "data_fingerprint": "data hash",
            "pictures_hash": "hash",
            "device": "device",
        }
        for key, word in named.items():
            if about.get(key):
                lines.append(f"{word:<11} {_said(about[key])}")
        for name, score in self.metrics.items():
            lines.append(f"{name:<11} {_said({**score.about, **score.options}) or '-'}")
        levels = {f"{100 * score.level:g} %" for score in self.metrics.values() if score.low is not None}
        if levels:
            lines.append(f"intervals   {' and '.join(sorted(levels))}, bootstrap over stories")
        return lines

    def print(self, console: Console | None = None) -> None:
        console = console or Console()
        for table in self.tables():
            console.print(table)
        console.print("\n".join(self.notes()), highlight=False, markup=False, soft_wrap=True)

    def text(self) -> str:
        """Tables and notes as Markdown, for a model card."""
        page = io.StringIO()
        self.print(Console(file=page, width=160, color_system=None))
        return page.getvalue()


def number(value: float) -> float | None:
    """As JSON knows it: None for NaN."""
    return None if np.isnan(value) else float(value)


def shown(value: float) -> str:
    """With the digits that such numbers are published with: 0.7467, 14.07."""
    return f"{value:.4f}" if abs(value) < 2 else f"{value:.2f}"


def _said(about: Any) -> str:
    """A mapping as `name value, name value`; hashes by their first digits."""
    if isinstance(about, Mapping):
        return ", ".join(f"{name} {_said(value)}" for name, value in about.items() if value not in (None, "", {}, []))
    if isinstance(about, list):
        return ("x" if all(isinstance(each, int) for each in about) else " and ").join(map(str, about))
    text = str(about)
    return text[:12] if len(text) >= 32 and all(c in "0123456789abcdef" for c in text) else text
