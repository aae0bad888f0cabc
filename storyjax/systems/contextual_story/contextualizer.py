"""Storyline contextualizer: captions of a story read each other before any picture is drawn.

ContextualStory §3 ("Storyline Contextualizer"). With c the captions' embeddings, x = c + positions, each layer does

    x += SelfAttention(LN x) over all F L tokens of the story,       x += FF(LN x)
    x += SelfAttention(LN x) over the F frames of one token position, x += FF(LN x)   (rotary positions)

and the result is LN(x) + c.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.nn.attention import Attention, attention
from storyjax.nn.blocks import FeedForward
from storyjax.nn.embeddings import rotary_frequencies, rotate
from storyjax.nn.layers import LayerNorm

ROTARY_CHANNELS = 32  # of every head; fewer where a head is narrower


class _RotaryAttention(Attention):
    """Self-attention over (..., F, C) with rotary positions on the first channels of every head."""

    def __init__(self, channels: int, heads: int, *, rngs: Any):
        super().__init__(channels, heads, rngs=rngs)
        self.freqs = nnx.Param(rotary_frequencies(min(ROTARY_CHANNELS, channels // heads) // 2))

    def __call__(self, x: jax.Array, context: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
        positions = jnp.arange(x.shape[-2])[:, None]
        q = rotate(self.split(self.to_q(x)), positions, self.freqs[...])
        k = rotate(self.split(self.to_k(x)), positions, self.freqs[...])
        return self.to_out(self.join(attention(q, k, self.split(self.to_v(x)))))


class _Block(nnx.Module):
    def __init__(self, channels: int, heads: int, *, rotary: bool, zero: bool, rngs: Any):
        self.norm1 = LayerNorm(channels)
        self.attn1 = (_RotaryAttention if rotary else Attention)(channels, heads, rngs=rngs)
        self.norm3 = LayerNorm(channels)
        self.ff = FeedForward(channels, zero=zero, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attn1(self.norm1(x))
        return x + self.ff(self.norm3(x))


class _Layer(nnx.Module):
    def __init__(self, channels: int, heads: int, *, zero: bool, rngs: Any):
        self.story = _Block(channels, heads, rotary=False, zero=False, rngs=rngs)
        self.frame = _Block(channels, heads, rotary=True, zero=zero, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        stories, frames, tokens, channels = x.shape
        x = self.story(x.reshape(stories, frames * tokens, channels)).reshape(x.shape)
        return self.frame(x.swapaxes(1, 2)).swapaxes(1, 2)


class StorylineContextualizer(nnx.Module):
    """text (B, F, L, C) -> (B, F, L, C); L at most `positions`."""

    def __init__(self, channels: int, *, frames: int, layers: int, heads: int, positions: int, rngs: Any):
        self.pos_embed = nnx.Param(jnp.zeros((1, frames, positions, channels)))
        # Only the last feed-forward of the last layer starts at zero; the final norm keeps the whole from being the identity.
        self.layers = nnx.List(_Layer(channels, heads, zero=i == layers - 1, rngs=rngs) for i in range(layers))
        self.norm = LayerNorm(channels)

    def __call__(self, text: jax.Array) -> jax.Array:
        x = text + self.pos_embed[...][:, :, : text.shape[2]]
        for layer in self.layers:
            x = layer(x)
        return self.norm(x) + text
