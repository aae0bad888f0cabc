"""Score generated stories by any number of metrics: measure story by story, put the evidence together, score all of it at the end.

What is measured is kept on disk, so a run that was stopped goes on, and several processes share the stories: each measures its own
blocks, and the numbers are computed from the evidence of all of them in the order of the stories.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from storyjax.checkpoints.paths import write_whole
from storyjax.data.source import StorySource
from storyjax.errors import StoryjaxError
from storyjax.evals.evaluation import RESULT, Evaluation
from storyjax.evals.evidence import ALONE
from storyjax.evals.measuring import Measured
from storyjax.evals.metric import StoryMetric
from storyjax.evals.metrics.readings import LINES
from storyjax.evals.sources.generated import InMemory, Pictures
from storyjax.evals.sources.picture_folders import PictureFolder
from storyjax.parallel.processes import speaks, wait_for_all

BLOCK = 16  # stories that are measured together, and whose evidence is one file


@dataclasses.dataclass(frozen=True)
class StoryEvaluator:
    """Scores the first `stories` stories of a source (None: all). Same arguments, same numbers.

    metrics: by the names under which the result has them. seed: of the intervals, and of who is shuffled with whom. level: of the
    intervals. options: what the metrics were opened with, for the result.
    """

    source: StorySource
    metrics: Mapping[str, StoryMetric]
    stories: int | None = None
    seed: int = 0
    level: float = 0.95
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def run(
        self,
        pictures: Pictures,
        folder: str | Path | None = None,
        *,
        about: Mapping[str, Any] | None = None,
        progress: bool = True,
    ) -> Evaluation:
        """Measure and score.

        folder: where evidence grows, and `evaluation.json` and `stories.jsonl` stand at the end; None: nothing is written, and
        every process measures everything. about: more about the pictures, for the result (settings, versions, ...).

        Errors: metrics that need what the data do not have; stories without pictures where metrics need pairs; frames in memory
        and a folder.
        """
        count = self.check(pictures)
        place = None if folder is None else Path(folder)
        if place is not None and isinstance(pictures, InMemory):
            raise StoryjaxError(
                f"frames in memory cannot be told apart from others when an evaluation goes on in '{place}'; write them into a "
                "folder first (storyjax.evals.sources.drawing), or evaluate them without a folder"
            )
        digests = [pictures.digest(n) if place and pictures.has(n) else ALONE for n in range(count)]
        data = {**self.source.fingerprint(), "given": self.source.given} if place else {}
        measured = {
            name: Measured(metric, name, self.source, pictures, digests, data, place)
            for name, metric in self.metrics.items()
        }
        _measure_all(list(measured.values()), count, progress)
        if place:
            wait_for_all("the evidence is complete")
        hashes = {"pictures_hash": pictures_hash(digests), "data_fingerprint": data} if place else {}
        scores = {
            name: one.result(self.seed, self.level, dict(self.options.get(name, {}))) for name, one in measured.items()
        }
        found = Evaluation(self._about(pictures, count) | hashes | dict(about or {}), scores)
        if place and speaks():
            self._write(place, found, measured, digests)
        return found

    def check(self, pictures: Pictures | None = None) -> int:
        """The number of stories to score, after everything that can be wrong before the first frame is looked at."""
        where = f"the data '{self.source.name}', split '{self.source.split}'"
        count = len(self.source) if self.stories is None else self.stories
        if not 1 <= count <= len(self.source):
            raise StoryjaxError(
                f"expected 1 to {len(self.source)} stories ({where} has {len(self.source)}), got {count}"
            )
        for name, metric in self.metrics.items():
            if "characters" in metric.needs and "characters" not in self.source.table.truth:
                raise StoryjaxError(f"the metric '{name}' needs to know who is in each frame, but {where} does not say")
            metric.check(self.source)
        paired = any(not metric.real_apart for metric in self.metrics.values())
        if isinstance(pictures, PictureFolder) and (paired or not any(map(pictures.has, range(count)))):
            pictures.complete(count)
        return count

    def _about(self, pictures: Pictures, count: int) -> dict[str, Any]:
        return {
            "dataset": self.source.name,
            "split": self.source.split,
            "stories": count,
            "frames_per_story": self.source.frames,
            "given_frames": self.source.given,
            "size": list(self.source.size),
            "seed": self.seed,
            "pictures": pictures.about,
        }

    def _write(self, folder: Path, found: Evaluation, measured: Mapping[str, Measured], digests: Sequence[str]) -> None:
        lines = []
        for story, digest in enumerate(digests):
            told = {name: one.reading(story) for name, one in measured.items()}
            told = {name: value for name, value in told.items() if value is not None}
            about = {"story": story, "id": self.source.table.ids[story], "pictures": digest}
            lines.append(json.dumps(about | told, ensure_ascii=False) + "\n")
        write_whole(folder / LINES, "".join(lines))
        write_whole(folder / RESULT, found.json_text())


def _measure_all(measured: Sequence[Measured], count: int, progress: bool) -> None:
    """Measure what is missing, block by block; of several processes that share a folder each has its own blocks."""
    shared = any(one.own.folder is not None for one in measured)
    mine, processes = (jax.process_index(), jax.process_count()) if shared else (0, 1)
    with tqdm(total=count, unit="story", desc="measure", disable=not progress) as bar:
        for number, start in enumerate(range(0, count, BLOCK)):
            block = range(start, min(start + BLOCK, count))
            if number % processes == mine:
                pictures: dict[tuple[str, int], np.ndarray] = {}  # decoded once for all metrics
                for one in measured:
                    one.measure([story for story in block if one.lacks(story)], pictures)
            bar.update(len(block))


def pictures_hash(digests: Sequence[str]) -> str:
    """One hash of the pictures of all stories."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def digests_of(folder: Path) -> list[str] | None:
    """The digest of each story's pictures of an evaluation that is written in `folder`; None: none is."""
    path = folder / LINES
    if not path.is_file():
        return None
    try:
        return [json.loads(line)["pictures"] for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, KeyError, TypeError) as error:
        raise StoryjaxError(f"'{path}' is no list of stories of an evaluation ({error!r}); evaluate again") from None
