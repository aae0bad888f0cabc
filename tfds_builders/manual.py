"""Base of the builders whose files the user brings (`manual_dir`): one way to read, to skip, to tell, to use every core."""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from tqdm import tqdm

from tfds_builders.layout import BrokenStory, Key, Layout, LayoutError
from tfds_builders.ordered import OrderedBuilder
from tfds_builders.pictures import size_of
from tfds_builders.reading import ReadStories, cores, in_order

TOLD = 20  # broken stories that are printed; all of them are in LEFT_OUT
LEFT_OUT = "left_out.txt"  # in the folder of the built data set: a line for each story that was left out

__all__ = ["LEFT_OUT", "ManualBuilder", "cores", "in_order"]


class ManualBuilder(OrderedBuilder, skip_registration=True):
    """Reads the user's copy of a data set through the builder's `LAYOUT`.

    Args:
        config: name of one of `BUILDER_CONFIGS`.
        processes: that read; None takes one per core, and one for a few stories.
        skip_broken: leave out stories that cannot be built, and list them at the end; otherwise the first ends the build.
    """

    LAYOUT: ClassVar[type[Layout]]

    def __init__(self, *, processes: int | None = None, skip_broken: bool = False, **kwargs):
        self._processes, self._skip_broken = processes, skip_broken
        self.broken: list[str] = []
        self._sizes: collections.Counter[tuple[int, int]] = collections.Counter()
        super().__init__(**kwargs)

    def layout(self, folder: str | Path) -> Layout:
        return self.LAYOUT(folder, self.builder_config.name)

    def _split_generators(self, dl_manager):
        return self.split_generators(self.layout(self._manual_dir(dl_manager)))

    def split_generators(self, layout: Layout):
        """The examples of each split of `layout`, for builders that do not always need files."""
        splits = {split: keys for split, keys in layout.splits().items() if len(keys)}
        if not splits:
            raise LayoutError(
                f"'{layout.folder}' has no stories in any split; `storyjax data check` says what is missing"
            )
        return {split: self._generate_examples(layout, split, keys) for split, keys in splits.items()}

    def _manual_dir(self, dl_manager) -> Path:
        """The folder of the user's copy. Errors: LayoutError where none is given."""
        try:
            return Path(dl_manager.manual_dir)
        except AssertionError:  # what TFDS raises for a folder that is missing or empty
            raise LayoutError(
                f"your copy of {self.name} is needed (--manual-dir). {self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            ) from None

    def _generate_splits(self, dl_manager, download_config):
        infos = super()._generate_splits(dl_manager, download_config)
        self._tell()
        return infos

    def _generate_examples(self, layout: Layout, split: str, keys: Sequence[Key]):
        processes = self._processes or (1 if len(keys) <= 200 else cores())
        chunks = (keys[start : start + layout.chunk] for start in range(0, len(keys), layout.chunk))
        made = in_order(ReadStories(layout), chunks, processes)
        written = 0
        with tqdm(desc=f"{self.name} {split}", total=len(keys), unit="story", mininterval=1.0) as bar:
            for story in (story for chunk in made for story in chunk):
                bar.update()
                if not isinstance(story, BrokenStory):
                    self._sizes.update(_sizes(story))
                    yield written, story
                    written += 1
                elif self._skip_broken:
                    self.broken.append(f"split {split}: {story}")
                else:
                    raise BrokenStory(f"{story}; mend it, or leave such stories out with --skip-broken")
        if not written:
            raise LayoutError(
                f"none of the {len(keys)} stories of split {split} can be built; the last: {self.broken[-1]}; "
                "`storyjax data check` says what is missing"
            )

    def _tell(self) -> None:
        """Write and print what was left out, and say so where pictures have several sizes."""
        if self.broken:
            Path(self._data_dir, LEFT_OUT).write_text("".join(f"{line}\n" for line in self.broken))
            more = [f"... and {len(self.broken) - TOLD} more, listed in {LEFT_OUT}"] if len(self.broken) > TOLD else []
            print("\n  ".join([f"{self.name}: {len(self.broken)} stories left out:", *self.broken[:TOLD], *more]))
        if len(self._sizes) > 1:
            sizes = ", ".join(f"{width}x{height} ({count:,})" for (height, width), count in self._sizes.most_common(4))
            print(f"{self.name}: pictures of {len(self._sizes)} sizes: {sizes}; give a size when you open the data set")


def _sizes(story: dict[str, Any]) -> list[tuple[int, int]]:
    """(H, W) of a story's pictures, from their headers; of one picture of a strip."""
    frames = story["frames"]
    if isinstance(frames, dict):  # one list for each field
        frames = [dict(zip(frames, values)) for values in zip(*frames.values())]
    return [_size(frame) for frame in frames if isinstance(frame.get("image"), bytes)]


def _size(frame: dict[str, Any]) -> tuple[int, int]:
    if "strip" in frame:
        _, height, width = frame["strip"]
        return int(height), int(width)
    return size_of(frame["image"])
