"""The training step of ContextualStory over 1, 2, 4 and 8 devices, with the same number of stories for each device.

Two things are shown. What the compiled program says to its neighbours, in bytes, beside what arithmetic expects:

    data     one sum of all gradients: 4 bytes x parameters that have one (less where the compiler sums before it widens bfloat16)
    fsdp     the cut parameters gathered, in the dtype of the arithmetic, for the forward pass and where the compiler prefers once
             more for the backward pass; one sum of all gradients

and how the time of a step grows, which says something on real devices only: those of a CPU share its cores.
"""

import dataclasses

import jax
import jax.numpy as jnp

from benchmarks.measure import Row, Setting, Side, compare
from benchmarks.sides import TOKENS, random_params, runs_ahead, step_side
from benchmarks.training import Training, story_training
from storyjax.nn.build import Params, flatten
from storyjax.parallel.collectives import communication
from storyjax.parallel.mesh import make_mesh
from storyjax.parallel.placement import Placement
from storyjax.parallel.rules import spec_for
from storyjax.train.optimizer import make_optimizer
from storyjax.train.state import begun_with, split
from storyjax.train.task import Batch

COUNTS, TOY_COUNTS, AXES = (1, 2, 4, 8), (2,), ("data", "fsdp")
SHARED_CORES = "the devices of a CPU share its cores: communication is as on real ones, time says nothing about scaling"
Talk = dict[str, dict[str, float]]


def run(setting: Setting) -> list[Row]:
    """Training step of ContextualStory over 1, 2, 4 and 8 devices: time, and communication against arithmetic."""
    rows: list[Row] = []
    for axis, devices in _meshes(setting):
        row = _row(setting, axis, devices)
        rows.append(dataclasses.replace(row, ratio=rows[0].seconds / row.seconds if rows else None))
    return rows


def _meshes(setting: Setting) -> list[tuple[str, int]]:
    """(axis, devices); one device alone is the same on any axis."""
    counts = [count for count in (COUNTS if setting.full else TOY_COUNTS) if count <= len(jax.devices())]
    return [(axis, count) for axis in AXES for count in counts if count > 1 or axis == AXES[0]]


def _row(setting: Setting, axis: str, devices: int) -> Row:
    training = story_training(setting.full)
    placement = Placement.of(make_mesh(f"{axis}={devices}", jax.devices()[:devices]))
    each = setting.batch or (6 if setting.full else 1)
    conditions = {"devices": devices, "mesh": f"{axis}={devices}", "stories a device": each}
    given, params = jax.device_get(training.draw(each * devices)), random_params(training.shapes, jnp.float32)
    with jax.set_mesh(placement.mesh):
        side = _side(setting, training, placement, params, given)
        (row,) = compare("training step", [side], setting, conditions, items=each * devices, unit="story")
    talk = {kind: dataclasses.asdict(traffic) for kind, traffic in communication(side.program).items()}
    told = said(talk, expected(setting, training, placement)) if devices > 1 else ()
    told += (SHARED_CORES,) if devices > 1 and not runs_ahead() else ()
    share = None if row.utilisation is None else row.utilisation / devices
    return dataclasses.replace(row, communication=talk, utilisation=share, notes=(*row.notes, *told))


def _side(setting: Setting, training: Training, placement: Placement, params: Params, given: Batch) -> Side:
    batch = len(given["index"])
    config = training.config(setting, batch)
    optimizer = make_optimizer(config.optimizer, config.steps)
    state = begun_with(params, training.task, optimizer, 0, placement)
    places = placement.shardings(state), placement.everywhere
    return step_side(setting, training.step(config), state, placement.batch(given, batch), out_shardings=places)


def expected(setting: Setting, training: Training, placement: Placement) -> dict[str, int]:
    """Bytes of one device and step by arithmetic: `gathered` (once) and `summed`."""
    trainable, frozen = split(training.shapes, training.task.frozen)
    width = jnp.dtype(setting.dtype).itemsize
    gathered = width * (_cut(trainable, placement) + _cut(frozen, placement))
    return {"gathered": gathered, "summed": 4 * sum(_read(path, leaf) for path, leaf in flatten(trainable).items())}


def _read(path: str, leaf: jax.ShapeDtypeStruct) -> int:
    """Numbers of a leaf that a step reads: of the contextualizer's positions those of a caption's tokens alone."""
    rows = leaf.shape[-2] if path.endswith("pos_embed") else 0
    return leaf.size * TOKENS // rows if rows > TOKENS else leaf.size


def _cut(params: Params, placement: Placement) -> int:
    """Numbers in the leaves that FSDP cuts."""
    leaves = flatten(params).items()
    return sum(_read(path, leaf) for path, leaf in leaves if "fsdp" in spec_for(path, leaf.shape, placement.mesh))


def said(talk: Talk, arithmetic: dict[str, int]) -> tuple[str, ...]:
    """What was found beside what was expected, in words."""
    found = {
        "gathered": sum(told["payload"] for kind, told in talk.items() if kind == "all-gather"),
        "summed": sum(told["payload"] for kind, told in talk.items() if kind in ("all-reduce", "reduce-scatter")),
    }
    return tuple(
        f"{name}: {found[name] / 2**20:.4g} MiB a device and step, by arithmetic {value / 2**20:.4g} MiB"
        for name, value in arithmetic.items()
        if value
    )
