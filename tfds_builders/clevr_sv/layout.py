"""The released files of CLEVR-SV, and stories drawn here in their place.

CLEVR_dict.npy, images/CLEVR_new_%06d_{1..4}.png and ..._mask.png, as `released.py` tells. The loader of CP-CSV takes stories
0 to 10000 to train and 10000 to 13000 to test: story 10000 is in both, and is left there, because the papers' numbers are of
these splits. That loader also gives every frame the mask of frame 4; here each frame has its own.
"""

import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from tfds_builders.clevr_sv import scene
from tfds_builders.clevr_sv.released import (
    IMAGES,
    NUMBERS_FILE,
    draw_story,
    mask_name,
    opaque_png,
    picture_name,
    story_name,
)
from tfds_builders.layout import BrokenStory, Finding, Layout, LayoutError
from tfds_builders.pickled import load_npy
from tfds_builders.pictures import decoded, read_bytes

# First story and number of stories of each split.
SPLITS: dict[str, tuple[int, int]] = {"train": (0, 10_001), "test": (10_000, 3_001)}
FIGURE = 160  # a mask's value above this is a thing, below it is ground


class ClevrLayout(Layout):
    """A key is the number of a story."""

    data_set = "clevr_sv"
    published: ClassVar[Mapping[str, int]] = {name: count for name, (_, count) in SPLITS.items()}

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return (folder / NUMBERS_FILE).exists() or any((folder / IMAGES).glob("CLEVR_new_*_1.png"))

    def splits(self) -> dict[str, list[int]]:
        """Stories of the papers' ranges that CLEVR_dict.npy names."""
        known = {int(name[10:16]) for name in self._numbers if re.fullmatch(r"CLEVR_new_\d{6}_[1-4]\.png", name)}
        splits = {
            name: [i for i in range(first, first + count) if i in known] for name, (first, count) in SPLITS.items()
        }
        if not any(splits.values()):
            raise LayoutError(
                f"'{self.folder / NUMBERS_FILE}' names no story from {story_name(0)} to {story_name(13_000)}; expected keys "
                f"such as '{picture_name(0, 1)}'"
            )
        return splits

    def story(self, key: int) -> dict[str, Any]:
        name, rows = story_name(key), [self._row(key, frame) for frame in range(1, scene.FRAMES + 1)]
        pictures = [self._picture(key, frame) for frame in range(1, scene.FRAMES + 1)]
        told = scene.sentences(scene.things_of(rows[-1]), name, rows[-1][-3:])
        return _record(name, key, [picture for picture, _ in pictures], [mask for _, mask in pictures], told, rows)

    def check(self, *, pictures: bool = False) -> Iterator[Finding]:
        missing = [name for name in (NUMBERS_FILE, IMAGES) if not (self.folder / name).exists()]
        for name in missing:
            yield Finding(
                "missing", f"'{self.folder / name}' is missing; the README of this builder says where to get it"
            )
        if missing:
            return
        try:
            splits = self.splits()
        except LayoutError as error:
            yield Finding("missing", str(error))
            return
        for split, keys in splits.items():
            if len(keys) != self.published[split]:
                yield Finding("note", f"{split} has {len(keys):,} of the papers' {self.published[split]:,} stories")
        if {10_000} <= set(splits["train"]) & set(splits["test"]):
            yield Finding("note", f"{story_name(10_000)} is in train and in test, as in the papers' splits")
        for key in sorted({key for keys in splits.values() for key in keys}):
            try:
                self.story(key) if pictures else self._look(key)
            except BrokenStory as broken:
                yield Finding("broken", str(broken))

    def _look(self, key: int) -> None:
        """What names and numbers tell of a story. Errors: BrokenStory."""
        for frame in range(1, scene.FRAMES + 1):
            self._row(key, frame)
            for what, name in (("picture", picture_name(key, frame)), ("mask", mask_name(key, frame))):
                if not (self.folder / IMAGES / name).is_file():
                    raise BrokenStory(f"{what} '{self.folder / IMAGES / name}' does not exist")

    def _row(self, key: int, frame: int) -> np.ndarray:
        """The 75 numbers of one frame, float64. Errors: BrokenStory."""
        name = picture_name(key, frame)
        row = self._numbers.get(name)
        if row is None:
            raise BrokenStory(f"{NUMBERS_FILE} has no numbers for '{name}'")
        if np.shape(row) != (scene.NUMBERS,) or not np.isfinite(np.asarray(row, float)).all():
            raise BrokenStory(f"{NUMBERS_FILE}, '{name}': expected {scene.NUMBERS} numbers, got {_short(row)}")
        try:
            count = len(scene.things_of(row))
        except ValueError as error:
            raise BrokenStory(f"{NUMBERS_FILE}, '{name}': {error}") from None
        if count != frame or np.asarray(row)[frame * scene.SLOT : -3].any():
            raise BrokenStory(f"{NUMBERS_FILE}, '{name}': expected the first {frame} slots filled, got {count} filled")
        return np.asarray(row, float)

    def _picture(self, key: int, frame: int) -> tuple[bytes, bytes]:
        """Picture and mask of one frame, both RGBA PNG. Errors: BrokenStory."""
        file, mask_file = (self.folder / IMAGES / name(key, frame) for name in (picture_name, mask_name))
        content, mask_content = read_bytes(file), read_bytes(mask_file, "mask")
        picture, mask = decoded(content, f"picture '{file}'"), decoded(mask_content, f"mask '{mask_file}'")
        if mask.size != picture.size:
            raise BrokenStory(
                f"mask '{mask_file}' is {mask.width}x{mask.height} pixels, its picture {picture.width}x{picture.height}; they "
                "must be alike"
            )
        return _opaque(content, picture), _opaque(mask_content, mask)

    @functools.cached_property
    def _numbers(self) -> dict[str, Any]:
        held = load_npy(self.folder / NUMBERS_FILE)
        if not isinstance(held, dict):
            raise LayoutError(
                f"'{self.folder / NUMBERS_FILE}' must hold a dictionary by picture name, got {type(held).__name__}"
            )
        return {str(name): value for name, value in held.items()}


class DrawnLayout(Layout):
    """Nothing on disk: story `key` of `seed` is drawn as it is asked for.

    Args:
        stories: first story and number of stories of each split.
    """

    data_set = "clevr_sv"

    def __init__(self, stories: Mapping[str, tuple[int, int]], seed: int = 0):
        super().__init__(Path())
        self.stories, self.seed = dict(stories), seed

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return False

    def check(self, *, pictures: bool = False) -> Iterator[Finding]:
        return iter(())

    def splits(self) -> dict[str, range]:
        return {name: range(first, first + count) for name, (first, count) in self.stories.items()}

    def story(self, key: int) -> dict[str, Any]:
        drawn, pictures, masks = draw_story(self.seed, key)
        told = scene.sentences(drawn.things, story_name(key))
        return _record(story_name(key), key, pictures, masks, told, scene.attributes(drawn.things))


def _record(name: str, key: int, pictures, masks, told, rows) -> dict[str, Any]:
    frames = []
    for picture, mask, sentence, row in itertools.zip_longest(pictures, masks, told, rows):
        present = np.flatnonzero(scene.labels(row)).tolist()
        frames.append(
            {
                "image": picture,
                "figure": mask,
                "sentence": sentence,
                "characters": present + [-1] * (len(scene.LABELS) - len(present)),
                "attributes": np.asarray(row, np.float32),
            }
        )
    return {"story_id": name, "number": key, "frames": frames}


def _opaque(content: bytes, picture: Image.Image) -> bytes:
    """`content`, or the same colours as an opaque RGBA PNG: the loader looks at the colours alone."""
    if picture.format == "PNG" and picture.mode == "RGBA" and picture.getextrema()[3] == (255, 255):
        return content
    return opaque_png(np.asarray(picture.convert("RGBA"))[..., :3])


def _short(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}" + (f" of shape {shape}" if shape is not None else "")
