"""CLIP's vision transformer (Radford et al. 2021): what image prompts (IP-Adapter) and similarity scores look with.

images (N, H, W, 3), already normalised -> patches of P x P pixels and one class token, M = 1 + (H / P)(W / P) tokens, norm, layers.

| user | what it takes |
|---|---|
| IP-Adapter (plain), Story-Adapter, scores | `encoder.embed(images)`: class token after the last layer, norm, projection (N, P) |
| IP-Adapter plus, full | `encoder(images, skip=1)`: all tokens after the layer before the last, no norm (N, M, C) |
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.nn.clip import Activation, CLIPLayer, check_activation
from storyjax.nn.layers import Embedding, LayerNorm, Linear, PatchConv

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the pictures in 0..1 that CLIP was trained on, red, green, blue
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


@dataclasses.dataclass(frozen=True)
class CLIPVisionConfig:
    """Sizes; presets as released."""

    width: int = 1280
    layers: int = 32
    heads: int = 16
    mlp_width: int = 5120
    image_size: int = 224  # pixels on a side
    patch_size: int = 14
    activation: Activation = "gelu"
    projection: int | None = 1024  # width of the embedding; None: not projected

    def __post_init__(self) -> None:
        check_activation(self.activation, "vision encoder")
        if self.image_size < self.patch_size:
            raise StoryjaxError(
                f"vision encoder: patches of {self.patch_size} do not fit into {self.image_size} pixels"
            )

    @property
    def tokens(self) -> int:
        """Number of patches and the class token. What is left over beyond whole patches is not looked at."""
        return (self.image_size // self.patch_size) ** 2 + 1

    @classmethod
    def clip_h(cls) -> "CLIPVisionConfig":
        """OpenCLIP ViT-H/14, 632,076,800 parameters: IP-Adapter for Stable Diffusion 1.5, and its vit-h files for SDXL."""
        return cls()

    @classmethod
    def clip_bigg(cls) -> "CLIPVisionConfig":
        """OpenCLIP ViT-bigG/14, 1,844,907,264 parameters: IP-Adapter for SDXL."""
        return cls(width=1664, layers=48, mlp_width=8192, projection=1280)


class _Embeddings(nnx.Module):
    def __init__(self, config: CLIPVisionConfig, *, rngs: Any):
        self.class_embedding = nnx.Param(0.02 * jax.random.normal(rngs.params(), (config.width,)))
        self.patch_embedding = PatchConv(3, config.width, config.patch_size, rngs=rngs)
        self.position_embedding = Embedding(config.tokens, config.width, scale=0.02, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        patches = self.patch_embedding(images)
        patches = patches.reshape(images.shape[0], -1, patches.shape[-1])
        first = jnp.broadcast_to(self.class_embedding[...], (images.shape[0], 1, patches.shape[-1]))
        return jnp.concatenate([first.astype(patches.dtype), patches], axis=1) + self.position_embedding.embedding[...]


class CLIPVisionEncoder(nnx.Module):
    """images (N, H, W, 3) -> tokens (N, M, C), the class token first."""

    def __init__(self, config: CLIPVisionConfig, *, rngs: Any):
        self.config = config
        self.embeddings = _Embeddings(config, rngs=rngs)
        self.pre_layernorm = LayerNorm(config.width)
        self.layers = nnx.List(
            CLIPLayer(config.width, config.heads, config.mlp_width, config.activation, rngs=rngs)
            for _ in range(config.layers)
        )
        self.post_layernorm = LayerNorm(config.width)
        self.visual_projection = (
            Linear(config.width, config.projection, bias=False, rngs=rngs) if config.projection else None
        )

    def __call__(self, images: jax.Array, *, skip: int = 0) -> jax.Array:
        """All tokens (N, M, C) after all layers but the last `skip`, not normed. images: `normalised`, of the config's size."""
        layers, side = len(self.layers), self.config.image_size
        if images.ndim != 4 or images.shape[1:] != (side, side, 3):
            raise StoryjaxError(
                f"vision encoder: expected images (N, {side}, {side}, 3), got {tuple(images.shape)}; resize and crop them"
            )
        if not 0 <= skip <= layers:
            raise StoryjaxError(f"vision encoder: cannot skip {skip} of its {layers} layers; give 0 to {layers}")
        x = self.pre_layernorm(self.embeddings(images))
        for layer in self.layers[: layers - skip]:
            x = layer(x)
        return x

    def embed(self, images: jax.Array) -> jax.Array:
        """One vector (N, P) for each picture: the class token, normed, projected where the config has a projection."""
        pooled = self.post_layernorm(self(images)[:, 0])
        return pooled if self.visual_projection is None else self.visual_projection(pooled)


def normalised(images: jax.Array) -> jax.Array:
    """uint8 in 0..255 (..., 3) -> float32 with the mean 0 and deviation 1 of CLIP's training pictures, channel by channel."""
    return (images.astype(jnp.float32) / 255 - jnp.array(MEAN)) / jnp.array(DEVIATION)
