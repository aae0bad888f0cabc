"""The files of PororoSV as its owners distribute them, read as the released loader of ContextualStory reads them.

img_cache4.npy               bytes by story number: path of the first picture ("Pororo_ENGLISH1_1/.../12.png")
following_cache4.npy         bytes by story number: paths of the next four
train_seen_unseen_ids.npy    three lists of story numbers: train, validation ("seen"), test ("unseen")
descriptions_blip2.npy       dict: picture id (the path without ".png") -> captions; of the ready frames
pororo_png_filtered_blip2/   ready frames, <id>.png
descriptions.npy, <id>.png   captions and vertical strips of square frames: what the ready frames were chosen from
labels.npy                   dict: id -> nine 0/1 numbers, the characters; not in every distribution
img_segment/                 <episode>_<number>.png: figure and ground of a strip; of the distribution of CP-CSV only
"""

import collections
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tfds_builders.layout import BrokenStory, Finding, Layout, LayoutError
from tfds_builders.pickled import load_npy
from tfds_builders.pictures import decoded, read_bytes, size_of
from tfds_builders.strips import square_strip

CHARACTERS = ("Pororo", "Loopy", "Crong", "Eddy", "Poby", "Petty", "Tongtong", "Rody", "Harry")
FRAMES = 5
FIRST, NEXT, SPLITS, LABELS = "img_cache4.npy", "following_cache4.npy", "train_seen_unseen_ids.npy", "labels.npy"
OLD_SPLITS = "train_test_ids.npy"
READY, FIGURES = "pororo_png_filtered_blip2", "img_segment"


class PororoLayout(Layout):
    """`variant`: a name ending in "strips" reads the strips, any other the ready frames."""

    data_set = "pororo_sv"
    published: ClassVar[Mapping[str, int]] = {"train": 10_191, "validation": 2_334, "test": 2_208}

    def __init__(self, folder: str | Path, variant: str | None = None):
        super().__init__(folder, variant)
        self.strips = (variant or "").endswith("strips")
        self.captions_file = "descriptions.npy" if self.strips else "descriptions_blip2.npy"
        self.chunk = 4 if self.strips else 16

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return any((folder / name).exists() for name in (FIRST, NEXT, SPLITS, READY))

    def splits(self) -> dict[str, list[int]]:
        """Story numbers, sorted as the loader sorts them; a number that img_cache4.npy does not have is a broken story."""
        held = load_npy(self.folder / SPLITS)
        if not isinstance(held, np.ndarray) or len(held) != 3:
            raise LayoutError(
                f"'{self.folder / SPLITS}' must hold three lists (train, seen, unseen), got {_kind(held)}"
            )
        try:
            return {split: np.sort(np.asarray(ids, np.int64)).tolist() for split, ids in zip(self.published, held)}
        except (TypeError, ValueError, OverflowError) as error:
            raise LayoutError(f"'{self.folder / SPLITS}' must hold story numbers ({error}); get it again") from None

    def story(self, key: int) -> dict[str, Any]:
        ids = self.picture_ids(key)
        found = [self._recent(name) for name in ids]
        wrong = [frame for frame in found if isinstance(frame, str)]
        if wrong:
            raise BrokenStory(f"story {key} ('{ids[0]}'): {'; '.join(dict.fromkeys(wrong))}")
        return {"story_id": ids[0], "number": key, "labelled": self._labels is not None, "frames": found}

    def picture_ids(self, number: int) -> list[str]:
        """The five picture ids of a story. Errors: BrokenStory where the caches have no such story."""
        first, following = self._caches
        if not 0 <= number < len(first):
            raise BrokenStory(f"story {number}: {SPLITS} names it, but {FIRST} ends with story {len(first) - 1}")
        return [_picture_id(path) for path in (first[number], *following[number][: FRAMES - 1])]

    def picture_file(self, name: str) -> Path:
        return self.folder / ("." if self.strips else READY) / f"{name}.png"

    def check(self, *, pictures: bool = False) -> Iterator[Finding]:
        needed = [FIRST, NEXT, SPLITS, self.captions_file, *([] if self.strips else [READY])]
        missing = [name for name in needed if not (self.folder / name).exists()]
        for name in missing:
            yield Finding("missing", f"'{self.folder / name}' {self._why(name)}")
        if missing:
            return
        try:
            splits = self.splits()
            _ = self._captions, self._labels, self._caches  # read, or refused
        except LayoutError as error:
            yield Finding("missing", str(error))
            return
        yield from self._notes(splits)
        yield from self._broken(splits, pictures)

    def _why(self, name: str) -> str:
        if name == READY and (self.folder / f"{READY}.zip").exists():
            return f"is missing, but {READY}.zip is there: unpack it"
        if name == SPLITS and (self.folder / OLD_SPLITS).exists():
            return (
                f"is missing; {OLD_SPLITS} is the older split (train, test) of StoryGAN, with which no story is unseen"
            )
        return "is missing; the README of this builder says where to get it"

    def _notes(self, splits: Mapping[str, Sequence[int]]) -> Iterator[Finding]:
        if self._labels is None:
            yield Finding("note", f"no {LABELS}: the records do not say which characters are in a frame")
        if self.strips and not (self.folder / FIGURES).is_dir():
            yield Finding("note", f"no {FIGURES}/: the records have no figure masks")
        twice = set(splits["test"]) & {*splits["train"], *splits["validation"]}
        if twice:
            yield Finding(
                "note", f"{len(twice)} stories of {SPLITS} are in test and in another split, such as {min(twice)}"
            )

    def _broken(self, splits: Mapping[str, Sequence[int]], pictures: bool) -> Iterator[Finding]:
        """What breaks a story, each thing once, with the number of stories that it breaks."""
        stories: collections.Counter[str] = collections.Counter()
        sizes: collections.Counter[tuple[int, int]] = collections.Counter()
        for number in (number for numbers in splits.values() for number in numbers):
            try:
                stories.update(list(dict.fromkeys(self.picture_ids(number))))
            except BrokenStory as broken:
                yield Finding("broken", str(broken))
        for name, count in stories.items():
            found = self.frame(name) if pictures else self._without_pictures(name)
            if isinstance(found, str):
                yield Finding("broken", f"{found} (in {count} of the stories)")
            elif found is not None:
                sizes[found["strip"][1:] if self.strips else size_of(found["image"])] += 1
        if len(sizes) > 1:
            said = ", ".join(f"{width}x{height} ({count:,})" for (height, width), count in sizes.most_common(4))
            yield Finding("note", f"pictures of {len(sizes)} sizes: {said}; give a size when you open the data set")

    def _without_pictures(self, name: str) -> str | None:
        """What is wrong with a picture as far as names tell."""
        try:
            self._caption(name)
            self._characters(name)
        except BrokenStory as broken:
            return str(broken)
        return None if self.picture_file(name).is_file() else f"picture '{self.picture_file(name)}' does not exist"

    def frame(self, name: str) -> dict[str, Any] | str:
        """The record of one picture, or what is wrong with it."""
        try:
            return self._read_frame(name)
        except BrokenStory as broken:
            return str(broken)

    def _read_frame(self, name: str) -> dict[str, Any]:
        file = self.picture_file(name)
        frame = {"frame_id": name, "sentence": self._caption(name), "characters": self._characters(name)}
        frame["image"] = content = read_bytes(file)
        picture = decoded(content, f"picture '{file}'")
        if self.strips:
            try:
                frame["strip"] = square_strip(picture.height, picture.width)
            except ValueError as error:
                raise BrokenStory(f"strip '{file}' {error}") from None
            frame["figure"] = self._figure(name, picture.size)
        return frame

    def _caption(self, name: str) -> str:
        captions = self._captions.get(name)
        if captions is None or not len(captions):
            raise BrokenStory(f"{self.captions_file} has no caption for '{name}'")
        caption = captions if isinstance(captions, str | bytes) else captions[0]
        caption = caption.decode("latin1") if isinstance(caption, bytes) else caption
        if not isinstance(caption, str) or not caption.strip():
            raise BrokenStory(f"the caption of '{name}' in {self.captions_file} is {caption!r}, not a sentence")
        return caption.lower()

    def _characters(self, name: str) -> list[int]:
        """Numbers of the characters, padded with -1; only -1 where nobody labelled."""
        if self._labels is None:
            return [-1] * len(CHARACTERS)
        flags = self._labels.get(name)
        if flags is None or np.shape(flags) != (len(CHARACTERS),) or not np.isin(flags, (0, 1)).all():
            what = "no entry" if flags is None else f"{flags!r}"
            raise BrokenStory(f"{LABELS} has {what} for '{name}'; expected {len(CHARACTERS)} numbers 0 or 1")
        present = np.flatnonzero(flags).tolist()
        return present + [-1] * (len(CHARACTERS) - len(present))

    def _figure(self, name: str, size: tuple[int, int]) -> bytes:
        """The figure mask of a strip as its file has it; empty where there is none. Errors: it has another size."""
        file = self.folder / FIGURES / ("_".join(name.split("/")[-2:]) + ".png")
        if not file.is_file():
            return b""
        content = read_bytes(file, "mask")
        mask = decoded(content, f"mask '{file}'")
        if mask.size != size:
            raise BrokenStory(
                f"mask '{file}' is {mask.width}x{mask.height} pixels, its picture {size[0]}x{size[1]}; they must be alike"
            )
        return content

    @functools.cached_property
    def _caches(self) -> tuple[list, list]:
        first, following = load_npy(self.folder / FIRST), load_npy(self.folder / NEXT)
        if np.ndim(first) != 1:
            raise LayoutError(f"'{self.folder / FIRST}' must hold one path a story, got {_kind(first)}")
        if np.ndim(following) != 2 or np.shape(following)[1] < FRAMES - 1 or len(following) != len(first):
            raise LayoutError(
                f"'{self.folder / NEXT}' must hold {FRAMES - 1} paths for each of the {len(first)} stories of {FIRST}, got "
                f"{_kind(following)}"
            )
        return first.tolist(), following.tolist()

    @functools.cached_property
    def _captions(self) -> dict[str, Any]:
        return self._by_id(self.captions_file)

    @functools.cached_property
    def _labels(self) -> dict[str, Any] | None:
        return self._by_id(LABELS) if (self.folder / LABELS).exists() else None

    def _by_id(self, file: str) -> dict[str, Any]:
        held = load_npy(self.folder / file)
        if not isinstance(held, dict):
            raise LayoutError(f"'{self.folder / file}' must hold a dictionary by picture id, got {_kind(held)}")
        return {str(name).lstrip("/"): value for name, value in held.items()}

    @functools.cached_property
    def _recent(self):
        """Neighbouring stories share four of five pictures: the last ones read are kept."""
        return functools.lru_cache(2 * FRAMES)(self.frame)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_recent"}


def _picture_id(path: bytes | str) -> str:
    """The path without its extension of four characters, as the loader cuts it."""
    text = path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path)
    return text.lstrip("/")[:-4]


def _kind(held: Any) -> str:
    shape = getattr(held, "shape", None)
    return f"{type(held).__name__}" + (f" of shape {shape}" if shape is not None else "")
