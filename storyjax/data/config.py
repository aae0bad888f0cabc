"""Which stories a run reads."""

import dataclasses
from collections.abc import Sequence

from storyjax.data.batch import BatchSpec
from storyjax.data.pipeline import Batches, make_batches
from storyjax.data.records import open_source
from storyjax.data.source import StorySource


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """A built dataset by name, or a folder of pictures with `stories.json`."""

    name: str = "cartoon_stories"
    data_dir: str | None = None  # where built datasets lie; None: $STORYJAX_DATA or the cache folder
    size: int = 128  # pixels on a side
    frames: int = 5
    train_split: str = "train"  # "train[:10000]" trains on the first ten thousand stories
    seed: int = 0  # of the order of the stories
    threads: int = 2  # that read ahead; of each worker, where there are any
    workers: int = 0  # processes that read ahead; `storyjax data bench` says whether they help
    random_frames: bool = False  # of frames with several pictures, draw one anew in every epoch

    def open(self, split: str) -> StorySource:
        """The stories of "train", "validation" or "test"."""
        return open_source(self.name, split, data_dir=self.data_dir, size=self.size, frames=self.frames)

    def batches(self, source: StorySource, spec: BatchSpec, batch_size: int, rows: Sequence[int]) -> Batches:
        """The endless stream that training on pictures reads, as this says to read it; arguments as of `make_batches`."""
        return make_batches(
            source,
            spec,
            batch_size,
            self.seed,
            threads=self.threads,
            workers=self.workers,
            rows=rows,
            random_frames=self.random_frames,
        )
