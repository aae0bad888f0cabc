"""Sinusoids of time, and rotary positions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from storyjax.nn.layers import Linear


def sinusoid(values: jax.Array, width: int) -> jax.Array:
    """[cos(v w_i), sin(v w_i)] with w_i = 10000^(-i / (width/2)), i = 0 .. width/2 - 1; always float32.

    values (...) -> (..., width). Stable Diffusion's order (flip_sin_to_cos) and divisor (freq_shift 0).
    """
    half = width // 2
    # On the host: a frequency that is one rounding off turns the angle of a value of 100 by 6e-6, and backends round differently.
    exponents = -np.arange(half, dtype=np.float32) / np.float32(half)
    frequencies = (10000.0 ** exponents.astype(np.float64)).astype(np.float32)
    angles = values.astype(jnp.float32)[..., None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimestepEmbedding(nnx.Module):
    """Linear, SiLU, Linear on a sinusoid: (..., inputs) -> (..., width)."""

    def __init__(self, inputs: int, width: int, *, zero: bool = False, rngs: Any):
        self.linear_1 = Linear(inputs, width, rngs=rngs)
        self.linear_2 = Linear(width, width, zero=zero, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.linear_2(jax.nn.silu(self.linear_1(x.astype(self.linear_1.kernel[...].dtype))))


def rotary_frequencies(count: int) -> jax.Array:
    """10000^(-2j / (2 count)), j = 0 .. count - 1 (RoPE, Su et al. 2021)."""
    return 10000.0 ** (-jnp.arange(count, dtype=jnp.float32) / count)


def rotate(x: jax.Array, positions: jax.Array, frequencies: jax.Array) -> jax.Array:
    """Rotary positions on the first 2n of the last axis's channels, interleaved pairs.

    (a, b) = channels (2j, 2j+1) become (a cos w - b sin w, b cos w + a sin w), w = position * frequency_j; the other
    channels pass unchanged. x (..., C); positions broadcastable to x's leading axes; frequencies (n,).
    """
    n = frequencies.shape[0]
    angles = positions.astype(jnp.float32)[..., None] * frequencies.astype(jnp.float32)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    pairs = x[..., : 2 * n].astype(jnp.float32).reshape(*x.shape[:-1], n, 2)
    a, b = pairs[..., 0], pairs[..., 1]
    turned = jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1)
    turned = turned.reshape(*turned.shape[:-2], 2 * n).astype(x.dtype)
    return jnp.concatenate([turned, x[..., 2 * n :]], axis=-1)
