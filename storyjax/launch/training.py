"""The `storyjax train` that every host runs."""

import dataclasses
from pathlib import Path

from storyjax.errors import StoryjaxError
from storyjax.launch.plan import CHECKOUT
from storyjax.parallel.mesh import MeshShape

# Folders that each host has for itself.
_OWN = ("/tmp", "/var", "/dev", "/run", "/proc", "/sys", "/root", "/etc")


@dataclasses.dataclass(frozen=True)
class Training:
    """What to train: a configuration of the checkout, the work directory as the hosts see it, changes, mesh."""

    config: str
    workdir: str
    changes: tuple[str, ...] = ()
    mesh: str = "data=-1"

    def __post_init__(self) -> None:
        for word in self.words(distributed=False):
            if "\0" in word or not _is_text(word):
                raise StoryjaxError(f"expected words of UTF-8 text without a zero byte, got {word!r}")

    @classmethod
    def of(cls, config: str | Path, workdir: str, changes: tuple[str, ...] = (), mesh: str = "data=-1") -> "Training":
        """With `config` named as it is named in the checkout, which the hosts have too."""
        path = Path(config).resolve()
        if not path.is_relative_to(CHECKOUT):
            raise StoryjaxError(
                f"'{config}' lies outside of '{CHECKOUT}'; the hosts have what is in there and nothing else: put it under configs/"
            )
        return cls(path.relative_to(CHECKOUT).as_posix(), workdir, tuple(changes), mesh)

    def words(self, *, distributed: bool) -> list[str]:
        """Of `storyjax`: the same on all hosts. `distributed`: there are several processes, which look for each other."""
        words = ["train", self.config, "--workdir", self.workdir, "--mesh", self.mesh]
        words += ["--distributed", "auto"] if distributed else []
        return words + (["--set", *self.changes] if self.changes else [])

    def check(self, *, devices: int, hosts: int, shared: str = "") -> None:
        """Errors: the mesh does not fit the devices; a work directory that not all hosts share (`shared`: the folder they do)."""
        MeshShape.parse(self.mesh).over(devices)
        where = Path(self.workdir)
        if "://" in self.workdir:
            raise StoryjaxError(
                f"workdir '{self.workdir}': expected a folder, got an address; mount the bucket or the file server on the hosts "
                "and name the folder there"
            )
        if not where.is_absolute() or ".." in where.parts:
            raise StoryjaxError(
                f"workdir '{self.workdir}': expected an absolute path, such as {shared or '/home/you'}/runs/first; the hosts do "
                "not start where you are"
            )
        if shared and (shared == self.workdir or not where.is_relative_to(shared)):
            raise StoryjaxError(
                f"workdir '{self.workdir}' is not below '{shared}', the folder that outlives the hosts and that they share; "
                f"take {shared}/runs/{where.name}"
            )
        if hosts > 1 and not shared and any(where.is_relative_to(own) for own in _OWN):
            raise StoryjaxError(
                f"workdir '{self.workdir}' lies on a disk that each of the {hosts} hosts has for itself; take a folder that all "
                "of them share"
            )


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
