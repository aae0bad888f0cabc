"""Generated pictures in a folder, matched with the stories of a split: every file has its frame, every frame its file."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storyjax.config import nearest
from storyjax.data.images import Size, picture_size, read_picture
from storyjax.data.source import StorySource
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Box
from storyjax.evals.sources.boxes import read_boxes
from storyjax.evals.sources.drawing import check_drawn_for, drawn_from
from storyjax.evals.sources.generated import Pictures
from storyjax.evals.sources.layouts import Found, Layout, layout_of

BOXES = "boxes.json"


class PictureFolder(Pictures):
    """The pictures of a folder; `size` (H, W), `frames_per_story` where the layout tells. `of` matches them with a split.

    Errors when it is opened: no known layout, no pictures, pictures of different sizes, one that is no picture.
    """

    def __init__(self, path: str | Path, layout: str | None = None):
        self.path = Path(path)
        self.layout: Layout = layout_of(self.path, layout)
        self.found: Found = self.layout.find(self.path)
        files = self.found.files()
        if not files:
            raise StoryjaxError(f"'{self.path}' has no pictures (layout {self.layout.name})")
        self.size: Size = _one_size(files)
        self.about: dict[str, Any] = {"name": str(self.path), "layout": self.layout.name}
        if drawn := drawn_from(self.found.root or self.path):
            self.about |= {name: value for name, value in drawn["about"].items() if name != "data"}
            self.about["drawn_with"] = [
                "{batch_size} stories on {devices} devices".format(**run) for run in drawn["runs"]
            ]
        self._files: list[dict[int, Path]] = []  # of each story: frame -> file
        self._dropped: set[tuple[int, int]] = set()  # frames whose file shows a later story
        self._source: StorySource | None = None
        self._boxes: dict[str, list[list[Box]]] = {}

    @property
    def frames_per_story(self) -> int | None:
        """As many as all stories of the folder have; None where the layout does not tell, or they differ."""
        counts = {max(frames) + 1 for frames in self.found.numbered.values() if frames}
        counts |= {len(files) for _, _, files in self.found.told}
        return counts.pop() if len(counts) == 1 else None

    def of(self, source: StorySource) -> "PictureFolder":
        """Match with the stories of a split. Errors: pictures of stories, frames or names that the split does not have."""
        check_drawn_for(self.found.root or self.path, source)
        self._source = source
        self._files = [{} for _ in range(len(source))]
        if self.found.numbered:
            self._match_numbers(source)
        elif self.found.told:
            self._match_sentences(source)
        else:
            self._match_names(source)
        boxes = self.path / BOXES
        self._boxes = read_boxes(boxes) if boxes.is_file() else {}
        return self

    def complete(self, count: int) -> None:
        """Error unless the first `count` stories are all there, each with all its frames."""
        missing = [story for story in range(count) if not self._files[story]]
        if missing:
            first = missing[0]
            where = f"split '{self._where.split}' of '{self._where.name}'"
            hint = (
                f"; --stories {first} evaluates those before it"
                if missing == list(range(first, count)) and first
                else ""
            )
            raise StoryjaxError(
                f"'{self.path}' has pictures of {count - len(missing)} of {count} stories of {where}: story {first} "
                f"('{self._where.table.ids[first]}') is missing{hint}"
            )

    # ----- as an evaluation asks -------------------------------------------------------------------------------------

    def has(self, story: int) -> bool:
        return bool(self._files[story]) and bool(self._wanted(story))

    def shown(self, story: int) -> Sequence[int] | None:
        """All frames, but of a layout where the last story wins only those that show this story."""
        if not self.layout.last_wins:
            return None
        return [frame for frame in range(self._where.length(story)) if (story, frame) not in self._dropped]

    def frames(self, story: int) -> np.ndarray:
        """Errors: a picture that is cut off or no picture; each with the file's name."""
        real: np.ndarray | None = None
        pictures = []
        for frame in self._wanted(story):
            path = self._files[story].get(frame)
            if path is None:  # a frame that was given to the model, and not written
                real = self._where.images(story) if real is None else real
                pictures.append(real[frame])
            else:
                pictures.append(np.asarray(read_picture(path), np.uint8))
        other = next((p for p in pictures if p.shape != pictures[0].shape), None)
        if other is not None:
            raise StoryjaxError(
                f"'{self.path}': the frames of story {story} that were given are {_px(other.shape)}, its pictures "
                f"{_px(pictures[0].shape)}; give --size {self.size[0]}"
            )
        return np.stack(pictures)

    def digest(self, story: int) -> str:
        """Of the files' bytes; nothing is decoded."""
        digest = hashlib.blake2b(digest_size=16)
        for frame in self._wanted(story):
            path = self._files[story].get(frame)
            digest.update(f"{frame}:".encode() + (b"" if path is None else path.read_bytes()))
        digest.update(repr(self._told_boxes(story)).encode())
        return digest.hexdigest()

    def boxes(self, story: int) -> Sequence[Sequence[Box]] | None:
        """Error: boxes of fewer or more frames than the story has."""
        told = self._told_boxes(story)
        if told is None:
            return None
        if len(told) != self._where.length(story):
            raise StoryjaxError(
                f"'{self.path / BOXES}': story '{self._where.table.ids[story]}' has boxes of {len(told)} frames, expected "
                f"{self._where.length(story)}, with an empty list where nobody is"
            )
        return [told[frame] for frame in self._wanted(story)]

    def _told_boxes(self, story: int) -> list[list[Box]] | None:
        return self._boxes.get(self._where.table.ids[story], self._boxes.get(str(story)))

    # ----- matching --------------------------------------------------------------------------------------------------

    @property
    def _where(self) -> StorySource:
        assert self._source is not None, "match the folder with a split first"
        return self._source

    def _wanted(self, story: int) -> Sequence[int]:
        shown = self.shown(story)
        return range(self._where.length(story)) if shown is None else shown

    def _match_numbers(self, source: StorySource) -> None:
        for story, frames in self.found.numbered.items():
            folder = next(iter(frames.values())).parent if frames else self.path / str(story)
            if story >= len(source):
                raise StoryjaxError(
                    f"'{folder}' is story {story}, but split '{source.split}' of '{source.name}' has only "
                    f"{len(source)} (0 to {len(source) - 1}); is it another split?"
                )
            length = source.length(story)
            beyond = [number for number in frames if number >= length]
            if beyond:
                raise StoryjaxError(
                    f"'{frames[beyond[0]]}' is frame {beyond[0]}, but that story of '{source.name}' has {length} (0 to "
                    f"{length - 1})"
                )
            missing = [number for number in range(source.given, length) if number not in frames]
            if missing:
                raise StoryjaxError(f"'{folder}' has no frame {missing[0]}; expected {length} frames")
            self._files[story] = dict(frames)

    def _match_sentences(self, source: StorySource) -> None:
        places = defaultdict(list)
        for story in reversed(range(len(source))):
            places[tuple(source.sentences(story))].append(story)
        for manifest, sentences, files in self.found.told:
            if not places.get(sentences):
                raise StoryjaxError(
                    f"'{manifest}' tells a story that split '{source.split}' of '{source.name}' does not have (it begins "
                    f"'{sentences[0] if sentences else ''}'); its sentences must be those of the split"
                )
            self._files[places[sentences].pop()] = dict(enumerate(files))

    def _match_names(self, source: StorySource) -> None:
        whole = self.layout.last_wins
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for story in range(len(source)):
            names = source.picture_names(story)
            if names is None:
                raise StoryjaxError(
                    f"'{self.path}' names its pictures (layout {self.layout.name}), but '{source.name}' does not keep what its "
                    f"pictures are called; lay them out by story: {self.path}/00000/0.png"
                )
            for frame, name in enumerate(names):
                places[name if whole else name.rpartition("/")[2]].append((story, frame))
        for name, path in self.found.named.items():
            if name not in places:
                raise StoryjaxError(
                    f"'{path}': split '{source.split}' of '{source.name}' has no picture '{name}'{_near(name, places)}"
                )
            drawn = [place for place in places[name] if place[1] >= source.given] or places[name]
            last = max(drawn)
            for story, frame in drawn:
                self._files[story][frame] = path
                if whole and (story, frame) != last:
                    self._dropped.add((story, frame))
        self._check_named(source)

    def _check_named(self, source: StorySource) -> None:
        """Error where a story has some of its pictures; frames that the model was given need none."""
        for story, files in enumerate(self._files):
            needed = range(source.given, source.length(story))
            missing = [frame for frame in needed if frame not in files]
            if missing and len(missing) < len(needed):
                name = (source.picture_names(story) or [])[missing[0]]
                raise StoryjaxError(
                    f"'{self.path}' has no picture '{name}': story {story} ('{source.table.ids[story]}'), frame {missing[0]}"
                )
            if missing:
                files.clear()
            if self.layout.last_wins:
                self._dropped |= {(story, frame) for frame in range(source.length(story)) if frame not in files}


def _one_size(files: Sequence[Path]) -> Size:
    """The size of all pictures, by their headers."""
    first = picture_size(files[0])
    for path in files[1:]:
        size = picture_size(path)
        if size != first:
            raise StoryjaxError(
                f"pictures of different sizes: '{files[0]}' is {_px(first)}, '{path}' is {_px(size)}; bring all of them to one "
                "size, the same way"
            )
    return first


def _near(name: str, names: Any) -> str:
    """The nearest name; never all of thousands."""
    told = nearest(name, list(names))
    return told if told.startswith("; did") else f"; expected one such as '{next(iter(names))}'"


def _px(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"
