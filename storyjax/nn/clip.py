"""CLIP's transformer layer (Radford et al. 2021), the same in its text and its vision encoder.

h = x + Attention(LN x);  out = h + W_2 act(W_1 LN h)
"""

from typing import Any, Literal, get_args

import jax
from flax import nnx

from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.nn.attention import attention
from storyjax.nn.layers import LayerNorm, Linear

Activation = Literal["quick_gelu", "gelu"]  # h sigmoid(1.702 h), or the exact one


def check_activation(name: str, where: str) -> None:
    """Error unless `name` is an activation CLIP knows; `where` begins the sentence."""
    known = list(get_args(Activation))
    if name not in known:
        raise StoryjaxError(f"{where}: unknown activation '{name}'{nearest(name, known)}")


class CLIPAttention(nnx.Module):
    """Multi-head self-attention, all projections with bias. x (..., L, C) -> (..., L, C); mask broadcastable to (..., N, L, L)."""

    def __init__(self, width: int, heads: int, *, rngs: Any):
        if width % heads:
            raise StoryjaxError(f"CLIP attention: {width} channels do not divide into {heads} heads")
        self.heads = heads
        self.q_proj = Linear(width, width, rngs=rngs)
        self.k_proj = Linear(width, width, rngs=rngs)
        self.v_proj = Linear(width, width, rngs=rngs)
        self.out_proj = Linear(width, width, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        q, k, v = (p(x).reshape(*x.shape[:-1], self.heads, -1) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attention(q, k, v, mask=mask).reshape(x.shape))


class CLIPFeedForward(nnx.Module):
    """Linear, activation, Linear."""

    def __init__(self, width: int, inner: int, activation: Activation, *, rngs: Any):
        self.quick = activation == "quick_gelu"
        self.fc1 = Linear(width, inner, rngs=rngs)
        self.fc2 = Linear(inner, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.fc1(x)
        return self.fc2(h * jax.nn.sigmoid(1.702 * h) if self.quick else jax.nn.gelu(h, approximate=False))


class CLIPLayer(nnx.Module):
    """One pre-norm layer. x (..., L, C) -> (..., L, C)."""

    def __init__(self, width: int, heads: int, inner: int, activation: Activation, *, rngs: Any):
        self.layer_norm1 = LayerNorm(width)
        self.self_attn = CLIPAttention(width, heads, rngs=rngs)
        self.layer_norm2 = LayerNorm(width)
        self.mlp = CLIPFeedForward(width, inner, activation, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))
