"""The ContextualStory denoiser: the UNet with its temporal slots, the storyline contextualizer and the StoryFlow adapter.

Source: ContextualStory (arXiv 2407.09774, AAAI 2025). One forward pass is one batch of whole stories.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.models.unet import Place, Slots, UNet
from storyjax.nn.blocks import KeyTokens
from storyjax.nn.embeddings import TimestepEmbedding, sinusoid
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.contextualizer import StorylineContextualizer
from storyjax.systems.contextual_story.temporal import (
    FirstFrameInjection,
    StoryContext,
    TemporalConvBlock,
    TemporalTransformer,
    first_frame_keys,
    stories,
)


class ContextualStory(nnx.Module):
    """Predicts the noise (or velocity) of all frames of a story together."""

    def __init__(self, config: ContextualStoryConfig, *, rngs: Any):
        unet = config.unet
        self.config = config
        self.unet = UNet(unet, slots=story_slots(config), rngs=rngs)
        self.motion_embedding = TimestepEmbedding(unet.block_out_channels[0], unet.time_width, zero=True, rngs=rngs)
        self.contextualizer = (
            StorylineContextualizer(
                unet.cross_attention_dim,
                frames=config.frames,
                layers=config.contextualizer_layers,
                heads=config.contextualizer_heads,
                positions=config.contextualizer_positions,
                rngs=rngs,
            )
            if config.contextualizer_layers
            else None
        )

    def contextualize(self, text: jax.Array) -> jax.Array:
        """Captions (B, F, L, C) after reading each other. Null captions are never passed through here."""
        return text if self.contextualizer is None else self.contextualizer(text)

    def embed_motion(self, motion: jax.Array) -> jax.Array:
        """StoryFlow adapter: motion (B, F - 1) between neighbouring frames -> (B F, E), added to the time embedding.

        The sinusoids, not the values, are interpolated from F - 1 to F points; a row of F values is used as it is.
        """
        waves = sinusoid(motion, self.config.unet.block_out_channels[0])
        if motion.shape[1] != self.config.frames:
            waves = interpolate_frames(waves, self.config.frames)
        embedded = self.motion_embedding(waves)
        return embedded.reshape(-1, embedded.shape[-1])

    @property
    def dtype(self) -> Any:
        """What it computes in where it is given that: the dtype of its parameters."""
        return self.unet.conv_in.kernel[...].dtype

    def __call__(
        self,
        latents: jax.Array,
        timesteps: jax.Array,
        context: jax.Array,
        motion: jax.Array,
        first_frame: jax.Array | None = None,
    ) -> jax.Array:
        """latents (B, F, H, W, C), timesteps (), (B,) or (B, F), context (B, F, L, C_text), motion (B or 1, F - 1).

        Story continuation passes latents of frames 1 .. F-1 and first_frame (B, H, W, C); the result has F-1 frames too.
        """
        if first_frame is not None:
            latents = jnp.concatenate([first_frame[:, None].astype(latents.dtype), latents], axis=1)
        batch, frames = latents.shape[:2]
        timesteps = jnp.asarray(timesteps)
        timesteps = timesteps[:, None] if timesteps.ndim == 1 else timesteps
        timesteps = jnp.broadcast_to(timesteps, (batch, frames)).reshape(-1)
        motion = jnp.broadcast_to(motion, (batch, motion.shape[1]))
        out = self.unet(
            latents.reshape(-1, *latents.shape[2:]),
            timesteps,
            context.reshape(-1, *context.shape[2:]),
            extra_temb=self.embed_motion(motion),
            slot_context=StoryContext(frames, first_frame),
        )
        out = stories(out, frames)
        return out if first_frame is None else out[:, 1:]


def story_slots(config: ContextualStoryConfig) -> Slots:
    """What ContextualStory adds to the UNet, and where."""
    groups, continuation = config.unet.norm_groups, config.first_frame == "conv2d"

    def after_resnet(place: Place, rngs: Any) -> nnx.Module:
        return TemporalConvBlock(place, groups=config.temporal_norm_groups, alpha=config.alpha_start, rngs=rngs)

    def after_attention(place: Place, rngs: Any) -> nnx.Module:
        return TemporalTransformer(
            place, heads=config.temporal_heads, groups=groups, alpha=config.alpha_start, rngs=rngs
        )

    def block_entry(place: Place, rngs: Any) -> nnx.Module:
        return FirstFrameInjection(place, latent_channels=config.unet.in_channels, rngs=rngs)

    def key_tokens(place: Place) -> KeyTokens | None:
        return None if place.stage == "down" else first_frame_keys

    return Slots(
        after_resnet=after_resnet,
        after_attention=after_attention,
        block_entry=block_entry if continuation else None,
        key_tokens=key_tokens if continuation else None,
    )


def interpolate_frames(x: jax.Array, frames: int) -> jax.Array:
    """Linear interpolation of (B, G, C) along G to `frames` points; half-pixel centres, ends held."""
    given = x.shape[1]
    source = jnp.maximum((jnp.arange(frames) + 0.5) * given / frames - 0.5, 0.0)
    low = jnp.clip(jnp.floor(source).astype(jnp.int32), 0, given - 1)
    high = jnp.clip(low + 1, 0, given - 1)
    weight = jnp.minimum(source - low, 1.0)[None, :, None].astype(x.dtype)
    return x[:, low] * (1 - weight) + x[:, high] * weight
