"""Which stories a run reads."""

import dataclasses

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
    threads: int = 2  # that read ahead
    random_frames: bool = False  # of frames with several pictures, draw one anew in every epoch

    def open(self, split: str) -> StorySource:
        """The stories of "train", "validation" or "test"."""
        return open_source(self.name, split, data_dir=self.data_dir, size=self.size, frames=self.frames)
