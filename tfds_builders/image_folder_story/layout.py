"""A folder of the user's own stories, in one of two forms.

stories.json          stories, frames, sentences and truth, as `storyjax.data.folder` reads it; pictures beside

<story>/<picture>     or no such file: each folder is a story, its pictures in natural order (2 before 10), each with its
<story>/<same>.txt    caption; folders called train, validation and test may hold the stories of these splits
"""

import collections
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from storyjax.data.folder import STORIES, FolderStory, called, check_story, read_list, says
from storyjax.data.labels import Labels, labels_from_frames
from storyjax.errors import StoryjaxError
from tfds_builders.layout import BrokenStory, Finding, Layout, LayoutError
from tfds_builders.pictures import decoded, read_bytes

MOST = 16  # characters in a frame: shorter lists are padded with -1
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SPLITS = ("train", "validation", "test")
FIELDS = ("place", "weather", "action")


class ImageFolderLayout(Layout):
    """A key is the position of a story in the file, or in the sorted list of folders."""

    data_set = "image_folder_story"
    chunk = 4

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return (folder / STORIES).is_file() or any(_captioned(story) for story in _story_folders(folder))

    def splits(self) -> dict[str, list[int]]:
        splits: dict[str, list[int]] = {}
        for key, (split, _) in enumerate(self._stories):
            splits.setdefault(split, []).append(key)
        return {split: splits[split] for split in sorted(splits, key=lambda name: (_place(name), name))}

    def story(self, key: int) -> dict[str, Any]:
        _, story = self._stories[key]
        if isinstance(story, str):
            raise BrokenStory(story)
        name = called(key + 1, story)
        if not story.frames:
            raise BrokenStory(f"{name} in '{self.folder}' has no frames")
        frames = [
            self._frame(f"{name}, frame {f}", frame.model_dump()) for f, frame in enumerate(story.frames, start=1)
        ]
        return {"story_id": story.story_id or f"story {key + 1}", "title": story.title, "frames": frames}

    def check(self, *, pictures: bool = False) -> Iterator[Finding]:
        try:
            splits = self.splits()
        except LayoutError as error:
            yield Finding("missing", str(error))
            return
        counts, sizes = collections.Counter(), collections.Counter()
        for key in (key for keys in splits.values() for key in keys):
            _, story = self._stories[key]
            try:
                if pictures or isinstance(story, str):
                    record = self.story(key)
                    sizes.update(decoded(frame["image"], "picture").size for frame in record["frames"])
                else:
                    self._look(key, story)
                counts[len(story.frames)] += 1  # type: ignore[union-attr]  # a broken one has left by now
            except BrokenStory as broken:
                yield Finding("broken", str(broken))
        if len(counts) > 1:
            said = ", ".join(f"{frames} ({stories:,})" for frames, stories in counts.most_common(4))
            yield Finding(
                "note", f"stories of {len(counts)} lengths: {said}; open them with frames={min(counts)} or as windows="
            )
        if len(sizes) > 1:
            said = ", ".join(f"{width}x{height} ({count:,})" for (width, height), count in sizes.most_common(4))
            yield Finding("note", f"pictures of {len(sizes)} sizes: {said}; give a size when you open the data set")

    @functools.cached_property
    def labels(self) -> Labels:
        """The names of all splits together, sorted, so that a number means the same in each."""
        whole = [story for _, story in self._stories if not isinstance(story, str)]
        return labels_from_frames(frame.model_dump() for story in whole for frame in story.frames)

    @functools.cached_property
    def _stories(self) -> list[tuple[str, FolderStory | str]]:
        """The split of each story, and the story or what is wrong with it. Errors: LayoutError."""
        stories = self._listed() if (self.folder / STORIES).is_file() else self._from_folders()
        twice = [name for name, count in collections.Counter(_ids(stories)).items() if count > 1]
        if twice:
            raise LayoutError(f"'{self.folder}': several stories have the story_id '{twice[0]}'; give each its own")
        if not stories:
            raise LayoutError(
                f"'{self.folder}' has no stories: expected {STORIES}, or folders of pictures with a .txt of the same name "
                "beside each"
            )
        return stories

    def _listed(self) -> list[tuple[str, FolderStory | str]]:
        file = self.folder / STORIES
        try:
            held = read_list(file)
        except StoryjaxError as error:
            raise LayoutError(str(error)) from None
        out: list[tuple[str, FolderStory | str]] = []
        for number, raw in enumerate(held, start=1):
            try:
                story = check_story(file, number, raw)
                out.append((story.split, story))
            except StoryjaxError as error:
                split = raw.get("split") if isinstance(raw, dict) else None
                out.append((split if isinstance(split, str) and split else "train", str(error)))
        return out

    def _from_folders(self) -> list[tuple[str, FolderStory | str]]:
        out = []
        for folder in _story_folders(self.folder):
            split = folder.parent.name if folder.parent != self.folder else "train"
            try:
                out.append((split, self._told(folder, split)))
            except BrokenStory as broken:
                out.append((split, str(broken)))
        return out

    def _told(self, folder: Path, split: str) -> FolderStory:
        """The story of one folder. Errors: BrokenStory: a caption is missing, empty or no text, or there are two pictures to it."""
        files, frames = _pictures(folder), []
        for one, two in itertools.pairwise(sorted(files, key=lambda file: file.stem)):
            if one.stem == two.stem:
                raise BrokenStory(f"'{one}' and '{two}' have one name; a caption belongs to one picture")
        for file in files:
            caption = file.with_suffix(".txt")
            try:
                sentence = caption.read_text(encoding="utf-8").strip()
            except FileNotFoundError:
                raise BrokenStory(f"picture '{file}' has no caption; expected it in '{caption}'") from None
            except (OSError, UnicodeDecodeError) as error:
                raise BrokenStory(f"caption '{caption}' cannot be read as UTF-8 ({error})") from None
            if not sentence:
                raise BrokenStory(f"caption '{caption}' is empty")
            frames.append({"image": str(file.relative_to(self.folder)), "sentence": sentence})
        name = str(folder.relative_to(self.folder))
        return FolderStory.model_validate({"frames": frames, "story_id": name, "split": split})

    def _look(self, key: int, story: FolderStory) -> None:
        """What names tell of a story. Errors: BrokenStory."""
        if not story.frames:
            raise BrokenStory(f"{called(key + 1, story)} in '{self.folder}' has no frames")
        for f, frame in enumerate(story.frames, start=1):
            if not (self.folder / frame.image).is_file():
                raise BrokenStory(
                    f"{called(key + 1, story)}, frame {f}: picture '{self.folder / frame.image}' does not exist"
                )
            self._numbers(f"{called(key + 1, story)}, frame {f}", frame.characters)

    def _frame(self, what: str, frame: dict[str, Any]) -> dict[str, Any]:
        """The record of one frame. Errors: BrokenStory."""
        file = self.folder / frame["image"]
        content = read_bytes(file, f"{what}: picture")
        decoded(content, f"{what}: picture '{file}'")
        sentence, characters, place = frame["sentence"].strip(), frame["characters"], frame["place"]
        numbers = {
            name: -1 if frame[name] is None else getattr(self.labels, name).index(frame[name]) for name in FIELDS
        }
        return {
            "image": content,
            "sentence": sentence,
            "characters": self._numbers(what, characters),
            "names_characters": all(says(sentence, name) for name in characters),
            "names_place": place is not None and says(sentence, place),
            **numbers,
        }

    def _numbers(self, what: str, characters: list[str]) -> list[int]:
        present = sorted({self.labels.characters.index(name) for name in characters})
        if len(present) > MOST:
            raise BrokenStory(f"{what} names {len(present)} characters; at most {MOST} can be kept")
        return present + [-1] * (MOST - len(present))


def _story_folders(folder: Path) -> list[Path]:
    """Folders with pictures, in natural order: those of `folder`, or those of its folders train, validation and test."""
    if not folder.is_dir():
        return []
    parents = [folder / split for split in SPLITS if (folder / split).is_dir() and not _pictures(folder / split)]
    found = [
        path for parent in (parents or [folder]) for path in sorted(parent.iterdir(), key=_natural) if path.is_dir()
    ]
    return [path for path in found if _pictures(path)]


def _pictures(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.suffix.lower() in PICTURES), key=_natural)


def _captioned(folder: Path) -> bool:
    return any(picture.with_suffix(".txt").is_file() for picture in _pictures(folder))


def _natural(path: Path) -> tuple:
    """Numbers in a name count as numbers."""
    parts = re.split(r"([0-9]+)", path.name.lower())
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), path.name


def _place(split: str) -> int:
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)


def _ids(stories: list[tuple[str, FolderStory | str]]) -> list[str]:
    return [story.story_id for _, story in stories if not isinstance(story, str) and story.story_id]
