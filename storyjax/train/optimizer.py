"""AdamW or Muon with its learning-rate schedule, from a configuration."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from storyjax.train.config import OptimizerConfig
from storyjax.train.task import Params


def learning_rate(config: OptimizerConfig, steps: int) -> Callable[[Any], jax.Array]:
    """Schedule over the number of updates already made, c = 0, 1, ...

    lr(c) = peak * min(1, (c+1)/warmup) * shape(t), with t = clip((c - warmup) / (steps - warmup), 0, 1) and shape falling
    from 1 to `final_fraction` (cosine or linear) or staying at 1. The warm-up starts at peak/warmup, not at 0, so that
    no step is wasted.
    """

    def schedule(count: Any) -> jax.Array:
        count = jnp.asarray(count, jnp.float32)
        warm = jnp.minimum(1.0, (count + 1) / max(config.warmup_steps, 1))
        t = jnp.clip((count - config.warmup_steps) / max(steps - config.warmup_steps, 1), 0, 1)
        remaining = {"constant": jnp.ones_like(t), "linear": 1 - t, "cosine": (1 + jnp.cos(jnp.pi * t)) / 2}[
            config.schedule
        ]
        return config.learning_rate * warm * (config.final_fraction + (1 - config.final_fraction) * remaining)

    return schedule


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Clip to the global norm, then AdamW or Muon with decoupled weight decay, over a nested dictionary of trainable leaves."""
    rate, mask = learning_rate(config, steps), _matrices if config.decay_mask == "matrices" else None
    if config.name == "muon":
        update = optax.contrib.muon(
            rate,
            eps=config.eps,
            weight_decay=config.weight_decay,
            weight_decay_mask=mask,
            adam_b1=config.b1,
            adam_b2=config.b2,
            muon_weight_dimension_numbers=_as_matrices,  # type: ignore[arg-type]
            consistent_rms=0.2,
        )
    else:
        update = optax.adamw(
            rate, b1=config.b1, b2=config.b2, eps=config.eps, weight_decay=config.weight_decay, mask=mask
        )
    clip = optax.identity() if config.clip_norm is None else optax.clip_by_global_norm(config.clip_norm)
    return optax.chain(clip, update)


def _matrices(params: Params) -> Params:
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def _as_matrices(params: Params) -> Params:
    """Kernels (..., inputs, outputs) as matrices of all inputs by outputs; None, so AdamW, for tables and vectors."""

    def view(path: Any, leaf: jax.Array) -> Any:
        if getattr(path[-1], "key", None) != "kernel":
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(view, params)
