"""The one training loop, for the autoencoder, the story model and the recogniser alike."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from storyjax.checkpoints.manager import FOLDER, Checkpoints
from storyjax.checkpoints.paths import AnyPath, PathLike, at, check_storage, storage_errors_told
from storyjax.checkpoints.workdir import claim, locked
from storyjax.config import to_json
from storyjax.errors import StoryjaxError
from storyjax.nn.build import count
from storyjax.nn.flops import Flops, speed_row
from storyjax.parallel.distributed import lost_processes_told
from storyjax.parallel.mesh import check_batch
from storyjax.parallel.placement import Placement
from storyjax.parallel.processes import speaks
from storyjax.train.config import FREE_FIELDS, TrainConfig
from storyjax.train.metrics import Window
from storyjax.train.optimizer import make_optimizer
from storyjax.train.report import Report, Silence
from storyjax.train.signals import StopSignals
from storyjax.train.state import (
    State,
    abstract_state,
    begun_with,
    check_params,
    created,
    ema_params,
    initial_params,
)
from storyjax.train.step import compile_step, make_step
from storyjax.train.task import Batch, Params, Task

# `param_norm` is taken after the update: with these three finite, the state is fit to be saved.
HEALTH = ("loss", "grad_norm", "param_norm")


class Batches(Protocol):
    """An endless iterator over batches whose position can be saved, such as grain's."""

    def __next__(self) -> dict[str, np.ndarray]: ...
    def get_state(self) -> dict[str, Any]: ...
    def set_state(self, state: dict[str, Any]) -> None: ...


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """Where a call of `train` ended. `stopped_by` names the signal, or is None when all steps were made."""

    step: int
    examples_seen: int
    stopped_by: str | None
    metrics: dict[str, float]
    workdir: AnyPath


def train(
    task: Task,
    config: TrainConfig,
    batches: Batches,
    workdir: PathLike,
    *,
    config_json: dict[str, Any],
    init_params: Params | None = None,
    progress: bool = True,
    free: Sequence[str] = (),
    placement: Placement | None = None,
) -> TrainResult:
    """Train until `config.steps`, or until SIGTERM or Ctrl-C, which save at the next step border.

    `workdir` (a folder, or gs://bucket/folder) alone is enough to continue: it holds `config.json`, `checkpoints/`,
    `metrics.jsonl` and `samples/`. Where the parameters come from, in this order: the last checkpoint there, `init_params`
    (whole tree), `task.init`.
    `config_json`: the whole configuration of the system; a work directory of another one is refused, except for fields
    that cannot change a step (`config.FREE_FIELDS`) and dotted paths that a regular expression in `free` matches.
    `placement`: the mesh (default: all devices side by side over the stories); `batches` gives the rows of the batch that
    `placement.rows` names. A run may go on on another mesh, and with another number of processes.

    Errors (StoryjaxError): a batch that the mesh does not divide, another configuration, no readable checkpoint, a non-finite
    loss, a failed save, batches that end or change their shape. None of them harms the checkpoints that are complete.
    """
    with contextlib.ExitStack() as stack:
        # ================= configuration and mesh =================
        workdir, placement = at(workdir), placement or Placement.of()
        check_batch(placement.mesh, config.batch_size, config.accumulation)
        check_storage(workdir)
        stack.enter_context(lost_processes_told(workdir))
        stack.enter_context(storage_errors_told(workdir))
        stack.enter_context(_disk_errors(workdir))
        whole, free_fields = _whole_config(config_json, config)
        if speaks():
            stack.enter_context(locked(workdir))
        claim(workdir, whole, [*free_fields, *free], write=speaks())

        # ================= state: work directory, given parameters, scratch =================
        optimizer = make_optimizer(config.optimizer, config.steps)
        checkpoints = stack.enter_context(Checkpoints(workdir / FOLDER, config.keep_last))
        state, info = _first_state(task, config, optimizer, checkpoints, init_params, placement)
        step, examples_seen, spent = info["step"], info["examples_seen"], info["train_seconds"]

        # ================= data =================
        if info["data"] is not None:
            batches.set_state(info["data"])

        # ================= what a person sees =================
        report = Report(workdir, config.steps, step, progress) if speaks() else Silence()
        stack.callback(report.close)
        window = Window()
        window.set_state(info["window"])
        report.overview(
            state["params"], f"{count(state['params']):,} trainable, {count(state['frozen']):,} frozen parameters"
        )
        if info["data"] is not None:
            report.say(f"continuing '{workdir}' after step {step}")
        row: dict[str, Any] = {}
        stop = stack.enter_context(StopSignals())

        saved = step

        def save() -> None:
            nonlocal saved
            if saved == step:
                return
            info = {"step": step, "examples_seen": examples_seen, "train_seconds": spent, "seed": config.seed}
            info |= {
                "data": batches.get_state(),
                "window": window.get_state(),
                "config_fingerprint": _fingerprint(whole),
            }
            checkpoints.save(step, state, info)
            saved = step

        # ================= the loop =================
        compiled, flops, shapes, pending, loss = None, Flops(), None, None, None
        clock, counted = time.monotonic(), 0
        while step < config.steps and not stop.asked(step):
            try:
                batch = next(batches)
            except StopIteration:
                raise StoryjaxError(
                    f"the batches ended after step {step} of {config.steps}; expected an iterator that repeats the data"
                ) from None
            if compiled is None:
                shapes = _check_batch(batch, len(placement.rows(config.batch_size)))
                compiled, flops = _compile(task, config, optimizer, state, placement, batch, report)
                clock = time.monotonic()
            elif _shapes(batch) != shapes:
                raise StoryjaxError(f"batch {step + 1} changed its shape: expected {shapes}, got {_shapes(batch)}")

            # ----- step: enqueue this one, then look at the one before while the device works
            placed = placement.batch(batch, config.batch_size)
            state, values = compiled(state, placed)
            step, examples = step + 1, task.examples_per_batch(placed)
            examples_seen, counted = examples_seen + examples, counted + examples
            window.add(values)
            loss = _settle(pending, checkpoints) if pending else loss
            pending = (step, {name: values[name] for name in HEALTH}, batch.get("index"))
            checkpoints.check()

            last = step == config.steps
            due = {
                "log": last or step % config.log_every == 0,
                "save": last or step % config.save_every == 0,
                "sample": config.sample_every and (last or step % config.sample_every == 0),
                "evaluate": config.evaluate_every and (last or step % config.evaluate_every == 0),
            }
            elapsed = time.monotonic() - clock
            report.step(step, loss, counted / elapsed if counted > examples else None)
            if not any(due.values()):
                continue
            loss, pending = _settle(pending, checkpoints), None  # nothing below may see a sick state
            elapsed = time.monotonic() - clock
            spent += elapsed

            # ----- log
            if due["log"]:
                row = window.compute() | {"examples_seen": examples_seen, "train_seconds": round(spent, 3)}
                speed = speed_row(flops, elapsed * examples / counted, placement.mesh.size)
                report.log(step, row | {"examples_per_second": counted / elapsed} | speed)
                window.clear()

            # ----- save
            if due["save"]:
                save()

            try:
                # ----- sample
                if task.sample and due["sample"]:
                    with report.folder_for_pictures(step) as folder, placement.current():
                        task.sample(ema_params(state), folder, step)

                # ----- evaluate
                if task.evaluate and due["evaluate"]:
                    with placement.current():
                        found = task.evaluate(ema_params(state), step)
                    found = {f"eval/{name}": float(value) for name, value in found.items()}
                    report.log(step, {"examples_seen": examples_seen} | found)
                    row |= found
            except Exception:  # not the training's fault: keep the steps made since the last save
                with contextlib.suppress(StoryjaxError):
                    save()
                raise
            clock, counted = time.monotonic(), 0

        # ================= the end =================
        if stop.name:
            if pending:
                _settle(pending, checkpoints)
                spent += time.monotonic() - clock
            save()
        checkpoints.wait()
        if stop.name:
            report.say(f"{stop.name}: saved step {step} in '{workdir}'; the same command continues from there")
        return TrainResult(step, examples_seen, stop.name, row, workdir)


@contextlib.contextmanager
def _disk_errors(workdir: AnyPath) -> Iterator[None]:
    """A full disk met outside the checkpoints (learning curve, sample pictures) as one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoryjaxError(
            f"the disk is full while writing to '{workdir}' ({error}); the complete checkpoints there are intact. "
            "Make room, then start the same command again"
        ) from error


def _whole_config(config_json: dict[str, Any], config: TrainConfig) -> tuple[dict[str, Any], list[str]]:
    """The configuration to keep, and the dotted paths in it that a resumed run may change.

    The system's configuration normally contains the TrainConfig; if it does not, it is added as `train`.
    """
    own = to_json(config)

    def places(tree: Any, prefix: str) -> list[tuple[str, Any]]:
        if not isinstance(tree, dict):
            return []
        here = [(prefix, tree)] if own.keys() <= tree.keys() else []
        return here + [found for name, value in tree.items() for found in places(value, f"{prefix}{name}.")]

    found = places(config_json, "")
    if not any({name: tree[name] for name in own} == own for _, tree in found):
        config_json, found = config_json | {"train": own}, [*found, ("train.", own)]
    return config_json, [re.escape(prefix + name) for prefix, _ in found for name in sorted(FREE_FIELDS)]


def _first_state(
    task: Task,
    config: TrainConfig,
    optimizer: Any,
    checkpoints: Checkpoints,
    init_params: Params | None,
    placement: Placement,
) -> tuple[State, dict[str, Any]]:
    if checkpoints.steps():
        restored = checkpoints.restore(placement.targets(abstract_state(task, optimizer, config.seed)))
        if restored:
            return restored
    info = {"step": 0, "examples_seen": 0, "train_seconds": 0.0, "data": None, "window": {}}
    if init_params is None:
        return created(task, optimizer, config.seed, placement), info
    check_params(init_params, jax.eval_shape(lambda: initial_params(task, config.seed)))
    return begun_with(init_params, task, optimizer, config.seed, placement), info


def _compile(
    task: Task,
    config: TrainConfig,
    optimizer: Any,
    state: State,
    placement: Placement,
    batch: Batch,
    report: Report | Silence,
) -> tuple[Any, Flops]:
    began = time.monotonic()
    report.say(f"compiling the training step for {placement} ...")
    placed = placement.batch(batch, config.batch_size)
    with placement.current():
        compiled, flops = compile_step(make_step(task, config, optimizer), state, placed, placement)
    report.say(f"compiled in {time.monotonic() - began:.1f} s; a step is {flops}")
    return compiled, flops


def _shapes(batch: Batch) -> dict[str, tuple[int, ...]]:
    return {name: tuple(np.shape(value)) for name, value in batch.items()}


def _check_batch(batch: Batch, rows: int) -> dict[str, tuple[int, ...]]:
    shapes = _shapes(batch)
    wrong = {name: shape for name, shape in shapes.items() if not shape or shape[0] != rows}
    if wrong:
        raise StoryjaxError(f"expected batches whose leading axis is batch_size {rows}, got {wrong}")
    return shapes


def _settle(pending: tuple[int, dict[str, jax.Array], Any], checkpoints: Checkpoints) -> float:
    """The loss of an earlier step, once it is known to be sound; waits for that step only."""
    step, values, indices = pending
    values = jax.device_get(values)
    health = {name: float(values[name]) for name in HEALTH}
    bad = [f"{name} is {value}" for name, value in health.items() if not math.isfinite(value)]
    if bad:
        checkpoints.wait()
        steps = checkpoints.steps()
        good = (
            f"the last good checkpoint is step {steps[-1]} in '{checkpoints.folder}'"
            if steps
            else "nothing was saved yet"
        )
        where = "unknown" if indices is None else np.asarray(indices).tolist()
        raise StoryjaxError(
            f"training stopped at step {step}: {', '.join(bad)} (batch indices {where}); {good}. "
            "Look at these examples, lower the learning rate or clip_norm, and start from there"
        )
    return health["loss"]


def _fingerprint(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
