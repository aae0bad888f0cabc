"""A folder that appears whole or not at all: everything is written beside its place, brought to the disk, and renamed.

    with written_beside(folder, overwrite=False) as beside:
        ...  # write into `beside`

Whatever goes wrong within, an interrupt included, leaves what stood at `folder` as it was and nothing beside it.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from storyjax.errors import StoryjaxError

INDEX = "model_index.json"


@contextlib.contextmanager
def written_beside(folder: str | Path, *, overwrite: bool = False, what: str = "model folder") -> Iterator[Path]:
    """Gives the folder to write into, which takes the place of `folder` when the block ends without an error.

    overwrite: replace the model folder that stands there, with everything in it; a folder of something else never is.
    what: how the error calls it. Errors: the folder exists; a full disk or any other failed write, as one line.
    """
    folder = Path(folder)
    may_write(folder, overwrite)
    beside = folder.parent / f".{folder.name}.partial"
    try:
        shutil.rmtree(beside, ignore_errors=True)  # left by a save that was killed
        beside.mkdir(parents=True)
        yield beside
        _to_disk(beside)
        _swap(beside, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise StoryjaxError(
            f"could not write the {what} '{folder}': {_reason(error)}; nothing was changed there, make room and save again"
        ) from error
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def may_write(folder: str | Path, overwrite: bool) -> None:
    """Raise where `written_beside` would: before work is done that would be in vain."""
    folder = Path(folder)
    replaced = _replaced(folder)
    if replaced.exists() and not folder.exists():
        replaced.rename(folder)  # killed between the two renames of `_swap`: the old model still stands beside
    if not folder.exists():
        return
    if not overwrite:
        raise StoryjaxError(f"'{folder}' exists; choose another folder, or allow overwriting")
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / INDEX).is_file()):
        raise StoryjaxError(
            f"'{folder}' is no model folder (no {INDEX}), so it is not overwritten; choose another folder"
        )


def require_apart(source: str | Path, dest: str | Path) -> None:
    """Raise where a result would take the place of what it is made from, or of a folder that holds it."""
    made_of, result = Path(source).resolve(), Path(dest).resolve()
    if made_of == result:
        raise StoryjaxError(f"'{dest}' is the source itself, which would be lost; choose another folder")
    if result in made_of.parents:
        raise StoryjaxError(f"'{dest}' holds the source '{source}', which would be lost; choose another folder")


def check_room(folder: str | Path, nbytes: int) -> None:
    """Raise unless the disk that will hold `folder` has room for `nbytes` more."""
    place = next(parent for parent in Path(folder).absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if free < nbytes:
        raise StoryjaxError(
            f"no space for '{folder}': it needs {nbytes / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB left; make room or "
            "choose another place"
        )


def _reason(error: Exception) -> str:
    """What the system said; safetensors hides the number of a full disk in its text."""
    if "os error 28" in str(error):
        return os.strerror(errno.ENOSPC)
    return str(getattr(error, "strerror", None) or error)


def _to_disk(folder: Path) -> None:
    """Wait until the files' content is on the disk: a late write error shows here, before the rename."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())


def _swap(beside: Path, folder: Path) -> None:
    """Put `beside` in the place of `folder`; the old one is removed only when the new one stands."""
    old = _replaced(folder)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    try:
        beside.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _replaced(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.replaced"
