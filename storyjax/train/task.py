"""What a system hands to the one training loop: parameters, a loss, and what to do with them now and then."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

Params = dict[str, Any]
Batch = dict[str, Any]


def identity(params: Params) -> Params:
    """The parameters unchanged."""
    return params


def leading_axis(batch: Batch) -> int:
    """Examples in a batch: the length B of the leading axis that every entry shares."""
    return len(next(iter(batch.values())))


@dataclasses.dataclass(frozen=True)
class Task:
    """One thing to train: the autoencoder, the story model, the recogniser.

    `init(key)` gives the whole nested dictionary of parameters and must be traceable (the loop evaluates it abstractly on
    resume, so that nothing is drawn only to be overwritten); trainable leaves are float32, frozen ones may be anything.

    `loss_fn(params, batch, key)` gives a scalar that is the MEAN over the batch, and a flat dictionary of scalars. It is
    pure; floating parameters arrive in the compute dtype, batch entries as device arrays in the dtype the data has.
    With accumulation it is called on every micro-batch with a key of its own.

    `sample(params, folder, step)` writes pictures into `folder` (which exists); `evaluate(params, step)` gives numbers.
    Both receive the moving averages of the parameters and must not keep them: the buffers are donated to the next step.
    """

    init: Callable[[jax.Array], Params]
    loss_fn: Callable[[Params, Batch, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]
    frozen: tuple[str, ...] = ()
    """Regular expressions searched in dotted paths (`^text_encoder\\.`): no gradient, no optimizer state, no average."""
    project: Callable[[Params], Params] = identity
    """Applied to the parameters after every optimizer update, for example to clip gates to [0, 1]."""
    sample: Callable[[Params, Path, int], None] | None = None
    evaluate: Callable[[Params, int], dict[str, float]] | None = None
    examples_per_batch: Callable[[Batch], int] = leading_axis
    """Stories (or pictures) in one batch, for the speed and for `examples_seen`."""
