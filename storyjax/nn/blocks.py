"""The blocks of a Stable Diffusion UNet: residual block, transformer, down- and upsampling. All channels last."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.nn.attention import Attention
from storyjax.nn.layers import Conv, GroupNorm, LayerNorm, Linear
from storyjax.parallel.layouts import lay_out

# Given the normalised tokens (N, HW, C) and the call's slot context, returns the tokens that self-attention looks at.
KeyTokens = Callable[[jax.Array, Any], jax.Array]


class ResnetBlock(nnx.Module):
    """h = conv(SiLU(norm x)) + Linear(SiLU(temb)); out = shortcut(x) + conv(SiLU(norm h)).

    x (N, H, W, C_in), temb (N, E) or None -> (N, H, W, C). The shortcut is a 1x1 convolution when the widths differ.
    """

    def __init__(self, inputs: int, outputs: int, *, temb: int | None, groups: int, eps: float, rngs: Any):
        self.norm1 = GroupNorm(groups, inputs, eps=eps)
        self.conv1 = Conv(inputs, outputs, rngs=rngs)
        self.time_emb_proj = Linear(temb, outputs, rngs=rngs) if temb else None
        self.norm2 = GroupNorm(groups, outputs, eps=eps)
        self.conv2 = Conv(outputs, outputs, rngs=rngs)
        self.conv_shortcut = Conv(inputs, outputs, 1, rngs=rngs) if inputs != outputs else None

    def __call__(self, x: jax.Array, temb: jax.Array | None = None) -> jax.Array:
        h = self.conv1(self.norm1.silu(x))
        if self.time_emb_proj is not None and temb is not None:
            h = h + self.time_emb_proj(jax.nn.silu(temb))[:, None, None]
        h = self.conv2(self.norm2.silu(h))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class FeedForward(nnx.Module):
    """GEGLU: [a, g] = x W_in; out = (a * gelu(g)) W_out, inner width 4 C, exact (erf) GELU (Shazeer 2020)."""

    def __init__(self, channels: int, *, zero: bool = False, rngs: Any):
        self.proj_in = Linear(channels, 8 * channels, rngs=rngs)
        self.proj_out = Linear(4 * channels, channels, zero=zero, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        projection: Any = self.proj_in
        kernel, bias = projection.kernel[...], projection.bias[...]
        halves = lay_out(kernel.reshape(kernel.shape[0], 2, -1), "inner_halves")
        h = jnp.einsum("...c,chn->...hn", x, halves) + bias.reshape(2, -1)
        return self.proj_out(h[..., 0, :] * jax.nn.gelu(h[..., 1, :], approximate=False))


class TransformerBlock(nnx.Module):
    """Self-attention, cross-attention on the text, feed-forward; each pre-norm with a residual. y (N, HW, C)."""

    def __init__(self, channels: int, heads: int, *, context: int, key_tokens: KeyTokens | None = None, rngs: Any):
        self.key_tokens = key_tokens
        self.norm1 = LayerNorm(channels)
        self.attn1 = Attention(channels, heads, rngs=rngs)
        self.norm2 = LayerNorm(channels)
        self.attn2 = Attention(channels, heads, context=context, rngs=rngs)
        self.norm3 = LayerNorm(channels)
        self.ff = FeedForward(channels, rngs=rngs)

    def __call__(self, y: jax.Array, context: jax.Array, slot_context: Any = None) -> jax.Array:
        normal = self.norm1(y)
        keys = normal if self.key_tokens is None else self.key_tokens(normal, slot_context)
        y = y + self.attn1(normal, keys)
        y = y + self.attn2(self.norm2(y), context)
        return y + self.ff(self.norm3(y))


class SpatialTransformer(nnx.Module):
    """GroupNorm (eps 1e-6), projection in, `depth` transformer blocks over the pixels, projection out, residual.

    x (N, H, W, C), context (N, L, C_context) -> (N, H, W, C). Stable Diffusion 1's 1x1 convolutions are the same
    matrices as the Linear layers used here; the weight room reshapes them.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        context: int,
        groups: int,
        depth: int = 1,
        key_tokens: KeyTokens | None = None,
        rngs: Any,
    ):
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = Linear(channels, channels, rngs=rngs)
        self.transformer_blocks = nnx.List(
            TransformerBlock(channels, heads, context=context, key_tokens=key_tokens, rngs=rngs) for _ in range(depth)
        )
        self.proj_out = Linear(channels, channels, rngs=rngs)

    def __call__(self, x: jax.Array, context: jax.Array, slot_context: Any = None) -> jax.Array:
        number, height, width, channels = x.shape
        y = self.proj_in(self.norm(x).reshape(number, height * width, channels))
        for block in self.transformer_blocks:
            y = block(y, context, slot_context)
        return self.proj_out(y).reshape(x.shape) + x


class Downsample(nnx.Module):
    """3x3 convolution of stride 2. The UNet pads one pixel on each side, the VAE only below and to the right."""

    def __init__(self, channels: int, *, padding: tuple[int, int] = (1, 1), rngs: Any):
        self.conv = Conv(channels, channels, 3, stride=2, padding=(padding, padding), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(x)


class Upsample(nnx.Module):
    """Nearest-neighbour enlargement to twice the size, or to `size`, then a 3x3 convolution."""

    def __init__(self, channels: int, *, rngs: Any):
        self.conv = Conv(channels, channels, rngs=rngs)

    def __call__(self, x: jax.Array, size: tuple[int, int] | None = None) -> jax.Array:
        return self.conv(nearest_resize(x, size or (2 * x.shape[-3], 2 * x.shape[-2])))


def nearest_resize(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Output pixel i takes input pixel floor(i * in / out), as PyTorch's "nearest". x (..., H, W, C)."""
    for axis, out in zip((-3, -2), size):
        if out == 2 * x.shape[axis]:
            x = jnp.repeat(x, 2, axis=axis)
        elif out != x.shape[axis]:
            x = jnp.take(x, jnp.arange(out) * x.shape[axis] // out, axis=axis)
    return x
