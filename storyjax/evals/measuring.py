"""One metric on the pictures of a split: what of its evidence is there, measuring what is missing, and the score of all of it.

The evidence of real frames alone is kept for all evaluations of this user, by data and metric, so that it is computed once.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storyjax.checkpoints.paths import cache_folder
from storyjax.data.source import StorySource
from storyjax.errors import StoryjaxError
from storyjax.evals.evaluation import Score, number
from storyjax.evals.evidence import ALONE, EvidenceFolder, filled, joined, other_half, real_half
from storyjax.evals.metric import Evidence, StoryFrames, StoryMetric
from storyjax.evals.sources.generated import Pictures


class Measured:
    """One metric on these pictures: what of its evidence is there, and what must still be measured."""

    def __init__(
        self,
        metric: StoryMetric,
        name: str,
        source: StorySource,
        pictures: Pictures,
        digests: Sequence[str],
        data: Mapping[str, Any],
        folder: Path | None,
    ):
        self.metric, self.name, self.source, self.pictures, self.digests = metric, name, source, pictures, digests
        about = {"metric": name, "about": metric.about, "data": data} if folder else {}
        self.own = EvidenceFolder(folder and folder / "evidence", name, about)
        self.real = EvidenceFolder(cache_folder("evaluation") if folder else None, f"real-{name}", about)

    def real_is_apart(self, story: int) -> bool:
        """Whether the real half of this story's evidence is that of the whole story, whatever pictures there are."""
        return self.metric.real_apart and (not self.pictures.has(story) or self.pictures.shown(story) is None)

    # ----- measuring -------------------------------------------------------------------------------------------------

    def lacks(self, story: int) -> bool:
        """Whether something of this story's evidence is missing."""
        has = self.pictures.has(story)
        if has and self.own.get(story, self.digests[story]) is None:
            return True
        return self.real_is_apart(story) and self.real.get(story, ALONE) is None

    def measure(self, stories: Sequence[int], pictures: dict[tuple[str, int], np.ndarray]) -> None:
        """pictures: what of these stories is decoded already; grows."""
        # Stories whose real half is known are measured without real frames, so they go together, and so do the others.
        for _, group in itertools.groupby(stories, key=self._half_known):
            members = list(group)
            found = self.metric.measure([self._frames(story, pictures) for story in members])
            if len(found) != len(members):
                raise StoryjaxError(
                    f"the metric '{self.name}' gave evidence of {len(found)} stories, expected {len(members)}: one for each"
                )
            self._keep(dict(zip(members, found)))

    def _half_known(self, story: int) -> tuple[bool, bool]:
        known = self.real_is_apart(story) and self.real.get(story, ALONE) is not None
        return known, self.pictures.has(story)

    def _keep(self, found: Mapping[int, Evidence]) -> None:
        apart = {story: (ALONE, real_half(e)) for story, e in found.items() if self.real_is_apart(story)}
        self.real.add({story: pair for story, pair in apart.items() if self.real.get(story, ALONE) is None})
        own = {story: other_half(e) if story in apart else e for story, e in found.items() if self.pictures.has(story)}
        self.own.add({story: (self.digests[story], evidence) for story, evidence in own.items()})

    def _frames(self, story: int, pictures: dict[tuple[str, int], np.ndarray]) -> StoryFrames:
        known, has = self._half_known(story)
        real = None
        if ("real" in self.metric.needs and not known) or not has:
            real = _once(pictures, ("real", story), self.source.images)
        # A story of the real set only: what is seen of its stand-in is left out.
        generated = _once(pictures, ("generated", story), self.pictures.frames) if has else real
        assert generated is not None
        shown = self.pictures.shown(story) if has else None
        kept = list(range(self.source.length(story))) if shown is None else list(shown)
        if real is not None and shown is not None:
            real = real[kept]
        truth = {name: values[story][kept] for name, values in self.source.table.truth.items()}
        return StoryFrames(
            story_id=self.source.table.ids[story],
            sentences=[self.source.sentences(story)[frame] for frame in kept],
            generated=generated,
            real=real,
            characters=truth["characters"].astype(bool) if "characters" in truth else None,
            boxes=self.pictures.boxes(story) if has else None,
            given=sum(frame < self.source.given for frame in kept),
            truth=truth,
        )

    # ----- scoring ---------------------------------------------------------------------------------------------------

    @functools.cached_property
    def evidence(self) -> list[Evidence]:
        """Of all stories in their order, whichever process measured them."""
        self.own.refresh()
        self.real.refresh()
        return filled([found for story in range(len(self.digests)) if (found := self._of(story)) is not None])

    def _of(self, story: int) -> Evidence | None:
        own = self.own.get(story, self.digests[story]) if self.pictures.has(story) else None
        real = self.real.get(story, ALONE) if self.real_is_apart(story) else None
        return None if own is None and real is None else joined(own, real)

    def reading(self, story: int) -> Any:
        found = self._of(story)
        return None if found is None else self.metric.reading(found)

    def result(self, seed: int, level: float, options: dict[str, Any]) -> Score:
        metric, evidence = self.metric, self.evidence
        have = [story for story in range(len(self.digests)) if self.pictures.has(story)]
        interval = metric.interval(evidence, seed=seed, level=level)
        real = self.real.folder if metric.real_apart else None
        return Score(
            title=metric.title,
            better=metric.better,
            value=number(metric.score(evidence)),
            low=number(interval.low),
            high=number(interval.high),
            level=interval.level,
            resamples=interval.resamples,
            stories=len(have),
            frames=sum(map(self._counted, have)),
            real_stories=len(self.digests) if "real" in metric.needs else None,
            about=metric.about,
            options=options,
            evidence=None if self.own.folder is None else self.own.folder.name,
            real_evidence=None if real is None else str(real),
            details=metric.details(evidence, seed=seed),
        )

    def _counted(self, story: int) -> int:
        shown = self.pictures.shown(story)
        return sum(
            frame >= self.source.given for frame in (range(self.source.length(story)) if shown is None else shown)
        )


def _once(
    known: dict[tuple[str, int], np.ndarray], key: tuple[str, int], make: Callable[[int], np.ndarray]
) -> np.ndarray:
    if key not in known:
        known[key] = make(key[1])
    return known[key]
