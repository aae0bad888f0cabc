"""The files of FlintstonesSV as its owners distribute them, read as the released loaders read them.

    train-val-test_split.json           {"train", "val", "test"}: lists of clip ids, such as "s_01_e_05_shot_000123_000197"
    flintstones_annotations_v1-0.json   list of {"globalID", "description", "setting", "characters": [{"entityLabel", ...}]}
    video_frames_sampled/<id>.npy       uint8 (frames, H, W, 3), RGB
    entity_tracking/<entity id>.npy     (frames, 4): box (x1, y1, x2, y2) in every frame; of the original data set, optional

A story is a clip and the next four: all ids of all splits are sorted as text, and the four after a clip are its followers if
they are of its season and episode. The first clip's split is the story's, so later frames may be of another split.
"""

import collections
import functools
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from tfds_builders.layout import BrokenStory, Finding, Layout, LayoutError
from tfds_builders.strips import chosen

CHARACTERS = ("Wilma", "Fred", "Betty", "Barney", "Dino", "Pebbles", "Mr Slate")
FRAMES = 5
SPLITS, ANNOTATIONS = "train-val-test_split.json", "flintstones_annotations_v1-0.json"
CLIPS, TRACKING = "video_frames_sampled", "entity_tracking"
_NAMES = {"train": "train", "validation": "val", "test": "test"}


class FlintstonesLayout(Layout):
    """`variant`: a name ending in "clips" takes all frames of each clip, any other the one that the clip's id chooses."""

    data_set = "flintstones_sv"
    published: ClassVar[Mapping[str, int]] = {"train": 20_132, "validation": 2_071, "test": 2_309}

    def __init__(self, folder: str | Path, variant: str | None = None):
        super().__init__(folder, variant)
        self.clips = (variant or "").endswith("clips")
        self.chunk = 4 if self.clips else 16

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return any((folder / name).exists() for name in (SPLITS, ANNOTATIONS, CLIPS))

    def splits(self) -> dict[str, list[str]]:
        """Ids of the first clips in the order of the split file, without those that have no four followers."""
        return {
            split: [clip for clip in self._split[name] if clip in self._followers or place(clip) is None]
            for split, name in _NAMES.items()
        }

    def story(self, key: str) -> dict[str, Any]:
        if place(key) is None:
            raise BrokenStory(f"story '{key}': {_no_id(key)}")
        found = [self._recent(clip) for clip in (key, *self._followers[key])]
        wrong = [frame for frame in found if isinstance(frame, str)]
        if wrong:
            raise BrokenStory(f"story '{key}': {'; '.join(dict.fromkeys(wrong))}")
        return {"story_id": key, "frames": found}

    def check(self, *, pictures: bool = False) -> Iterator[Finding]:
        missing = [name for name in (SPLITS, ANNOTATIONS, CLIPS) if not (self.folder / name).exists()]
        for name in missing:
            packed = name == CLIPS and (self.folder / f"{CLIPS}.zip").exists()
            why = (
                f"but {CLIPS}.zip is there: unpack it" if packed else "the README of this builder says where to get it"
            )
            yield Finding("missing", f"'{self.folder / name}' is missing; {why}")
        if missing:
            return
        try:
            splits = self.splits()
            _ = self._annotations  # read, or refused
        except LayoutError as error:
            yield Finding("missing", str(error))
            return
        if not (self.folder / TRACKING).is_dir():
            yield Finding("note", f"no {TRACKING}/: boxes only where the annotations have one for each frame of a clip")
        yield from self._crossing(splits)
        yield from self._broken(splits, pictures)

    def _crossing(self, splits: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
        of = {clip: split for split, name in _NAMES.items() for clip in self._split[name]}
        held_out = [clip for split in ("validation", "test") for clip in splits[split] if place(clip)]
        crossing = sum(any(of[other] == "train" for other in self._followers[clip]) for clip in held_out)
        if crossing:
            yield Finding("note", f"{crossing} held-out stories have later clips of the train split, as released")

    def _broken(self, splits: Mapping[str, Sequence[str]], pictures: bool) -> Iterator[Finding]:
        """What breaks a story, each thing once, with the number of stories that it breaks."""
        stories: collections.Counter[str] = collections.Counter()
        for clip in (clip for clips in splits.values() for clip in clips):
            if place(clip) is None:
                yield Finding("broken", f"story '{clip}': {_no_id(clip)}")
            else:
                stories.update({clip, *self._followers[clip]})
        sizes: collections.Counter[tuple[int, int]] = collections.Counter()
        for clip, count in sorted(stories.items()):
            found = self.frame(clip) if pictures else self._without_pictures(clip)
            if isinstance(found, str):
                yield Finding("broken", f"{found} (in {count} of the stories)")
            elif pictures:
                sizes[self._clip(clip).shape[1:3]] += 1
        if len(sizes) > 1:
            said = ", ".join(f"{width}x{height} ({count:,})" for (height, width), count in sizes.most_common(4))
            yield Finding("note", f"clips of {len(sizes)} sizes: {said}; give a size when you open the data set")

    def _without_pictures(self, clip: str) -> str | None:
        """What is wrong with a clip as far as names tell."""
        try:
            self._said(clip)
        except BrokenStory as broken:
            return str(broken)
        return None if self._file(clip).is_file() else f"clip '{self._file(clip)}' does not exist"

    def frame(self, clip: str) -> dict[str, Any] | str:
        """The record of one clip, or what is wrong with it."""
        try:
            said = self._said(clip)
            frames = self._clip(clip)
            present = said["characters"] + [-1] * (len(CHARACTERS) - len(said["characters"]))
            frame = {
                "frame_id": clip,
                "sentence": said["description"],
                "setting": said["setting"],
                "characters": present,
            }
            if self.clips:
                count, height, width = frames.shape[:3]
                return frame | {
                    "image": _png(np.asarray(frames).reshape(-1, width, 3)),
                    "strip": (count, height, width),
                }
            number = chosen(clip, len(frames))
            return frame | {"image": _png(np.asarray(frames[number])), "boxes": self._boxes(clip, said, frames, number)}
        except BrokenStory as broken:
            return str(broken)

    def _said(self, clip: str) -> dict[str, Any]:
        """The annotation of a clip. Errors: it has none, or one without caption."""
        said = self._annotations.get(clip)
        if said is None:
            raise BrokenStory(f"{SPLITS} names clip '{clip}', and {ANNOTATIONS} does not know it")
        if isinstance(said, str):
            raise BrokenStory(f"{ANNOTATIONS}: clip '{clip}' {said}")
        return said

    def _file(self, clip: str) -> Path:
        return self.folder / CLIPS / f"{clip}.npy"

    def _clip(self, clip: str) -> np.ndarray:
        """(frames, H, W, 3) uint8, mapped from the file, so that one frame costs one frame. Errors: BrokenStory."""
        file = self._file(clip)
        try:
            frames = np.load(file, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise BrokenStory(f"clip '{file}' does not exist") from None
        except (ValueError, EOFError, OSError) as error:  # no .npy, cut off, pickled
            raise BrokenStory(f"clip '{file}' is damaged ({str(error).splitlines()[0]}); get it again") from None
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
            raise BrokenStory(
                f"clip '{file}' must hold uint8 pictures (frames, H, W, 3), got {frames.dtype} of shape {frames.shape}"
            )
        return frames

    def _boxes(self, clip: str, said: dict[str, Any], frames: np.ndarray, number: int) -> list[list[float]]:
        """(7, 4): (ymin, xmin, ymax, xmax) in 0..1 in the order of `characters`; zeros where no box is known for this frame.

        Boxes are used only where there is one for each frame of the clip: nothing tells which frames were sampled.
        """
        height, width = frames.shape[1:3]
        rows = []
        for entity, boxes in said["entities"]:
            file = self.folder / TRACKING / f"{entity}.npy"
            if file.is_file():
                try:
                    boxes = np.load(file, allow_pickle=False)
                except (ValueError, EOFError, OSError) as error:
                    raise BrokenStory(
                        f"boxes '{file}' are damaged ({str(error).splitlines()[0]}); get them again"
                    ) from None
            known = np.shape(boxes) == (len(frames), 4)
            x1, y1, x2, y2 = np.asarray(boxes[number], float) if known else (0.0,) * 4
            rows.append(np.clip([y1 / height, x1 / width, y2 / height, x2 / width], 0, 1).tolist())
        return rows + [[0.0] * 4] * (len(CHARACTERS) - len(rows))

    @functools.cached_property
    def _split(self) -> dict[str, list[str]]:
        held = _read_json(self.folder / SPLITS)
        wanted = {*_NAMES.values()}
        lists = (
            isinstance(held, dict) and wanted <= held.keys() and all(isinstance(held[name], list) for name in wanted)
        )
        if not lists:
            raise LayoutError(
                f"'{self.folder / SPLITS}' must hold lists of clip ids as train, val and test; get it again"
            )
        return {name: [str(clip) for clip in held[name]] for name in wanted}

    @functools.cached_property
    def _followers(self) -> dict[str, list[str]]:
        return followers([clip for name in ("train", "val", "test") for clip in self._split[name]])

    @functools.cached_property
    def _annotations(self) -> dict[str, dict[str, Any] | str]:
        held = _read_json(self.folder / ANNOTATIONS)
        if not isinstance(held, list) or not all(isinstance(sample, dict) and "globalID" in sample for sample in held):
            raise LayoutError(f"'{self.folder / ANNOTATIONS}' must hold a list of clips with 'globalID'; get it again")
        return {sample["globalID"]: _annotation(sample) for sample in held}

    @functools.cached_property
    def _recent(self):
        """Neighbouring stories share four of five clips: the last ones read are kept."""
        return functools.lru_cache(2 * FRAMES)(self.frame)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_recent"}


def place(clip: str) -> tuple[int, int] | None:
    """(season, episode) of a clip; None for what is no clip id."""
    parts = clip.split("_")
    try:
        return int(parts[1]), int(parts[3])
    except (IndexError, ValueError):
        return None


def followers(clips: Sequence[str]) -> dict[str, list[str]]:
    """The next four clips of each clip that has four of its own season and episode after it, in the order of text."""
    ordered = sorted(clip for clip in clips if place(clip) is not None)
    found = {}
    for start, clip in enumerate(ordered):
        after = ordered[start + 1 : start + FRAMES]
        if all(place(other) == place(clip) for other in after):
            found[clip] = after
    return {clip: after for clip, after in found.items() if len(after) == FRAMES - 1}


def _no_id(clip: str) -> str:
    return f"{SPLITS} names it, and it is no clip id; expected one such as 's_01_e_05_shot_000123_000197'"


def _annotation(sample: Mapping[str, Any]) -> dict[str, Any] | str:
    """What the records need of an annotation, or what is wrong with it. A character counts once, as the loaders count."""
    description, setting, characters = (sample.get(name) for name in ("description", "setting", "characters"))
    if not isinstance(description, str) or not description.strip():
        return f"has the caption {description!r}, not a sentence"
    if not isinstance(characters, list) or not all(isinstance(c, dict) and "entityLabel" in c for c in characters):
        return "has no list of characters with 'entityLabel'"
    names = [str(character["entityLabel"]).strip().lower() for character in characters]
    present = [k for k, name in enumerate(CHARACTERS) if name.lower() in names]
    shown = [characters[names.index(CHARACTERS[k].lower())] for k in present]
    entities = [(str(entity.get("globalID", "")), entity.get("rectangles") or []) for entity in shown]
    text = setting.strip() if isinstance(setting, str) else ""
    return {"description": description.lower(), "setting": text, "characters": present, "entities": entities}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LayoutError(f"'{path}' does not exist; the data set cannot be read without it") from None
    except (OSError, ValueError) as error:
        raise LayoutError(f"'{path}' is no JSON that can be read ({error}); get it again") from None


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
