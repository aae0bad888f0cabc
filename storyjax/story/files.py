"""Files written whole or not at all: a full disk or a kill leaves what was there before."""

import contextlib
import errno
import os
from pathlib import Path

from storyjax.errors import StoryjaxError


def write_whole(path: Path, content: bytes) -> None:
    """Write beside `path`, flush to the disk, then rename over it; on any failure nothing is left behind."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> StoryjaxError:
    """The one-line error for a write that failed; a full disk is named as such."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    reason = "the disk is full; make room and try again" if full else (error.strerror or str(error))
    return StoryjaxError(f"cannot write '{path}': {reason}; nothing that was there before has been changed")
