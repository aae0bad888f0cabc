"""A data set of a few small stories that the user brings: a layout, its builder, and a tree of files. Workers import this."""

import io
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from tfds_builders.layout import BrokenStory, Finding, Layout
from tfds_builders.manual import ManualBuilder

STORIES = {"train": 30, "test": 5}
FRAMES, SIZE = 3, 24


def write_tree(folder: Path, stories: dict[str, int] | None = None, size: int = SIZE, seed: int = 0) -> Path:
    """`<split>/<story>/<frame>.png`, every picture of its own noise."""
    rng = np.random.default_rng(seed)
    for split, count in (stories or STORIES).items():
        for story in range(count):
            here = folder / split / f"{story:04d}"
            here.mkdir(parents=True)
            for frame in range(FRAMES):
                Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).save(here / f"{frame}.png")
    return folder


def png(size: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (size, size)).save(out, "PNG")
    return out.getvalue()


class TinyLayout(Layout):
    data_set = "tiny_manual"
    chunk = 4

    @classmethod
    def recognises(cls, folder):
        return (folder / "train").is_dir()

    def check(self, *, pictures=False):
        if not self.recognises(self.folder):
            yield Finding("missing", f"'{self.folder}' has no folder train")

    def splits(self):
        return {
            split: sorted(str(path.relative_to(self.folder)) for path in (self.folder / split).iterdir())
            for split in STORIES
        }

    def story(self, key):
        return {"story_id": key, "title": "", "frames": [self._frame(self.folder / key, f) for f in range(FRAMES)]}

    def _frame(self, here, frame):
        content = (here / f"{frame}.png").read_bytes()
        try:
            with Image.open(io.BytesIO(content)) as picture:
                picture.load()
        except OSError:
            raise BrokenStory(f"'{here / f'{frame}.png'}' is no picture") from None
        return {"image": content, "sentence": f"Part {frame} of story {here.name}."}


class TinyManual(ManualBuilder):
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Made by the test."
    BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name="all")]
    LAYOUT = TinyLayout

    def _info(self):
        features = tfds.features
        frame = {"image": features.Image(shape=(None, None, 3), encoding_format="png"), "sentence": features.Text()}
        record = {"story_id": features.Text(), "title": features.Text(), "frames": features.Sequence(frame)}
        return self.dataset_info_from_configs(features=features.FeaturesDict(record), disable_shuffling=True)
