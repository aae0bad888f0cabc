"""The moving average of the parameters (ContextualStory's training code; diffusers' EMAModel without its power form)."""

import jax
import jax.numpy as jnp

from storyjax.train.config import EmaConfig
from storyjax.train.task import Params


def rate(config: EmaConfig, updates: jax.Array) -> jax.Array:
    """1 - decay of the update that follows `updates` earlier ones (s = n - 1 at optimizer step n).

    `official`: decay 0 at s = 0, so that the first update is a copy, then min((1+s)/(10+s), decay). `none`: decay.
    Computed as max(9/(10+s), 1-decay): in float32 the difference of 1 and 0.9999 would be off by 2e-4 of itself.
    """
    if config.warmup == "none":
        return jnp.asarray(1 - config.decay, jnp.float32)
    s = jnp.asarray(updates, jnp.float32)
    return jnp.where(s == 0, 1.0, jnp.maximum(9 / (10 + s), 1 - config.decay))


def update(shadow: Params, params: Params, rate: jax.Array) -> Params:
    """shadow - rate * (shadow - param), leaf by leaf."""
    return jax.tree.map(lambda s, p: s - rate * (s - p), shadow, params)
