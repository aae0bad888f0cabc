"""Whole folders between this machine and Google Cloud Storage, for what reads and writes files by their names.

Models and tokenizers are written here and copied there; on the way back they lie in the user's cache folder, from which they
may be removed at any time. Local folders are used where they are.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storyjax.checkpoints.beside import INDEX
from storyjax.checkpoints.paths import (
    AnyPath,
    PathLike,
    at,
    cache_folder,
    check_storage,
    files_below,
    is_local,
    name_of,
    storage_errors_told,
)
from storyjax.errors import StoryjaxError
from storyjax.parallel.processes import speaks, wait_for_all


@contextmanager
def published(folder: PathLike, last: str = INDEX) -> Iterator[Path]:
    """A folder on this machine to write into: `folder` itself, or one that is copied there when the block ends without an error.

    In the bucket it takes the place of what stands there. `last`: the file that is removed first and copied last, so that a
    folder which has it is whole. In a run of several processes one of them copies, and all go on when it is done.
    """
    if is_local(folder):
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="storyjax-") as made:
        here = Path(made) / at(folder).name
        yield here
        if speaks():
            with storage_errors_told(folder):
                _upload(here, at(folder), last)
    wait_for_all(f"{folder} is there")


def is_whole(folder: PathLike, last: str = INDEX) -> bool:
    """Whether a folder stands there; a local one appears at once, a remote one file by file."""
    folder = at(folder)
    return folder.is_dir() if is_local(folder) else (folder / last).is_file()


def fetched(folder: PathLike) -> Path:
    """The folder on this machine: itself, or a copy of what lies at the address now, in the user's cache folder.

    It is copied once for each state of the files there. Errors: no such bucket or folder, no access, a full disk, one line each.
    """
    if is_local(folder):
        return Path(folder)
    check_storage(folder)
    with storage_errors_told(folder):
        place = at(folder)
        found = {name: path for path, name in files_below(place)} if place.is_dir() else {}
        if not found:
            raise StoryjaxError(f"there is no folder '{folder}'; expected the address of a folder with files in it")
        copy = cache_folder("gs") / name_of(folder) / _state(found) / place.name
        if not copy.is_dir():
            _download(found, copy)
    return copy


def _state(found: dict[str, AnyPath]) -> str:
    """Another text whenever a file was added, removed or written again."""
    import fsspec

    digest = hashlib.sha256()
    for name in sorted(found):
        about = fsspec.filesystem("gcs", finalize_on_close=True).info(os.fspath(found[name]))
        digest.update(f"{name} {about['size']} {about.get('generation')}\n".encode())
    return digest.hexdigest()[:12]


def _download(found: dict[str, AnyPath], copy: Path) -> None:
    """Into a folder beside, which is renamed when it is whole."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=copy.parent, prefix=".partial-"))
    try:
        for name, path in found.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            path.copy(partial / name)
        if not copy.is_dir():
            partial.rename(copy)
    except OSError as error:
        if copy.is_dir():  # another process was faster
            return
        if error.errno is None:
            raise
        raise StoryjaxError(f"cannot copy to '{copy}' ({error.strerror}); make room, then start again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _upload(here: Path, folder: AnyPath, last: str) -> None:
    before = {name: path for path, name in files_below(folder)} if folder.is_dir() else {}
    if last in before:
        before[last].unlink()
    new = [path.relative_to(here).as_posix() for path in sorted(here.rglob("*")) if path.is_file()]
    for name in sorted(new, key=lambda name: name == last):
        at(here / name).copy(folder / name, overwrite=True)
    for name in before.keys() - {*new, last}:
        before[name].unlink()
