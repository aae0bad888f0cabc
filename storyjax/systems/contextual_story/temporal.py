"""What looks across the frames of a story: temporal convolution and spatially-enhanced temporal attention (SETA).

All modules take x (B F, H, W, C), story-major, and the call's `StoryContext`; each blends its result with its input by one
learned scalar alpha, which starts at 1: the inflated UNet begins as the 2D UNet.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.kernels.story_attention import ring, story_attention
from storyjax.models.unet import Place
from storyjax.nn.attention import Attention, attention
from storyjax.nn.blocks import FeedForward
from storyjax.nn.embeddings import rotary_frequencies, rotate
from storyjax.nn.layers import Conv, FrameConv, GroupNorm, LayerNorm, Linear
from storyjax.parallel.layouts import lay_out


@functools.partial(jax.tree_util.register_dataclass, data_fields=["first_frame"], meta_fields=["frames"])
@dataclasses.dataclass(frozen=True)
class StoryContext:
    """What the slots need to know of the call: the number of frames, and the first frame's latents (B, H, W, C) or None."""

    frames: int
    first_frame: jax.Array | None = None


def clip_alpha(alpha: jax.Array) -> jax.Array:
    """clip(alpha, 0, 1) with the gradient of the identity (the official code clamps the stored parameter in place)."""
    return alpha + jax.lax.stop_gradient(jnp.clip(alpha, 0, 1) - alpha)


def stories(x: jax.Array, frames: int) -> jax.Array:
    """(B F, ...) -> (B, F, ...)."""
    return lay_out(x.reshape(-1, frames, *x.shape[1:]), "story_frames")


class TemporalConvBlock(nnx.Module):
    """Two convolutions over frames, each after GroupNorm (eps 1e-6, per image) and SiLU; out = x + (1 - alpha) h.

    Released checkpoints fix 32 groups and eps 1e-6 whatever the UNet's settings.
    """

    def __init__(self, place: Place, *, groups: int, alpha: float = 1.0, rngs: Any):
        channels = place.channels
        self.norm1 = GroupNorm(groups, channels, eps=1e-6)
        self.conv1 = FrameConv(channels, channels, rngs=rngs)
        self.norm2 = GroupNorm(groups, channels, eps=1e-6)
        self.conv2 = FrameConv(channels, channels, rngs=rngs)
        self.alpha = nnx.Param(jnp.full(1, alpha))

    def __call__(self, x: jax.Array, story: StoryContext) -> jax.Array:
        h = self.conv1(self.norm1.silu(stories(x, story.frames)))
        h = self.conv2(self.norm2.silu(h))
        return x + (1 - clip_alpha(self.alpha[...])) * h.reshape(x.shape)


class SpatiallyEnhancedAttention(Attention):
    """Each pixel looks at itself in all frames and at its 8 neighbours in all other frames (ContextualStory, SETA).

    z (B, F, H, W, C). The query of frame t at pixel p sees the keys of p in every frame and, for every frame t' != t, the 8
    neighbours of p (edges replicated). Rotary positions are frame indices, applied over the full width before the head
    split on the first half of the channels: heads in the second half carry no position.

    Keys and values are projected and rotated once per pixel and read where they lie: the same numbers as collecting each
    query's keys first, at a ninth of the projection work, because projection acts on each token alone and a neighbour's position
    is its frame.
    """

    def __init__(self, channels: int, heads: int, *, rngs: Any):
        super().__init__(channels, heads, rngs=rngs)
        self.freqs = nnx.Param(rotary_frequencies(channels // 4))

    def __call__(self, z: jax.Array, context: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
        positions = jnp.arange(z.shape[1])[:, None, None]
        q = self.split(rotate(self.to_q(z), positions, self.freqs[...]))
        k = self.split(rotate(self.to_k(z), positions, self.freqs[...]))
        return self.to_out(self.join(story_attention(q, k, self.split(self.to_v(z)))))


class RotaryFrameAttention(Attention):
    """Plain self-attention over the frames of each pixel; z (B, F, H, W, C). Rotary as in `SpatiallyEnhancedAttention`."""

    def __init__(self, channels: int, heads: int, *, rngs: Any):
        super().__init__(channels, heads, rngs=rngs)
        self.freqs = nnx.Param(rotary_frequencies(channels // 4))

    def __call__(self, z: jax.Array, context: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
        positions = jnp.arange(z.shape[1])[:, None, None]
        q = self.split(rotate(self.to_q(z), positions, self.freqs[...]))
        k = self.split(rotate(self.to_k(z), positions, self.freqs[...]))
        return self.to_out(self.join(over_frames(q, k, self.split(self.to_v(z)))))


class SinusoidalFrameAttention(Attention):
    """Self-attention over the frames of each pixel with a sinusoid added to queries, keys and values (mid block)."""

    def __call__(self, z: jax.Array, context: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
        z = z + frame_sinusoid(z.shape[1], z.shape[-1]).astype(z.dtype)[:, None, None]
        q, k, v = self.split(self.to_q(z)), self.split(self.to_k(z)), self.split(self.to_v(z))
        return self.to_out(self.join(over_frames(q, k, v)))


def over_frames(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attention over axis 1 of (B, F, H, W, N, D)."""
    if ring.pays(q):
        return ring.ring_attention(q, k, v, q.shape[-1] ** -0.5, window=False)
    q, k, v = (jnp.moveaxis(t, 1, 3) for t in (q, k, v))
    return jnp.moveaxis(attention(q, k, v, implementation="xla"), 3, 1)


def frame_sinusoid(frames: int, channels: int) -> jax.Array:
    """(F, C): (sin(t w_i), cos(t w_i)) interleaved, w_i = 10000^(-i/C), i < C/2.

    Released checkpoints use the exponent i/C, half the usual one, so frequencies run from 1 down to 1/100 only.
    """
    i = jnp.arange(channels // 2, dtype=jnp.float32)
    angles = jnp.arange(frames, dtype=jnp.float32)[:, None] * 10000.0 ** (-i / channels)
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(frames, channels)


class _TemporalBlock(nnx.Module):
    """attn1, attn2 (both temporal: text is never seen here), feed-forward; each pre-norm with a residual."""

    def __init__(self, channels: int, attn1: Attention, attn2: Attention, *, rngs: Any):
        self.norm1, self.attn1 = LayerNorm(channels), attn1
        self.norm2, self.attn2 = LayerNorm(channels), attn2
        self.norm3, self.ff = LayerNorm(channels), FeedForward(channels, rngs=rngs)

    def __call__(self, y: jax.Array) -> jax.Array:
        y = y + self.attn1(self.norm1(y))
        y = y + self.attn2(self.norm2(y))
        return y + self.ff(self.norm3(y))


class TemporalTransformer(nnx.Module):
    """GroupNorm (eps 1e-6), projection in, temporal block, projection out; out = alpha x + (1 - alpha)(x + h).

    Down and up blocks use SETA with rotary positions and `heads` heads; the mid block of the released models has neither: plain
    frame attention with a sinusoid and the spatial transformer's number of heads.
    """

    def __init__(self, place: Place, *, heads: int, groups: int, alpha: float = 1.0, rngs: Any):
        channels = place.channels
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = Linear(channels, channels, rngs=rngs)
        if place.stage == "mid":
            first: Attention = SinusoidalFrameAttention(channels, place.heads, rngs=rngs)
            second: Attention = SinusoidalFrameAttention(channels, place.heads, rngs=rngs)
        else:
            first = SpatiallyEnhancedAttention(channels, heads, rngs=rngs)
            second = RotaryFrameAttention(channels, heads, rngs=rngs)
        self.transformer_blocks = nnx.List([_TemporalBlock(channels, first, second, rngs=rngs)])
        self.proj_out = Linear(channels, channels, rngs=rngs)
        self.alpha = nnx.Param(jnp.full(1, alpha))

    def __call__(self, x: jax.Array, story: StoryContext) -> jax.Array:
        y = self.proj_in(stories(self.norm(x), story.frames))
        for block in self.transformer_blocks:
            y = block(y)
        return x + (1 - clip_alpha(self.alpha[...])) * self.proj_out(y).reshape(x.shape)


class FirstFrameInjection(nnx.Module):
    """Overwrites frame 0 of a block's input with a 1x1 convolution of the first frame's latents (story continuation).

    The latents (B, H, W, C) are subsampled to the block's resolution by taking every 2^level-th pixel.
    """

    def __init__(self, place: Place, *, latent_channels: int, rngs: Any):
        self.stride = 2**place.level
        self.first_frame_conv = Conv(latent_channels, place.channels, 1, rngs=rngs)

    def __call__(self, x: jax.Array, story: StoryContext) -> jax.Array:
        if story.first_frame is None:
            return x
        injected = self.first_frame_conv(story.first_frame[:, :: self.stride, :: self.stride])
        return stories(x, story.frames).at[:, 0].set(injected.astype(x.dtype)).reshape(x.shape)


def first_frame_keys(tokens: jax.Array, story: StoryContext) -> jax.Array:
    """Own tokens and those of the story's frame 0: (B F, HW, C) -> (B F, 2 HW, C).

    Released continuation models do this in the mid and up blocks only; frame 0 sees its tokens twice.
    """
    if story.first_frame is None:
        return tokens
    first = stories(tokens, story.frames)[:, :1]
    first = jnp.broadcast_to(first, (first.shape[0], story.frames, *first.shape[2:])).reshape(tokens.shape)
    return jnp.concatenate([tokens, first], axis=1)
