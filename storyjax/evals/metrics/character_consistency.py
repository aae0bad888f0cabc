"""Do characters and things stay themselves? aCCS and aFID (Story-Adapter, arXiv 2410.06244, section 4; TheaterGen, arXiv
2404.18919).

Every named object is cut out of each frame it is in. The first cut-out is the reference; an object counts if there is a later one.

    aCCS: mean CLIP-I of the later cut-outs with the reference
    aFID: Frechet distance of Inception features between the reference and the set of later cut-outs

One picture has no covariance. TheaterGen's script compares the later cut-outs with as many copies of the reference, and
copies have the covariance zero; the same is done here:  aFID of an object = |reference - mean|^2 + trace of the later
ones' covariance.
"""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Evidence, MeanMetric, StoryFrames
from storyjax.evals.metrics.frames import by_story, counted
from storyjax.evals.networks.clip_network import VIT_B32, ClipNetwork, cosine
from storyjax.evals.networks.finding import Finder, Names, finder_of
from storyjax.evals.networks.pictures import cut_out, stretched
from storyjax.evals.sources.boxes import is_there

Over = Literal["object", "story"]
Missed = Literal["skip", "zero"]
SIDE = 299  # of the cut-outs that Inception looks at
BLACK = np.zeros((1, 1, 3), np.uint8)


@dataclasses.dataclass(frozen=True)
class Recurring:
    """An object that is in several frames: pictures (H, W, 3). None: it should be there and was not found."""

    name: str
    reference: np.ndarray
    later: list[np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class Counting:
    """How objects make one number.

    over: the mean "object" by object (the paper's words), or first within a "story", then over stories (TheaterGen's script).
    missed: an object that its boxes say should be there and is not: "skip" it, or count similarity "zero" and a black
    cut-out (TheaterGen's script). finder: where boxes come from that the stories do not bring.
    """

    over: str = "object"
    missed: str = "skip"
    finder: Finder | None = None

    def __post_init__(self) -> None:
        for name, value, known in (("over", self.over, get_args(Over)), ("missed", self.missed, get_args(Missed))):
            if value not in known:
                raise StoryjaxError(f"aCCS and aFID: unknown {name} '{value}'{nearest(value, list(known))}")

    @property
    def about(self) -> dict[str, Any]:
        boxes = "with the stories" if self.finder is None else self.finder.about
        return {"over": self.over, "missed": self.missed, "boxes": boxes}

    def recurring(self, story: StoryFrames) -> list[Recurring]:
        """Objects of the frames that count, by name, of which at least one later cut-out counts. Of several boxes of a name in a
        frame the first is taken. Error: no boxes, or not a list for each frame."""
        boxes = story.boxes if story.boxes is not None or self.finder is None else self.finder.find(story)
        if boxes is None:
            raise StoryjaxError(
                f"story '{story.story_id}' has no boxes to cut characters out; give a file of boxes, or a detector and names"
            )
        if len(boxes) != len(story.generated):
            raise StoryjaxError(
                f"story '{story.story_id}': expected boxes for each of {len(story.generated)} frames, got {len(boxes)} lists"
            )
        cuts: dict[str, list[np.ndarray | None]] = {}
        for number in counted(story):
            first = {box.name: box for box in reversed(boxes[number])}
            for name, box in first.items():
                cuts.setdefault(name, []).append(cut_out(story.generated[number], box) if is_there(box) else None)
        found = [self._object(name, cuts[name]) for name in sorted(cuts)]
        return [each for each in found if each is not None]

    def _object(self, name: str, cuts: list[np.ndarray | None]) -> Recurring | None:
        start = next((i for i, cut in enumerate(cuts) if cut is not None), None)
        if start is None:
            return None
        reference = cuts[start]
        assert reference is not None
        later = [cut for i, cut in enumerate(cuts) if i != start and (cut is not None or self.missed == "zero")]
        return Recurring(name, reference, later) if later else None


class _Consistency(MeanMetric):
    """One value an object, or a story."""

    needs = frozenset({"boxes"})

    def __init__(self, network: Any, counting: Counting | None = None):
        self.network, self.counting = network, counting or Counting()

    @property
    def about(self) -> dict[str, Any]:
        return self.network.about | self.counting.about


class ACCS(_Consistency):
    """Average character-to-character similarity: a `ClipNetwork` looks at the cut-outs."""

    name: ClassVar[str] = "accs"
    title: ClassVar[str] = "aCCS"
    better = "higher"

    @classmethod
    def open(
        cls,
        *,
        model: str | Path = VIT_B32.name,
        boxes: str | Path | None = None,
        detector: str | Path | None = None,
        names: Names | str | Path | None = None,
        threshold: float = 0.1,
        over: str = "object",
        missed: str = "skip",
        batch: int = 16,
    ) -> "ACCS":
        """model: OpenAI's ViT-B/32 on the hub, or a folder with it. boxes: a file of `boxes.read_boxes`; or detector:
        OWL-ViT on the hub or a folder with it, names to look for, and the probability from which a box counts; or neither, and the
        stories bring boxes. over, missed: as `Counting`. Errors: weights that are not here and cannot be fetched."""
        finder = finder_of(boxes, detector, names, threshold)
        network = ClipNetwork.open(model, published=VIT_B32.name, what=cls.title, batch=batch)
        return (cls if finder is None else FindingACCS)(network, Counting(over, missed, finder))

    def measure(self, stories: Sequence[StoryFrames]) -> list[Evidence]:
        """{"values": (n,) float64}, n objects that recur; 1 or 0 where counted by story."""
        objects = [self.counting.recurring(story) for story in stories]
        vectors = by_story([_pictures(each) for each in objects], self.network.images)
        return [{"values": self._story(each, rows)} for each, rows in zip(objects, vectors)]

    def _story(self, objects: list[Recurring], rows: np.ndarray) -> np.ndarray:
        values, at = [], 0
        for each in objects:
            there = sum(cut is not None for cut in each.later)
            similar = cosine(rows[at + 1 : at + 1 + there], rows[at])
            values.append(similar.sum() / len(each.later))  # the missed ones count zero
            at += 1 + there
        return _over(np.array(values, np.float64), self.counting.over)


class FindingACCS(ACCS):
    """The same with boxes of its own."""

    needs = frozenset()


Distance = Callable[[np.ndarray, np.ndarray], float]  # Frechet distance of two sets (N, D)


class AFID(_Consistency):
    """Average Frechet Inception distance of later cut-outs from the reference; `network` is the metric FID, of which it takes the
    network of features, uint8 (N, H, W, 3) -> (N, D), and what it depends on.

    Over objects: of those with two later cut-outs or more (one has no covariance). Over stories: one distance a story, between
    all its later cut-outs and the reference of each, by `distance`.
    """

    name: ClassVar[str] = "afid"
    title: ClassVar[str] = "aFID"
    better = "lower"

    def __init__(self, network: Any, counting: Counting | None = None, distance: Distance | None = None):
        super().__init__(network, counting)
        if self.counting.over == "story" and distance is None:
            raise StoryjaxError("aFID over stories needs a Frechet distance of two sets; pass distance=")
        self._distance = distance

    @classmethod
    def open(
        cls,
        *,
        boxes: str | Path | None = None,
        detector: str | Path | None = None,
        names: Names | str | Path | None = None,
        threshold: float = 0.1,
        over: str = "object",
        missed: str = "skip",
    ) -> "AFID":
        """As `ACCS.open`, with the Inception network of FID. Errors: weights that are not here and cannot be fetched."""
        finder = finder_of(boxes, detector, names, threshold)
        network = importlib.import_module("storyjax.evals.metrics.fid").FID.open()  # its weights, resize and record
        distance = importlib.import_module("storyjax.evals.metrics.frechet").frechet_distance
        return (cls if finder is None else FindingAFID)(network, Counting(over, missed, finder), distance)

    @property
    def about(self) -> dict[str, Any]:
        cut = f"cut-outs stretched to {SIDE} x {SIDE}, bicubic (Pillow); not saved as JPEG in between"
        return super().about | {"cut": cut}

    def measure(self, stories: Sequence[StoryFrames]) -> list[Evidence]:
        """{"values": (n,) float64}, n objects with two later cut-outs or more; 1 or 0 where counted by story."""
        objects = [self.counting.recurring(story) for story in stories]
        cuts = [[c for each in found for c in (each.reference, *each.later)] for found in objects]
        rows = by_story([[stretched(BLACK if c is None else c, SIDE) for c in each] for each in cuts], self._look)
        return [{"values": self._story(found, each.astype(np.float64))} for found, each in zip(objects, rows)]

    def _look(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        return self.network.network(np.stack(pictures)) if pictures else np.zeros((0, 1), np.float32)

    def _story(self, objects: list[Recurring], rows: np.ndarray) -> np.ndarray:
        parts = np.split(rows, np.cumsum([1 + len(each.later) for each in objects])[:-1]) if objects else []
        if self._distance is None or self.counting.over == "object":
            return np.array([_from_one(part[0], part[1:]) for part in parts if len(part) > 2], np.float64)
        later = np.concatenate([part[1:] for part in parts]) if parts else rows
        if len(later) < 2:
            return np.zeros(0)
        references = np.concatenate([np.repeat(part[:1], len(part) - 1, axis=0) for part in parts])
        return np.array([self._distance(references, later)], np.float64)


class FindingAFID(AFID):
    """The same with boxes of its own."""

    needs = frozenset()


def _from_one(reference: np.ndarray, later: np.ndarray) -> float:
    """Frechet distance between copies of one vector (D,) and a set (n, D), n > 1, float64."""
    return float(np.square(reference - later.mean(axis=0)).sum() + later.var(axis=0, ddof=1).sum())


def _pictures(objects: list[Recurring]) -> list[np.ndarray]:
    return [cut for each in objects for cut in (each.reference, *each.later) if cut is not None]


def _over(values: np.ndarray, over: str) -> np.ndarray:
    return values.mean(keepdims=True) if over == "story" and len(values) else values
