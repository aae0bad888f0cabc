"""Weights of feature networks as their owners publish them: found by file name, known by hash, never replaced by anything else."""

import dataclasses
import functools
import hashlib
import os
from pathlib import Path

from storyjax.errors import StoryjaxError


def weights_folder() -> Path:
    """Where published weight files are put: `$STORYJAX_WEIGHTS`, or `~/.cache/storyjax/weights`."""
    return Path(os.environ.get("STORYJAX_WEIGHTS") or "~/.cache/storyjax/weights").expanduser()


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """A weight file that its owner publishes and storyjax does not ship.

    file: the name it is published under. address: where. sha256: its hash, or as many first digits as the owner tells
    (PyTorch's hub puts eight into the name); None where the owner tells none. what: the network, for messages.
    """

    file: str
    address: str
    sha256: str | None
    what: str

    def find(self) -> Path:
        """The file on this machine. Errors: not there (saying where it is published and where to put it); another content."""
        path = weights_folder() / self.file
        if not path.is_file():
            raise StoryjaxError(
                f"{self.what} needs its published weights '{self.file}', which are not in '{path.parent}'; download them from "
                f"{self.address} into that folder (or set STORYJAX_WEIGHTS to the folder that holds them)"
            )
        found = sha256_of(path)
        if self.sha256 and not found.startswith(self.sha256):
            raise StoryjaxError(
                f"'{path}' is not the published file of {self.what}: its SHA-256 starts with {found[: len(self.sha256)]}, "
                f"expected {self.sha256}; download it again from {self.address}"
            )
        return path

    def about(self) -> dict[str, str]:
        """File name and SHA-256 of what is on this machine, for a result's record."""
        return {"weights": self.file, "sha256": sha256_of(self.find())}


@functools.lru_cache
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file; read once as long as it does not change."""
    known = path.stat()
    return _sha256(path.resolve(), known.st_size, known.st_mtime_ns)
