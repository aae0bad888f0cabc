"""A story's folder: frames, strip, comic page, moving picture, web page, manifest and the story itself, all or nothing.

Everything is first written into a hidden folder beside the target and then renamed, so a full disk or a kill leaves what was
there before. A folder is replaced only when asked, and only if it holds nothing but an earlier storyboard.
"""

import contextlib
import dataclasses
import glob
import io
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from storyjax.errors import StoryjaxError
from storyjax.story import paper
from storyjax.story.animation import film_width, write_gif
from storyjax.story.comic import draw_comic
from storyjax.story.files import cannot_write, write_whole
from storyjax.story.manifest import NAME as MANIFEST
from storyjax.story.manifest import FirstPicture, Manifest, file_sha256, frame_name, pixels_sha256
from storyjax.story.page import render_page
from storyjax.story.pictures import Picture
from storyjax.story.sheets import sheet_name, sheets_of
from storyjax.story.story import Story
from storyjax.story.story_file import save_story, with_first_picture
from storyjax.story.strip import draw_strip

FILES = {
    "strip": "strip.png",
    "gif": "story.gif",
    "comic": "comic.png",
    "page": "index.html",
    "manifest": MANIFEST,
    "story": "story.json",
    "frames": "frames",
}
FIRST_PICTURE = "first_picture.png"
AGAIN = f"storyjax generate --from-manifest {MANIFEST}"
FRAMES_ON_A_STRIP, PANELS_ON_A_COMIC = 50, 15
_FRAME = re.compile(r"\d{3,}\.png")
_SHEET = re.compile(r"(strip|comic)-\d+\.png")
_NOT_WORTH_KEEPING = (".DS_Store", "Thumbs.db", "desktop.ini")  # file managers leave them wherever they look


def write_storyboard(
    folder: str | Path,
    story: Story,
    images: np.ndarray | Sequence[np.ndarray],
    manifest: Manifest,
    overwrite: bool = False,
    first_picture: Picture | None = None,
) -> dict[str, Path]:
    """Write everything about a drawn story into `folder`, and say where: keys strip, gif, comic, page, manifest, story, frames.

    The strip of more than 50 frames and the comic of more than 15 go onto several sheets: strip.png, strip-2.png, ...

    images: (F,H,W,3) uint8, one per sentence. For a continued story `first_picture` is what `read_picture` gave; its pixels
    are kept beside the manifest, so the story can be made again without the original file. The manifest's fields `pictures`
    and `first_picture` are filled in here.

    Errors: those of `check_folder`; another number of pictures than sentences; a disk that is full. The folder is then as
    it was before.
    """
    frames = paper.as_frames(images, len(story.frames))
    _check_agreement(story, manifest, first_picture)
    folder = _whole_path(folder)
    check_folder(folder, overwrite)
    hidden = folder.with_name(f".{folder.name}.writing-{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(folder)
        hidden.mkdir()
        _fill(hidden, story, frames, manifest, first_picture)
        _put_in_place(hidden, folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    except StoryjaxError as error:
        if isinstance(error.__cause__, OSError):  # name the folder asked for, not the hidden one
            raise cannot_write(folder, error.__cause__) from error.__cause__
        raise
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return {key: folder / name for key, name in FILES.items()}


def check_folder(folder: str | Path, overwrite: bool = False) -> None:
    """Raise unless a storyboard may be written to `folder`: ask before drawing, not after.

    A folder that does not exist or is empty is free. One with an earlier storyboard needs `overwrite`; one that holds
    anything else, or only part of a storyboard, is never replaced.
    """
    folder = _whole_path(folder)
    _finish_swap(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise StoryjaxError(f"'{folder}' is a file; name a folder for the pictures")
    if _is_empty(folder):
        return
    stays = ", it is not replaced even with --overwrite" if overwrite else ""
    if foreign := _foreign(folder):
        shown = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else "")
        raise StoryjaxError(
            f"the folder '{folder}' holds files that are no part of a storyboard ({shown}); choose another folder{stays}"
        )
    if not (folder / MANIFEST).exists():
        raise StoryjaxError(
            f"the folder '{folder}' is not empty and has no {MANIFEST}, so it is no storyboard; choose another folder{stays}"
        )
    if not overwrite:
        raise StoryjaxError(f"the folder '{folder}' holds a storyboard already; choose another one or pass --overwrite")


def _check_agreement(story: Story, manifest: Manifest, given: Picture | None) -> None:
    for name in ("sentences", "title", "style", "cast"):
        if getattr(manifest, name) != getattr(story, name):
            raise StoryjaxError(f"the manifest has another {name} than the story; make it with Manifest.of(story, ...)")
    if story.first_picture is not None and given is None:
        raise StoryjaxError(
            f"the story is continued from '{story.first_picture}'; pass first_picture=read_picture(...), so it can be made again"
        )


def _fill(folder: Path, story: Story, frames: np.ndarray, manifest: Manifest, given: Picture | None) -> None:
    """Write all files; pictures first, then what speaks of them."""
    digests = {}
    for index, pixels in enumerate(frames):
        digests[frame_name(index)] = _save(folder / frame_name(index), pixels)
    for file, draw, most in (
        (FILES["strip"], draw_strip, FRAMES_ON_A_STRIP),
        (FILES["comic"], draw_comic, PANELS_ON_A_COMIC),
    ):
        for number, sheet in enumerate(sheets_of(story, frames, most), 1):
            name = sheet_name(file, number)
            digests[name] = _save(folder / name, np.asarray(draw(*sheet)))
    film = write_gif(folder / FILES["gif"], frames, story.sentences, width=film_width(len(frames)))
    digests[FILES["gif"]] = file_sha256(film)
    manifest = dataclasses.replace(manifest, pictures=digests)
    if given is not None:
        digest = _save(folder / FIRST_PICTURE, given.pixels)
        first = manifest.first_picture
        if first is None or first.sha256 != digest:  # a story made again keeps the name and the note of the original
            first = FirstPicture(FIRST_PICTURE, digest, story.first_picture or "", given.note)
        manifest = dataclasses.replace(manifest, first_picture=first)
        story = with_first_picture(story, str(folder / FIRST_PICTURE))
    write_whole(folder / FILES["page"], render_page(story, frames, manifest, AGAIN).encode())
    save_story(story, folder / FILES["story"])
    manifest.write(folder / MANIFEST)


def _save(path: Path, pixels: np.ndarray) -> str:
    """Write a PNG; the sha256 of its pixels."""
    file = io.BytesIO()  # Pillow hides a full disk behind "encoder error" when it writes to the disk itself
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    write_whole(path, file.getvalue())
    return pixels_sha256(pixels)


def _put_in_place(hidden: Path, folder: Path) -> None:
    """Rename the finished folder over the target; an old storyboard steps aside first and is deleted last."""
    if not folder.exists():
        hidden.rename(folder)
    elif _is_empty(folder):
        _move_into(hidden, folder)
    else:
        aside = _aside(folder)
        folder.rename(aside)
        try:
            hidden.rename(folder)
        except OSError:
            aside.rename(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _move_into(hidden: Path, folder: Path) -> None:
    """An empty folder that exists is kept, for it may be a mount or somebody's current folder; the manifest comes last."""
    names = sorted((path.name for path in hidden.iterdir()), key=lambda name: name == MANIFEST)
    try:
        for name in names:
            shutil.move(hidden / name, folder / name)
    except OSError:
        for name in names:
            shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
        raise


def _finish_swap(folder: Path) -> None:
    """If a kill fell between the two renames of `_put_in_place`, bring the old storyboard back."""
    aside = _aside(folder)
    if aside.is_dir() and not folder.exists():
        with contextlib.suppress(OSError):
            aside.rename(folder)


def _clear_leftovers(folder: Path) -> None:
    """Delete what killed runs left beside the target: an old storyboard already replaced, half-written folders."""
    aside = _aside(folder)
    if aside.is_dir() and not _foreign(aside):
        shutil.rmtree(aside, ignore_errors=True)
    for path in folder.parent.glob(f".{glob.escape(folder.name)}.writing-*"):
        owner = path.name.rpartition("-")[2]
        if owner.isdigit() and (int(owner) == os.getpid() or not _alive(int(owner))):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it lives, but belongs to someone else
        return True
    return True


def _aside(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.replaced"


def _is_empty(folder: Path) -> bool:
    return not _entries(folder)


def _foreign(folder: Path) -> list[str]:
    """Names in `folder` and in its frames/ that no storyboard has, sorted; a folder under a file's name is foreign too."""
    pictures, files = FILES["frames"], {name for name in FILES.values() if name != FILES["frames"]} | {FIRST_PICTURE}
    found = []
    for entry in _entries(folder):
        if entry.name == pictures and entry.is_dir(follow_symlinks=False):
            inside = [e for e in _entries(entry) if not (_FRAME.fullmatch(e.name) and e.is_file(follow_symlinks=False))]
            found += [f"{pictures}/{e.name}" for e in inside]
        elif not ((entry.name in files or _SHEET.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False)):
            found.append(entry.name)
    return sorted(found)


def _entries(folder: os.PathLike[str]) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if entry.name not in _NOT_WORTH_KEEPING]


def _whole_path(folder: str | Path) -> Path:
    """Absolute and without links, so that a link to a folder stays one and `.` has a name."""
    return Path(folder).expanduser().resolve()
