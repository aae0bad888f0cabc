"""Where the parts of a StorySalon tree are, whatever their folders are called, and which of its files belong together.

The loader, the download and the scripts of the release disagree about names: Image_inpainted, Image_Inpainted and
image_inpainted_finally_checked; Mask and mask; videos under Video/ or beside the others. Names are compared here without case,
blanks, hyphens and underscores. Files of one frame are found by the frame's name, never by their position in a list.
"""

import functools
import re
from collections.abc import Iterable
from pathlib import Path

LIBRARIES = ("African", "Bloom", "Book", "Digital", "Literacy", "StoryWeaver")
VIDEO = "Video"
PARTS = (*LIBRARIES, VIDEO)  # in the order of the released loader
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_FILLING = {"keyframe", "frame", "mask", "image", "inpainted", "caption"}  # words that say which kind of file it is


def plain(name: str) -> str:
    """A folder's name as it is compared."""
    return re.sub(r"[\s_-]", "", name).lower()


def folders(parents: Iterable[Path], *names: str) -> list[Path]:
    """The folders in `parents` with one of these names, those spelt exactly so first."""
    wanted, found = [plain(name) for name in names], []
    for parent in parents:
        if parent.is_dir():
            found += [path for path in sorted(parent.iterdir()) if plain(path.name) in wanted and path.is_dir()]
    return sorted(found, key=lambda path: (path.name not in names, wanted.index(plain(path.name))))


def natural(name: str) -> tuple:
    """Sorting key in which numbers count as numbers, as the released loader sorts the frames of videos."""
    return tuple(int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))), name


def frame_key(stem: str) -> tuple[str, ...]:
    """What names the frame in a file's name: "000000_mask_0-1-9-135" and "000000_keyframe_0-1-9-135" are one frame."""
    words = tuple(word for word in stem.lower().split("_") if word)
    return tuple(word for word in words if word not in _FILLING) or words


class Tree:
    """The folders of each part below `folder`, or below `folder`/StorySalon."""

    def __init__(self, folder: Path):
        self.folder = folder

    @functools.cached_property
    def roots(self) -> list[Path]:
        return [self.folder, *folders([self.folder], "StorySalon")]

    @functools.cached_property
    def picture_roots(self) -> list[Path]:
        return folders(self.roots, "Image_inpainted", "Image_Inpainted")

    @functools.cached_property
    def _masks(self) -> list[Path]:
        return folders(self.roots, "Mask", "mask", "Masks")

    @functools.cached_property
    def _texts(self) -> list[Path]:
        return folders(self.roots, "Text")

    def pictures(self, part: str) -> Path | None:
        found = folders(self.picture_roots, part)
        if part == VIDEO and not found:
            found = folders(self.roots, "image_inpainted_finally_checked")
        return found[0] if found else None

    def masks(self, part: str) -> Path | None:
        found = folders(self._masks, part)
        if part == VIDEO and not found:  # the loader has the masks of videos beside the parts
            found = [
                path for path in self._masks if any(re.fullmatch(r"\d{6}", child.name) for child in path.iterdir())
            ]
        return found[0] if found else None

    def captions(self, part: str) -> Path | None:
        found = folders(folders(self._texts, "Caption", "Captions"), part)
        return found[0] if found else None

    def narratives(self, part: str) -> Path | None:
        found = folders(folders(self._texts, "Narrative_Filtered", "Narrative"), part)
        return found[0] if found else None

    def file(self, name: str) -> Path:
        """The file `name` at the top, in data/ or beside the videos; the first of these places where it is nowhere."""
        places = [*self.roots, *folders(self.roots, "data"), *folders(self.picture_roots, VIDEO)]
        found = (path for place in places for path in sorted(place.iterdir()) if path.name.lower() == name.lower())
        return next(found, self.folder / name) if self.folder.is_dir() else self.folder / name

    def frames(self, part: str, story: str) -> list[Path]:
        """The pictures of a story in the order of the release: videos by number, books by letter."""
        pictures = self.pictures(part)
        assert pictures is not None
        files = [path for path in (pictures / story).iterdir() if path.suffix.lower() in PICTURES]
        return sorted(files, key=lambda path: natural(path.name) if part == VIDEO else path.name)


def by_key(folder: Path, suffixes: tuple[str, ...]) -> dict[tuple[str, ...], list[Path]]:
    """The files of a folder by what names their frame; none where the folder is missing."""
    found: dict[tuple[str, ...], list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in suffixes:
            found.setdefault(frame_key(path.stem), []).append(path)
    return found
