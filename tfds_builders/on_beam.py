"""The stories of a split as an Apache Beam transform. Needs apache_beam: imported only where a build is to run on Beam."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import apache_beam as beam
from apache_beam.metrics.metric import Metrics, MetricsFilter
from apache_beam.pvalue import AsSingleton, TaggedOutput
from apache_beam.utils.shared import Shared
from etils import epath

from tfds_builders.layout import BrokenStory, Key

NAMESPACE = "storyjax"  # of the counters: `train.stories` and `train.broken` for split train
_STORIES, _BROKEN, _SIZES = "stories", "broken", "sizes"


class Reader(Protocol):
    """What makes records: a `Layout`, or anything else with its `story`."""

    def story(self, key: Key) -> dict[str, Any]: ...


class _Read(beam.DoFn):
    """(position, key) to (position, record). What cannot be built and the sizes of pictures are outputs of their own."""

    def __init__(
        self, make: Callable[[], Reader], split: str, skip_broken: bool, sizes: Callable[[dict], Iterable] | None
    ):
        self._make, self._split, self._skip_broken, self._sizes = make, split, skip_broken, sizes
        self._shared = Shared()
        self._reader: Reader | None = None

    def setup(self):
        # One reader for all threads of a worker: it may hold the tables of the whole data set.
        self._reader = self._shared.acquire(self._make)

    def process(self, numbered: tuple[int, Key]):
        assert self._reader is not None
        position, key = numbered
        try:
            story = self._reader.story(key)
        except BrokenStory as broken:
            Metrics.counter(NAMESPACE, f"{self._split}.{_BROKEN}").inc()
            if not self._skip_broken:
                raise
            yield TaggedOutput(_BROKEN, (position, str(broken)))
            return
        Metrics.counter(NAMESPACE, f"{self._split}.{_STORIES}").inc()
        if self._sizes:
            yield from (TaggedOutput(_SIZES, tuple(size)) for size in self._sizes(story))
        yield position, story


class StoriesOf(beam.PTransform):
    """Position and record of each story of `keys`; TFDS's writer sorts by position.

    Args:
        make: opens the data set in a worker.
        note: a file for what was left out and the sizes of pictures, for `read_note`; None: neither is asked for.
        skip_broken: leave out stories that cannot be built; otherwise the first ends the pipeline.
        sizes: (H, W) of each picture of a record.
    """

    def __init__(
        self,
        make: Callable[[], Reader],
        split: str,
        keys: Sequence[Key],
        note: str | None = None,
        *,
        skip_broken: bool = False,
        sizes: Callable[[dict], Iterable] | None = None,
    ):
        super().__init__()
        self._read, self._keys, self._note = _Read(make, split, skip_broken, sizes), keys, note

    def expand(self, pipeline: Any):
        read = (
            pipeline
            | "Keys" >> beam.Create(list(enumerate(self._keys)))
            | "Read" >> beam.ParDo(self._read).with_outputs(_BROKEN, _SIZES, main=_STORIES)
        )
        if self._note:
            counts = (
                read[_SIZES] | "CountSizes" >> beam.combiners.Count.PerElement() | "Sizes" >> beam.combiners.ToList()
            )
            broken = read[_BROKEN] | "Broken" >> beam.combiners.ToList()
            _ = broken | "Note" >> beam.Map(_write_note, AsSingleton(counts), self._note)
        return read[_STORIES]


def _write_note(broken: list[tuple[int, str]], sizes: list[tuple[tuple[int, int], int]], path: str) -> None:
    content = {"broken": [what for _, what in sorted(broken)], "sizes": [[*size, count] for size, count in sizes]}
    epath.Path(path).write_text(json.dumps(content))


def read_note(path: str) -> tuple[list[str], dict[tuple[int, int], int]]:
    """What was left out, in the order of the split, and how many pictures have each size; the file is removed."""
    note = json.loads(epath.Path(path).read_text())
    epath.Path(path).unlink()
    return note["broken"], {(height, width): count for height, width, count in note["sizes"]}


def counted(result: Any) -> dict[str, int]:
    """The counters of a finished pipeline, such as {"train.stories": 10190, "train.broken": 1}."""
    counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    return {counter.key.metric.name: counter.result for counter in counters}
