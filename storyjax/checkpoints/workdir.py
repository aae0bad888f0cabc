"""A work directory belongs to one configuration: `config.json` in it says which."""

import fcntl
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from storyjax.checkpoints.paths import PathLike, at, is_local, write_whole
from storyjax.errors import StoryjaxError

_ABSENT = "(absent)"


def claim(workdir: PathLike, config: dict[str, Any], free: Sequence[str] = (), *, write: bool = True) -> None:
    """Write `config.json` into the work directory, or compare with the one that is there.

    `free`: regular expressions that must match the whole dotted path of a field which may change between runs. Other
    differences are an error that names the fields. The file always holds the newest accepted configuration; without `write`
    (all processes of a run but one) it is only compared.
    """
    workdir = at(workdir)
    path = workdir / "config.json"
    if path.is_file():
        try:
            stored = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise StoryjaxError(
                f"'{path}' is not JSON ({error}); restore it, or train in another work directory"
            ) from None
        changed = [line for name, line in differences(stored, config) if not any(re.fullmatch(f, name) for f in free)]
        if changed:
            more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
            raise StoryjaxError(
                f"the work directory '{workdir}' belongs to another configuration: {'; '.join(changed[:6])}{more}. "
                f"Take these values, or another work directory (or edit '{path.name}' if you know that they do not matter)"
            )
        if stored == config:
            return
    if not write:
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(config, indent=2) + "\n")


@contextmanager
def locked(workdir: PathLike) -> Iterator[None]:
    """Keep a second training out of the work directory; the system frees the lock when the process ends, however it ends.

    A bucket has nothing that frees a lock when a process is killed, so a work directory there has none.
    """
    if not is_local(workdir):
        yield
        return
    workdir = at(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoryjaxError(
                f"another training is running in '{workdir}'; wait for it, stop it, or take another work directory"
            ) from None
        yield


def differences(stored: dict[str, Any], config: dict[str, Any]) -> list[tuple[str, str]]:
    """[(dotted field, "field: there ..., here ...")] for every leaf that is not the same on both sides."""
    old, new = _leaves(stored), _leaves(config)
    names = [name for name in {**old, **new} if old.get(name, _ABSENT) != new.get(name, _ABSENT)]
    return [(name, f"{name}: there {old.get(name, _ABSENT)!r}, here {new.get(name, _ABSENT)!r}") for name in names]


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Mappings are walked, everything else (lists too) is one value."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
    return flat
