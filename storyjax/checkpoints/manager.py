"""Checkpoints of a training run: orbax's CheckpointManager, asynchronous and atomic, the last few kept.

`<folder>/<step>/` holds one item per part of the state (`params`, `frozen`, `ema`, `train`), so that weights can be read
without the optimizer, and `info` (JSON). Work goes to a temporary folder that is renamed when it is complete. A folder that
is not complete all the same (copied in half, a file lost) is moved to `<folder>-broken/`, never deleted, never resumed from.
In a bucket, which cannot rename, orbax writes in place and marks what is complete; a step without the mark is such a temporary
folder.
"""

import itertools
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp

from storyjax.checkpoints.paths import AnyPath, PathLike, absolute, is_local, move_folder
from storyjax.errors import StoryjaxError
from storyjax.nn.build import flatten, unflatten
from storyjax.parallel.processes import speaks, wait_for_all

State = dict[str, Any]
log = logging.getLogger("storyjax")

FOLDER = "checkpoints"  # in a work directory
PARTS = ("params", "frozen", "ema", "train")
DONE = "commit_success.txt"


class Checkpoints:
    """Saves and restores the state of one run in one folder; use as a context manager, or call `close`."""

    def __init__(self, folder: PathLike, keep_last: int = 2):
        self.folder = absolute(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._pending: int | None = None
        for step in _numbered(self.folder) if speaks() else ():
            if not _unmarked(self.folder / str(step)) and not _finished(self.folder / str(step)):
                self._set_aside(step, "it is not complete")
        wait_for_all(f"only complete checkpoints in {self.folder}")
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=ocp.checkpoint_managers.LatestN(keep_last), cleanup_tmp_directories=True
            ),
        )

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first."""
        return [step for step in _numbered(self.folder) if _finished(self.folder / str(step))]

    def save(self, step: int, state: State, info: dict[str, Any]) -> None:
        """Start writing; returns as soon as the arrays are copied, so that the caller may donate them.

        Errors of the write (a full disk) appear here, in `check` or in `wait`. Raises when `info` is not JSON.
        """
        try:
            json.dumps(info)
        except TypeError as error:
            raise StoryjaxError(f"the state to save with step {step} is not plain JSON: {error}") from None
        items: dict[str, Any] = {
            name: ocp.args.StandardSave(state[name]) for name in PARTS if jax.tree.leaves(state[name])
        }
        with self._reported():
            self._manager.wait_until_finished()
            self._pending = step
            self._manager.save(step, args=ocp.args.Composite(**items, info=ocp.args.JsonSave(info)), force=True)

    def check(self) -> None:
        """Raise the error of a background write, if one has failed; costs microseconds."""
        with self._reported():
            self._manager.check_for_errors()

    def wait(self) -> None:
        """Until everything is on disk."""
        with self._reported():
            self._manager.wait_until_finished()

    def restore(self, target: State) -> tuple[State, dict[str, Any]] | None:
        """(state, info) of the newest readable checkpoint, or None if the folder holds none.

        `target` holds ShapeDtypeStructs; where they have a sharding each device reads its own part only, whatever mesh the
        checkpoint was written on. A checkpoint that cannot be read is set aside with a message and the one
        before it is taken; if none can be read, that is an error: starting again from nothing must be the user's wish.
        """
        reasons: dict[int, str] = {}
        for step in reversed(self.steps()):
            try:
                found = self._read(step, target)
            except Exception as error:  # orbax and tensorstore raise many kinds
                reasons[step] = (str(error) or repr(error)).splitlines()[0]
                continue
            for bad, reason in reasons.items() if speaks() else ():
                self._set_aside(bad, f"it cannot be read ({reason}); continuing from step {step}")
            wait_for_all(f"only readable checkpoints in {self.folder}")
            self._manager.reload()
            return found
        if reasons:
            listed = "; ".join(f"step {step}: {reason}" for step, reason in reasons.items())
            raise StoryjaxError(
                f"no checkpoint in '{self.folder}' can be read ({listed}); "
                "put a good copy there, or train in another work directory"
            )
        return None

    def _read(self, step: int, target: State) -> tuple[State, dict[str, Any]]:
        items: dict[str, Any] = {
            name: ocp.args.StandardRestore(_here(target[name])) for name in PARTS if jax.tree.leaves(target[name])
        }
        found = self._manager.restore(step, args=ocp.args.Composite(**items, info=ocp.args.JsonRestore()))
        return {name: found[name] if name in items else {} for name in PARTS}, found["info"]

    def _set_aside(self, step: int, reason: str) -> None:
        place = self.folder.with_name(f"{self.folder.name}-broken")
        place.mkdir(parents=True, exist_ok=True)
        target = place / str(step)
        for number in itertools.count(1):
            if not target.exists():
                break
            target = place / f"{step}-{number}"
        move_folder(self.folder / str(step), target)
        log.warning("checkpoint of step %d moved to '%s': %s", step, target, reason)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """A failed write as one sentence that says what is still good."""
        try:
            yield
        except StoryjaxError:
            raise
        except Exception as error:  # OSError, or tensorstore's ValueError with the same text
            reason = (str(error) or repr(error)).splitlines()[0]
            for left in self.folder.glob("*.orbax-checkpoint-tmp") if speaks() and is_local(self.folder) else ():
                shutil.rmtree(left, ignore_errors=True)  # gives the room back; it could never be read
            full = "No space left" in str(error) or "ENOSPC" in str(error) or "RESOURCE_EXHAUSTED" in str(error)
            cause = "the disk is full" if full else reason
            steps = ", ".join(f"step {step}" for step in self.steps()) or "none"
            remedy = "Make room or mend the disk" if is_local(self.folder) else "See to the bucket and the credentials"
            raise StoryjaxError(
                f"saving step {self._pending} to '{self.folder}' failed: {cause}; complete checkpoints: {steps}. "
                f"{remedy}, then start the same command again"
            ) from error

    def close(self) -> None:
        """Wait for the last write and free the threads."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except Exception as late:
            if error is None:
                raise
            log.warning("%s", late)  # the first error is the one to show


def load_params(
    workdir: PathLike, which: Literal["ema", "raw"] = "ema", step: int | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, info) out of a training run's work directory, without the optimizer.

    `which`: the moving averages or the raw weights, each completed with the frozen leaves. `step`: None takes the last
    complete checkpoint. Nothing in the folder is changed, so it may be read while a training writes to it.
    """
    folder = absolute(workdir) / FOLDER
    steps = [number for number in _numbered(folder) if _finished(folder / str(number))]
    if not steps:
        raise StoryjaxError(f"no complete checkpoint under '{folder}'; expected the work directory of a training run")
    chosen = steps[-1] if step is None else step
    if chosen not in steps:
        raise StoryjaxError(f"no complete checkpoint of step {step} under '{folder}'; there are {steps}")
    if which not in ("ema", "raw"):
        raise StoryjaxError(f"which must be 'ema' or 'raw', got '{which}'")
    flat: dict[str, Any] = {}
    for name in ("ema" if which == "ema" else "params", "frozen"):
        item: Any = folder / str(chosen) / name
        if item.is_dir():
            handler = ocp.StandardCheckpointHandler()
            target = _here(handler.metadata(item).tree)
            flat |= flatten(handler.restore(item, args=ocp.args.StandardRestore(target)))
            handler.close()
    info = json.loads((folder / str(chosen) / "info" / "metadata").read_text())
    return unflatten(flat), info


def _here(tree: Any) -> Any:
    """What to read, and where to: where the leaf says, else this process's first device."""
    first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def one(leaf: Any) -> jax.ShapeDtypeStruct:
        place = getattr(leaf, "sharding", None) if isinstance(leaf, jax.ShapeDtypeStruct) else None
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place or first)

    return jax.tree.map(one, tree)


def _numbered(folder: AnyPath) -> list[int]:
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(entry.name) for entry in entries if entry.name.isdigit() and entry.is_dir())


def _unmarked(folder: AnyPath) -> bool:
    """Whether it is being written in a bucket, or its write was interrupted: orbax then removes it at the next start."""
    return not is_local(folder) and not (folder / DONE).is_file()


def _finished(folder: AnyPath) -> bool:
    """Orbax writes these marks last; a folder without them was never complete, or lost files later."""
    if _unmarked(folder):
        return False
    parts = [part for part in folder.iterdir() if part.is_dir()]
    marked = (folder / "_CHECKPOINT_METADATA").is_file() and (folder / "info" / "metadata").is_file()
    return marked and all((part / DONE).is_file() for part in parts)
