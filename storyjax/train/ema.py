"""The moving average of the parameters (ContextualStory's training code; diffusers' EMAModel without its power form)."""

import jax
import jax.numpy as jnp

from storyjax.train.config import EmaConfig
from storyjax.train.task import Params


def decay_at(config: EmaConfig, updates: jax.Array) -> jax.Array:
    """Decay of the update that follows `updates` earlier ones (s = n - 1 at optimizer step n).

    `official`: 0 at s = 0, so that the first update is a copy, then min((1+s)/(10+s), decay). `none`: decay.
    """
    if config.warmup == "none":
        return jnp.asarray(config.decay, jnp.float32)
    s = jnp.asarray(updates, jnp.float32)
    return jnp.where(s == 0, 0.0, jnp.minimum((1 + s) / (10 + s), config.decay))


def update(shadow: Params, params: Params, decay: jax.Array) -> Params:
    """shadow - (1 - decay) * (shadow - param), leaf by leaf."""
    return jax.tree.map(lambda s, p: s - (1 - decay) * (s - p), shadow, params)
