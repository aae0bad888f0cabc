"""What training takes: the most memory that the compiled step holds, read from the compiler, nothing allocated or run."""

import dataclasses
import time
from collections.abc import Callable
from typing import get_args

import jax

from benchmarks.measure import Row, Setting, notes
from benchmarks.sides import NAME, program, program_bytes
from benchmarks.training import Training, sd21_training, story_training
from storyjax.nn.remat import Remat

Works = dict[str, tuple[Callable[..., Training], int]]  # how the training is built, and its batch
WORKS: Works = {
    "ContextualStory, training step": (story_training, 6),
    "UNet of SD 2.1, training step": (sd21_training, 32),
}
TOYS: Works = {"toy UNet, training step": (sd21_training, 2)}


def run(setting: Setting) -> list[Row]:
    """Peak memory of training steps, by what is kept for the backward pass; time is that of tracing and compiling."""
    return [
        _row(setting, work, make(setting.full, remat=remat), setting.batch or batch, remat)
        for work, (make, batch) in (WORKS if setting.full else TOYS).items()
        for remat in get_args(Remat)
    ]


def _row(setting: Setting, work: str, training: Training, batch: int, remat: Remat) -> Row:
    config = training.config(setting, batch)
    state = training.abstract_state(config)
    given = jax.eval_shape(lambda: training.draw(batch))
    before = time.perf_counter()
    flops, compiled = program(setting, training.step(config), state, given, donate_argnums=0)
    seconds = time.perf_counter() - before
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    conditions = {"batch": batch, "remat": remat}
    row = Row(work, NAME, {"dtype": setting.dtype} | conditions, seconds, seconds, seconds, 1)
    return dataclasses.replace(
        row,
        tflop=flops.total / 1e12,
        peak_bytes=program_bytes(compiled),
        notes=(*notes(flops), f"{work}: of this the state takes {state_bytes / 2**30:.2f} GiB"),
    )
