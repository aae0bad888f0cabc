"""CLIP whole (Radford et al. 2021): both encoders with their projections into one space, and the scale of its similarities.

A picture and a sentence belong together as far as the angle between their vectors is small: score = exp(logit_scale)
cos(image, text).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from storyjax.models.clip_vision import CLIPVisionConfig, CLIPVisionEncoder

LOGIT_SCALE = 2.6592  # where training starts: ln(1 / 0.07)


@dataclasses.dataclass(frozen=True)
class CLIPConfig:
    """Sizes of both encoders, which project into vectors of one width; presets as released."""

    text: CLIPTextConfig
    vision: CLIPVisionConfig

    def __post_init__(self) -> None:
        if self.text.projection is None or self.text.projection != self.vision.projection:
            raise StoryjaxError(
                f"CLIP: expected both encoders to project to one width, got {self.text.projection} (text) and "
                f"{self.vision.projection} (vision)"
            )

    @classmethod
    def vit_b32(cls) -> "CLIPConfig":
        """OpenAI's ViT-B/32, 151,277,313 parameters: CLIP-T, CLIP-I and aCCS."""
        text = CLIPTextConfig(width=512, heads=8, mlp_width=2048, projection=512)
        vision = CLIPVisionConfig(
            width=768, layers=12, heads=12, mlp_width=3072, patch_size=32, activation="quick_gelu", projection=512
        )
        return cls(text, vision)

    @classmethod
    def vit_h14(cls) -> "CLIPConfig":
        """OpenCLIP ViT-H/14, 986,109,441 parameters: PickScore."""
        return cls(CLIPTextConfig.clip_h(projection=1024), CLIPVisionConfig.clip_h())


class CLIP(nnx.Module):
    """Pictures and sentences as vectors of one space, neither normed to length 1."""

    def __init__(self, config: CLIPConfig, *, rngs: Any):
        self.config = config
        self.text = CLIPTextEncoder(config.text, rngs=rngs)
        self.vision = CLIPVisionEncoder(config.vision, rngs=rngs)
        self.logit_scale = nnx.Param(jnp.asarray(LOGIT_SCALE, jnp.float32))

    def embed_images(self, images: jax.Array) -> jax.Array:
        """images (N, H, W, 3), normalised, of the config's size -> (N, P)."""
        return self.vision.embed(images)

    def embed_texts(self, tokens: jax.Array) -> jax.Array:
        """tokens (N, L) int32 -> (N, P)."""
        return self.text.encode(tokens)[1]
