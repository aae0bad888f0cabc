"""One path type for folders on this machine's disks and in Google Cloud Storage: `etils.epath.Path`.

An object store has no folders, cannot append and cannot rename; a single object appears whole or not at all. What differs for
that reason is here, so that the rest need not ask. What only a disk can do (locks, memory maps, libraries that open files by
name) happens in `kept_here`, a folder of this machine that belongs to the work directory.

gs:// needs gcsfs (`pip install 'storyjax[gcs]'`). Credentials are Google's application default credentials.
"""

import functools
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etils import epath

from storyjax.errors import StoryjaxError
from storyjax.parallel.processes import several

AnyPath = epath.Path
PathLike = str | os.PathLike[str]
GS = "gs://"


def at(place: PathLike) -> AnyPath:
    """The path of a folder on a disk, or of `gs://bucket/folder`.

    Errors: an address of another kind; gs:// without gcsfs; a gs:// address that went through pathlib.
    """
    text = _address(place)
    scheme = re.match(r"([A-Za-z][\w+.-]*)://", text)
    if scheme and scheme[0] != GS:
        raise StoryjaxError(f"'{text}': expected a folder, or gs://bucket/folder; {scheme[0]} is not known here")
    if scheme:
        if not re.match(r"gs://[^/]+/+[^/]", text):
            raise StoryjaxError(f"'{text}': expected a folder in a bucket, such as gs://bucket/runs/first")
        _prepare(text)
    return epath.Path(text)


def absolute(place: PathLike) -> AnyPath:
    """From the root of the file system; an address is as it is (pathlib would put the working directory before it)."""
    return epath.Path(Path(place).absolute()) if is_local(place) else at(place)


def is_local(place: PathLike) -> bool:
    """Whether it lies on a disk of this machine (or one that is mounted here)."""
    return not _address(place).startswith(GS)


def _address(place: PathLike) -> str:
    text = os.fspath(place)
    if re.match(r"gs:/(?!/)", text):
        raise StoryjaxError(f"'{text}' was an address before pathlib.Path took a slash from it; give it as text")
    return text


def local(place: PathLike, what: str) -> Path:
    """As pathlib's path. Errors: it is an address; `what` says what must be a folder here."""
    if not is_local(place) or "://" in os.fspath(place):
        raise StoryjaxError(
            f"'{os.fspath(place)}': {what} must be on this machine; copy it first, or name a folder here"
        )
    return Path(place)


def write_whole(path: PathLike, text: str) -> None:
    """Replace a text file in one step: a reader, or a killed writer, finds the old text or the new one."""
    path = at(path)
    if not is_local(path):
        path.write_bytes(text.encode())  # one put
        return
    beside = path.with_name(path.name + ".tmp")
    beside.write_bytes(text.encode())
    beside.replace(path)


def append_line(path: PathLike, line: str) -> None:
    """Add a line (without its end) to a text file; in an object store the file is read and written again."""
    path = at(path)
    if is_local(path):
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        return
    before = path.read_bytes() if path.exists() else b""
    path.write_bytes(before + line.encode() + b"\n")


def move_folder(folder: PathLike, target: PathLike) -> None:
    """Rename a folder; in an object store its files are copied one by one, and removed when all of them are there."""
    folder, target = at(folder), at(target)
    if is_local(folder):
        folder.rename(target)
        return
    for path, name in files_below(folder):
        path.copy(target / name)
    folder.rmtree()


def files_below(folder: AnyPath) -> Iterator[tuple[AnyPath, str]]:
    """(path, its name from `folder`) of all files in a folder and below it."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            yield from ((path, f"{entry.name}/{name}") for path, name in files_below(entry))
        else:
            yield entry, entry.name


def kept_here(workdir: PathLike) -> Path:
    """A folder on this machine's disk for what belongs to a work directory and must be on one: itself, where it is local.

    For a remote one it lies in the user's cache folder; nothing is lost but time where it is removed. Several processes of
    one run have one each, since nobody can say which of them share a disk.
    """
    if is_local(workdir):
        return Path(workdir)
    import jax

    own = f"-process{jax.process_index()}" if several() else ""
    return cache_folder("runs") / f"{name_of(workdir)}{own}"


def cache_folder(kind: str) -> Path:
    """Where this user's programs keep what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "storyjax" / kind


def name_of(place: PathLike) -> str:
    """A folder name for an address: its last word, for people, and a hash of the whole."""
    text = os.fspath(place).rstrip("/")
    return f"{text.rpartition('/')[2]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@contextmanager
def storage_errors_told(place: PathLike) -> Iterator[None]:
    """Within it, what goes wrong between here and a bucket becomes one sentence; for a local `place` nothing changes."""
    try:
        yield
    except Exception as error:
        if is_local(place) or not _of_storage(error):
            raise
        reason = " ".join((str(error) or repr(error)).split())[:400]
        raise StoryjaxError(
            f"'{os.fspath(place)}' cannot be read or written ({type(error).__name__}: {reason}); what is complete there is "
            "intact. Expected a bucket that exists and credentials that may read and write it (`gcloud auth "
            "application-default login`)"
        ) from error


def check_storage(place: PathLike) -> None:
    """Ask for the bucket of a gs:// address, before work is done that would be in vain. Errors: as above, one line."""
    if is_local(place):
        return
    import fsspec

    bucket = at(place).parts[2]
    with storage_errors_told(place):
        try:
            files: Any = fsspec.filesystem("gcs", finalize_on_close=True)  # as epath opens it: the same object
            files.call("GET", f"b/{bucket}")
        except FileNotFoundError:
            raise StoryjaxError(
                f"there is no bucket '{bucket}' ('{os.fspath(place)}'); make it first, or name another"
            ) from None


@functools.cache
def _prepare(text: str) -> None:
    """Before the first gs:// path is used."""
    missing = [name for name in ("gcsfs", "google.cloud.storage") if not _is_installed(name)]
    if missing:
        raise StoryjaxError(f"'{text}' needs {' and '.join(missing)}, not installed here: pip install 'storyjax[gcs]'")
    # One client for all, whether TensorFlow (of the extra [tensorboard]) is installed or not.
    os.environ.setdefault("EPATH_USE_TF", "0")
    # Checkpoints are written by another client (tensorstore), of which remembered listings would know nothing.
    import fsspec.config

    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package above it
        return False


def _of_storage(error: BaseException) -> bool:
    """Whether it was raised by a client of the storage: by its package, or an OSError without the system's number."""
    package = type(error).__module__.partition(".")[0]
    return package in ("gcsfs", "google", "aiohttp") or (isinstance(error, OSError) and error.errno is None)
