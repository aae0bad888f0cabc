"""One attention entry for every network, and the projection module around it.

    attention(q, k, v) = softmax(q k^T * scale + bias) v

`implementation=None` chooses for the platform and may fall back; a named implementation never falls back and says why it
cannot run. Two forms are here and run everywhere; the fused kernels are in `storyjax/kernels/flash_attention/`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.kernels.backends import known, platform
from storyjax.kernels.flash_attention import api as fused
from storyjax.nn.layers import Linear

IMPLEMENTATIONS = ("xla", "mapped", *fused.BACKENDS)
MAPPED_FROM = 512 * 512  # score entries of one head from which one head at a time is faster on a CPU


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    mask: jax.Array | None = None,
    scale: float | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """Softmax attention of queries (..., L, N, D) over keys and values (..., M, N, D); returns (..., L, N, D).

    mask: boolean, broadcastable to (..., N, L, M), True where a query may look. scale: default D ** -0.5.
    implementation: "xla" (plain), "mapped" (one head at a time, for long sequences on a CPU), "cudnn" (fused, NVIDIA), "splash",
    "tokamax", "flash" (fused, TPU; q of shape (B, L, N, D), no mask). Scores and softmax are float32.
    """
    factor: float = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    chosen = known("attention", implementation, IMPLEMENTATIONS) if implementation else _choose(q, k, mask)
    if chosen == "xla":
        return _xla(q, k, v, mask, factor)
    if chosen == "mapped":
        return _mapped(q, k, v, mask, factor)
    if implementation:
        fused.must_run(chosen, q, k, mask, "attention")
    return fused.BACKENDS[chosen].attend(q, k, v, mask, factor)


def _choose(q: jax.Array, k: jax.Array, mask: jax.Array | None) -> str:
    if platform() == "cpu":
        return "mapped" if mask is None and q.shape[-3] * k.shape[-3] >= MAPPED_FROM else "xla"
    return fused.choose(q, k, mask) or "xla"


def _xla(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None, scale: float) -> jax.Array:
    """Heads first, so that both products are plain batched matrix products."""
    q, k, v = (jnp.swapaxes(x, -2, -3) for x in (q, k, v))
    scores = jnp.matmul(q, jnp.swapaxes(k, -1, -2), preferred_element_type=jnp.float32) * scale
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    return jnp.swapaxes(_weighted(scores, v), -2, -3)


def _mapped(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None, scale: float) -> jax.Array:
    *lead, length, heads, depth = q.shape

    def heads_first(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x, -2, -3).reshape(-1, x.shape[-3], x.shape[-1])

    def one_head(parts: tuple[jax.Array, ...]) -> jax.Array:
        head_q, head_k, head_v, *visible = parts
        scores = jnp.matmul(head_q, head_k.T, preferred_element_type=jnp.float32) * scale
        if visible:
            scores = jnp.where(visible[0], scores, jnp.finfo(jnp.float32).min)
        return _weighted(scores, head_v)

    parts = [heads_first(q), heads_first(k), heads_first(v)]
    if mask is not None:
        keys = k.shape[-3]
        parts.append(jnp.broadcast_to(mask, (*lead, heads, length, keys)).reshape(-1, length, keys))
    out = jax.lax.map(one_head, tuple(parts))
    return jnp.moveaxis(out.reshape(*lead, heads, length, depth), -3, -2)


def _weighted(scores: jax.Array, v: jax.Array) -> jax.Array:
    """softmax(scores) @ v: scores (..., L, M) float32, v (..., M, D); divided by the sum last, on fewer numbers."""
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1, keepdims=True)
    return (jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=jnp.float32) / total).astype(v.dtype)


class Attention(nnx.Module):
    """Multi-head attention: to_q, to_k, to_v without bias (unless asked), to_out with.

    x (..., L, C), optional context (..., M, C_context) -> (..., L, C).
    """

    def __init__(self, channels: int, heads: int, *, context: int | None = None, qkv_bias: bool = False, rngs: Any):
        if channels % heads:
            raise StoryjaxError(f"attention: {channels} channels do not divide into {heads} heads")
        self.heads = heads
        self.to_q = Linear(channels, channels, bias=qkv_bias, rngs=rngs)
        self.to_k = Linear(context or channels, channels, bias=qkv_bias, rngs=rngs)
        self.to_v = Linear(context or channels, channels, bias=qkv_bias, rngs=rngs)
        self.to_out = Linear(channels, channels, rngs=rngs)

    def __call__(self, x: jax.Array, context: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
        context = x if context is None else context
        q, k, v = self.split(self.to_q(x)), self.split(self.to_k(context)), self.split(self.to_v(context))
        return self.to_out(self.join(attention(q, k, v, mask=mask)))

    def split(self, x: jax.Array) -> jax.Array:
        """(..., L, C) -> (..., L, N, D)."""
        return x.reshape(*x.shape[:-1], self.heads, x.shape[-1] // self.heads)

    def join(self, x: jax.Array) -> jax.Array:
        """(..., L, N, D) -> (..., L, C)."""
        return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])
