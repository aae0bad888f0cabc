"""The user's own stories: a folder of pictures and one `stories.json`, read with the same element format as a dataset.

    [{"title": "The lost kite",
      "frames": [{"image": "kite/1.png", "sentence": "Mia runs with her kite.", "characters": ["Mia"], "place": "park"},
                 {"image": "kite/2.png", "sentence": "It flies away."}]}]

Only `image` (relative to the folder) and `sentence` are needed. A story may say `"split": "test"`; the default is train.
"""

import collections
import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from storyjax.config import nearest
from storyjax.data.images import Size, as_size, fit_picture, picture_size, read_picture
from storyjax.data.labels import Labels, labels_from_frames
from storyjax.data.source import StorySource, StoryTable, settle_frames
from storyjax.errors import StoryjaxError

STORIES = "stories.json"
ALL = "all"  # the split that holds every story, whatever split it names


class PicturesResizedWarning(UserWarning):
    """Pictures of a folder do not have the wanted size and are resized and centre-cropped."""


class FolderFrame(pydantic.BaseModel, extra="forbid"):
    image: str
    sentence: str
    characters: list[str] = []
    place: str | None = None
    weather: str | None = None
    action: str | None = None


class FolderStory(pydantic.BaseModel, extra="forbid"):
    frames: list[FolderFrame]
    title: str = ""
    story_id: str = ""
    split: str = "train"


class FolderSource(StorySource):
    """Stories of the folder `path`; arguments and item format as `open_source` and `StorySource` tell.

    Every picture is looked at (its header) when the folder is opened, so that a missing or broken file is known before
    the training starts. Truth: `characters`, `place`, `weather` and `action` where at least one frame gives them (-1
    where a frame does not), `names_characters` and `names_place` by looking for the names in the sentence.
    """

    def __init__(
        self,
        path: str | Path,
        split: str = "train",
        size: int | tuple[int, int] | None = None,
        frames: int | None = None,
    ):
        self.path, self.split = Path(path), split
        self.name = self.path.resolve().name
        where = f"'{self.path / STORIES}'"
        stories = _of_split(where, _read_stories(self.path / STORIES), split)
        ids = [story.story_id or f"story {number}" for number, story in stories]
        self.frames = settle_frames(
            where, [called(*story) for story in stories], [len(s.frames) for _, s in stories], frames
        )
        kept = [story.frames[: self.frames] for _, story in stories]
        self._pictures = [[self.path / frame.image for frame in story] for story in kept]
        self._what = [
            [f"picture '{frame.image}' ({called(*story)}, frame {f + 1})" for f, frame in enumerate(story[1].frames)]
            for story in stories
        ]
        self.size = self._settle_size(as_size(size))
        self.labels = labels_from_frames(frame.model_dump() for story in kept for frame in story)
        sentences = [[frame.sentence.strip() for frame in story] for story in kept]
        self.table = StoryTable(ids, [s.title for _, s in stories], sentences, _truth(kept, self.labels))

    def images(self, index: int) -> np.ndarray:
        pairs = zip(self._pictures[index], self._what[index])
        return np.stack([fit_picture(read_picture(path, what), self.size) for path, what in pairs])

    def picture_names(self, index: int) -> list[str]:
        return [path.relative_to(self.path).with_suffix("").as_posix() for path in self._pictures[index]]

    def fingerprint(self) -> dict[str, Any]:
        digest = hashlib.blake2b(json.dumps(self.table.sentences).encode(), digest_size=16)
        for path in (path for story in self._pictures for path in story):
            digest.update(path.read_bytes())
        counts = {"stories": len(self), "frames": self.frames, "size": list(self.size)}
        return {"dataset": self.name, "split": self.split, **counts, "content": digest.hexdigest()}

    def _settle_size(self, asked: Size | None) -> Size:
        """The size of all pictures, or the asked one with a warning that says what is done to which."""
        pairs = [pair for paths, whats in zip(self._pictures, self._what) for pair in zip(paths, whats)]
        sizes = [picture_size(path, what) for path, what in pairs]
        if asked is None:
            other = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
            if other is not None:
                raise StoryjaxError(
                    f"pictures of different sizes: {pairs[0][1]} is {_px(sizes[0])}, {pairs[other][1]} is {_px(sizes[other])}; "
                    "pass size= to resize and centre-crop them all"
                )
            return sizes[0]
        others = [i for i, size in enumerate(sizes) if size != asked]
        if others:
            (usual, count), first = collections.Counter(sizes[i] for i in others).most_common(1)[0], others[0]
            warnings.warn(
                f"{len(others)} of {len(sizes)} pictures are not {_px(asked)} ({count} are {_px(usual)}; first: "
                f"{pairs[first][1]}): the short side is resized, antialiased, and the centre {_px(asked)} is cut out",
                PicturesResizedWarning,
                stacklevel=4,
            )
        return asked


def _read_stories(path: Path) -> list[FolderStory]:
    return [check_story(path, number, story) for number, story in enumerate(read_list(path), start=1)]


def read_list(path: Path) -> list[Any]:
    """The stories of a `stories.json`, not yet looked at. Errors: it is missing, no JSON, or no list."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoryjaxError(f"no '{path}'; expected a JSON list of stories beside the pictures") from None
    except UnicodeDecodeError as error:
        raise StoryjaxError(f"'{path}' is not UTF-8 text ({error}); save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise StoryjaxError(
            f"'{path}' is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    if not isinstance(content, list):
        raise StoryjaxError(
            f"'{path}' holds a {type(content).__name__}; expected a list of stories: [{{'frames': [...]}}, ...]"
        )
    return content


def check_story(path: Path, number: int, story: Any) -> FolderStory:
    """One story of the file, checked; errors name story, frame and field."""
    try:
        checked = FolderStory.model_validate(story, strict=True)
    except pydantic.ValidationError as error:
        raise StoryjaxError(_told(f"'{path}': story {number}", error.errors()[0])) from None
    for f, frame in enumerate(checked.frames, start=1):
        for field in ("sentence", "image"):
            if not getattr(frame, field).strip():
                raise StoryjaxError(
                    f"'{path}': {called(number, checked)}, frame {f} has an empty '{field}'; every frame needs one"
                )
    return checked


def _told(where: str, error: Mapping[str, Any]) -> str:
    """One of pydantic's errors as a sentence: where it is, what was expected, what came."""
    place, kind, model = list(error["loc"]), "story", FolderStory
    if place[:1] == ["frames"] and len(place) > 1:
        where, kind, model = f"{where}, frame {place[1] + 1}", "frame", FolderFrame
    field = next((part for part in reversed(place) if isinstance(part, str)), None)
    if field is None or (error["type"] == "model_type"):
        needs = {"story": "'frames'", "frame": "'image' and 'sentence'"}[kind]
        return f"{where}: expected an object with {needs}, got {error['input']!r}"
    if error["type"] == "missing":
        return f"{where} has no '{field}'; every {kind} needs one"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown field '{field}'{nearest(field, list(model.model_fields))}"
    return f"{where}: field '{field}': {error['msg']}, got {error['input']!r}"


def _of_split(where: str, stories: list[FolderStory], split: str) -> list[tuple[int, FolderStory]]:
    """The (number in the file, story) of one split."""
    numbered = list(enumerate(stories, start=1))
    chosen = [pair for pair in numbered if split in (ALL, pair[1].split)]
    if stories and not chosen:
        known = sorted({story.split for story in stories} | {ALL})
        raise StoryjaxError(
            f"{where} has no split '{split}'{nearest(split, known)}; a story names its own with \"split\""
        )
    return chosen


def called(number: int, story: FolderStory) -> str:
    """What to call story `number` (from 1) of a file in errors."""
    name = story.title or story.story_id
    return f"story {number} '{name}'" if name else f"story {number}"


def _truth(stories: list[list[FolderFrame]], labels: Labels) -> dict[str, np.ndarray]:
    """Arrays (N, F, ...) as `StoryTable` describes, for the fields that the file gives at all."""

    def each(value: Any, dtype: Any) -> np.ndarray:
        return np.array([[value(frame) for frame in story] for story in stories], dtype)

    truth = {}
    if labels.characters:
        truth["characters"] = each(lambda frame: [name in frame.characters for name in labels.characters], np.uint8)
        truth["names_characters"] = each(
            lambda frame: all(says(frame.sentence, name) for name in frame.characters), bool
        )
    for field in ("place", "weather", "action"):
        names = getattr(labels, field)
        if names:
            number = {name: i for i, name in enumerate(names)} | {None: -1}
            truth[field] = each(lambda frame, f=field, n=number: n[getattr(frame, f)], np.int32)
    if labels.place:
        truth["names_place"] = each(lambda frame: frame.place is not None and says(frame.sentence, frame.place), bool)
    return truth


def says(sentence: str, name: str) -> bool:
    """Whether the sentence has the name as a word, in any case."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sentence, re.IGNORECASE) is not None


def _px(size: Size) -> str:
    return f"{size[1]}x{size[0]}"  # width x height, as people say picture sizes
