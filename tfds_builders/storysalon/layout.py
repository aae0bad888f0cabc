"""The files of StorySalon as StoryGen's release lays them out, and which of them make a record.

PDF_test_set.txt, video_test_set.txt       ids of the stories to test with, of books and of videos
Image_inpainted/<part>/<story>/<frame>     pictures; <part> is one of six libraries, or Video
Mask/<part>/<story>/<mask>                 what StoryGen's loss leaves out (writing, people, hands): white
Text/Caption/<part>/<story>/<frame>.txt    what is in the picture
Text/Narrative*/<part>/<story>/<frame>.txt the story's own words, where the tree has them

A part that is not there is left out: videos cannot be redistributed, and the books alone are a data set.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tfds_builders.layout import BrokenStory, Finding, Layout, LayoutError
from tfds_builders.pictures import decoded, read_bytes
from tfds_builders.storysalon.tree import LIBRARIES, PARTS, PICTURES, VIDEO, Tree, by_key, frame_key

BOOK_TEST, VIDEO_TEST = "PDF_test_set.txt", "video_test_set.txt"
LENGTH = 4  # frames of a window: three references and the one to draw
STRETCHED = (
    854,
    480,
)  # the release's inpainting brings every frame of a video to this size; its mask keeps the old one

Key = tuple[str, str] | tuple[str, str, int]


class StorySalonLayout(Layout):
    """A key is (part, story), or (part, story, frame) of variant "image"; part "" stands for an id that no folder has."""

    data_set = "storysalon"
    published: ClassVar[Mapping[str, int]] = {}  # depends on the videos that can still be had
    chunk = 2

    def __init__(self, folder: str | Path, variant: str | None = None):
        super().__init__(folder, variant)
        self.tree = Tree(self.folder)

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        tree = Tree(folder)
        return tree.file(BOOK_TEST).exists() or tree.file(VIDEO_TEST).exists() or bool(tree.picture_roots)

    def splits(self) -> dict[str, list[Key]]:
        """As the released loader: libraries, then videos; stories of three frames and fewer are left out."""
        splits: dict[str, list[Key]] = {"train": [], "test": []}
        for part in self.parts:
            asked = self.test_ids(part)
            for story in self.stories(part):
                count = len(self.tree.frames(part, story))
                if count >= LENGTH:
                    keys = [(part, story, n) for n in range(LENGTH - 1, count)] if self._single else [(part, story)]
                    splits["test" if story in asked else "train"] += keys
        for file, name in self.unknown_ids():
            splits["test"].append(("", f"{file} names story {name}, but no folder of pictures is called so"))
        return splits

    def story(self, key: Key) -> dict[str, Any]:
        part, story = key[:2]
        if not part:
            raise BrokenStory(story)
        files = self.tree.frames(part, story)
        chosen = files if len(key) == 2 else [files[key[2]]]
        frames = [_frame(*files) for files in self._belonging(part, story, chosen)]
        name = f"{part}/{story}" + ("" if len(key) == 2 else f"/{chosen[0].stem}")
        title = self._titles.get(story, "") if part == VIDEO else ""
        return {"story_id": name, "title": title, "source": part, "frames": frames}

    def check(self, *, pictures: bool = False) -> Iterator[Finding]:
        try:
            splits = self.splits()
            self._titles  # noqa: B018  # read, or refused
        except LayoutError as error:
            yield Finding("missing", str(error))
            return
        yield from self._notes()
        for key in (key for keys in splits.values() for key in keys):
            try:
                if pictures or not key[0]:
                    self.story(key)
                else:
                    files = self.tree.frames(*key[:2])
                    list(self._belonging(*key[:2], files if len(key) == 2 else [files[key[2]]]))
            except BrokenStory as broken:
                yield Finding("broken", str(broken))

    def _notes(self) -> Iterator[Finding]:
        absent = [part for part in PARTS if part not in self.parts]
        if absent:
            yield Finding("note", f"no pictures of {', '.join(absent)}: built without")
        if not any(self.tree.narratives(part) for part in self.parts):
            yield Finding("note", "no Text/Narrative: the records have captions, but not the story's own words")
        short = [
            f"{part}/{story}"
            for part in self.parts
            for story in self.stories(part)
            if len(self.tree.frames(part, story)) < LENGTH
        ]
        if short:
            yield Finding(
                "note", f"{len(short)} stories of fewer than {LENGTH} frames are left out, such as {short[0]}"
            )
        others = [
            path
            for part in self.parts
            for story in self.stories(part)
            for path in (self.tree.pictures(part) / story).iterdir()
            if path.suffix.lower() not in PICTURES
        ]
        if others:
            yield Finding(
                "note", f"{len(others)} files among the pictures are none and are not read, such as '{others[0]}'"
            )
        if self._absent_libraries:
            known = {story for part in LIBRARIES if part in self.parts for story in self.stories(part)}
            gone = [name for name in self._ids(BOOK_TEST) if name not in known]
            if gone:
                yield Finding(
                    "note", f"{len(gone)} ids of {BOOK_TEST} may be of libraries that are not there: {gone[0]} ..."
                )

    @property
    def _single(self) -> bool:
        return self.variant == "image"

    @functools.cached_property
    def parts(self) -> list[str]:
        """The parts with pictures. Errors: LayoutError where there are none, or where masks or captions of one are missing."""
        found = [part for part in PARTS if self.tree.pictures(part)]
        if not found:
            raise LayoutError(
                f"'{self.folder}' has no pictures: expected folders such as Image_inpainted/{LIBRARIES[0]}/000001 or "
                f"Image_inpainted/{VIDEO}/000001; unpack the archives of the data set here"
            )
        for part in found:
            for what, place in (("Mask", self.tree.masks(part)), ("Text/Caption", self.tree.captions(part))):
                if place is None:
                    raise LayoutError(
                        f"'{self.tree.pictures(part)}' has pictures, but {what}/{part} is missing below '{self.folder}'"
                    )
        return found

    def stories(self, part: str) -> list[str]:
        """Names of the stories of a part, sorted."""
        pictures = self.tree.pictures(part)
        return sorted(path.name for path in pictures.iterdir() if path.is_dir()) if pictures else []

    def test_ids(self, part: str) -> frozenset[str]:
        return frozenset(self._ids(VIDEO_TEST if part == VIDEO else BOOK_TEST))

    def unknown_ids(self) -> list[tuple[str, str]]:
        """(file, id) of test stories that have no folder, as far as their part is there."""
        asked = [] if self._absent_libraries else [(BOOK_TEST, LIBRARIES)]
        asked += [(VIDEO_TEST, (VIDEO,))] if VIDEO in self.parts else []
        found = []
        for file, parts in asked:
            known = {story for part in parts for story in self.stories(part)}
            found += [(file, name) for name in self._ids(file) if name not in known]
        return found

    @property
    def _absent_libraries(self) -> list[str]:
        return [part for part in LIBRARIES if part not in self.parts]

    @functools.cached_property
    def _ids_of(self) -> dict[str, list[str]]:
        return {}

    def _ids(self, name: str) -> list[str]:
        """The ids of a test list, one a line; the end of the file needs no new line. Errors: LayoutError."""
        if name not in self._ids_of:
            file = self.tree.file(name)
            try:
                lines = file.read_text(encoding="utf-8").splitlines()
            except FileNotFoundError:
                raise LayoutError(
                    f"'{file}' is missing; copy it from the folder data/ of StoryGen's repository, which ships it"
                ) from None
            except (OSError, UnicodeDecodeError) as error:
                raise LayoutError(f"'{file}' cannot be read ({error}); it must have one story id a line") from None
            self._ids_of[name] = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        return self._ids_of[name]

    @functools.cached_property
    def _titles(self) -> dict[str, str]:
        """Titles of videos by id, from metadata.json where it is there."""
        file = self.tree.file("metadata.json")
        if not file.is_file():
            return {}
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
            return {str(name): str(_unwrapped(entry.get("video_name", ""))) for name, entry in held.items()}
        except (OSError, ValueError, AttributeError) as error:
            raise LayoutError(
                f"'{file}' is damaged ({error}); get it again from StoryGen's repository, or remove it: it only gives titles"
            ) from None

    def _belonging(
        self, part: str, story: str, files: Iterable[Path]
    ) -> Iterator[tuple[Path, Path, Path, Path | None]]:
        """Picture, mask, caption and story text (where it is) of each frame, by name. Errors: BrokenStory: none, or several."""
        masks, captions = self.tree.masks(part), self.tree.captions(part)
        assert masks is not None
        assert captions is not None
        narratives = self.tree.narratives(part)
        told = by_key(narratives / story, (".txt",)) if narratives else {}
        found = {"mask": by_key(masks / story, PICTURES), "caption": by_key(captions / story, (".txt",))}
        for file in files:
            key = frame_key(file.stem)
            for (what, belonging), folder in zip(found.items(), (masks, captions)):
                names = [path.name for path in belonging.get(key, [])]
                if len(names) != 1:
                    there = f"has {len(names)}: {', '.join(names)}" if names else "has none"
                    raise BrokenStory(f"picture '{file}' needs one {what} in '{folder / story}', which {there}")
            yield file, found["mask"][key][0], found["caption"][key][0], told.get(key, [None])[0]


def _frame(file: Path, mask_file: Path, caption_file: Path, narrative_file: Path | None) -> dict[str, Any]:
    """The record of one frame. Errors: BrokenStory."""
    content, mask_content = read_bytes(file), read_bytes(mask_file, "mask")
    picture, mask = decoded(content, f"picture '{file}'"), decoded(mask_content, f"mask '{mask_file}'")
    if mask.size != picture.size and picture.size != STRETCHED:
        raise BrokenStory(
            f"mask '{mask_file}' is {mask.width}x{mask.height} pixels, its picture '{file}' {picture.width}x{picture.height}; "
            "they must be alike"
        )
    caption = _text(caption_file)
    if not caption.strip():
        raise BrokenStory(f"caption '{caption_file}' is empty")
    return {
        "frame_id": file.stem,
        "image": content,
        "figure": mask_content,
        "sentence": caption,
        "narrative": _text(narrative_file) if narrative_file else "",
    }


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenStory(f"text '{file}' cannot be read as UTF-8 ({error})") from None


def _unwrapped(value: Any) -> Any:
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value
