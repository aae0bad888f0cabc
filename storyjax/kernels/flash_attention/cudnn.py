"""cuDNN's fused attention, through JAX, which also says how a mesh may cut it.

JAX differentiates it for even numbers of queries and keys only. Odd ones, such as text of 77 tokens, get one more, and cuDNN is
told how many are real.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.shard_alike import shard_alike

from storyjax.kernels.backends import platform


def refusal(q: jax.Array, k: jax.Array, mask: jax.Array | None) -> str | None:
    """Why it cannot run; None if it can."""
    if platform() != "gpu":
        return f"needs an NVIDIA GPU, this is '{platform()}'"
    if q.ndim != 4 or q.dtype not in (jnp.bfloat16, jnp.float16):
        return f"needs bfloat16 or float16 of shape (B, L, N, D), got {q.dtype} {q.shape}"
    if q.shape[-1] % 8 or q.shape[-1] > 256:
        return f"needs heads of a multiple of 8 and at most 256 channels, got {q.shape[-1]}"
    if mask is not None and (q.shape[1] % 2 or k.shape[1] % 2):
        return f"needs even numbers of queries and keys where there is a mask, got {q.shape[1]} and {k.shape[1]}"
    return None


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None, scale: float) -> jax.Array:
    length, keys = q.shape[1], k.shape[1]
    if mask is not None:
        mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    real: dict[str, Any] = {}
    if length % 2 or keys % 2:
        q, k, v = (_even(x) for x in (q, k, v))
        real = {"query_seq_lengths": _each(q, length), "key_value_seq_lengths": _each(q, keys)}
    out = jax.nn.dot_product_attention(q, k, v, mask=mask, scale=scale, implementation="cudnn", **real)
    return out[:, :length]


def _each(q: jax.Array, number: int) -> jax.Array:
    """(B,) integers, cut by a mesh as q is: cuDNN's partitioning leaves each operand as it comes."""
    numbers = jnp.full(q.shape[:1], number, jnp.int32)
    return numbers if jax.device_count() == 1 else shard_alike(jax.lax.stop_gradient(q[:, 0, 0, 0]), numbers)[1]


def _even(x: jax.Array) -> jax.Array:
    """(B, L, N, D) with one token of zeros more if L is odd."""
    return jnp.pad(x, [(0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0)])
