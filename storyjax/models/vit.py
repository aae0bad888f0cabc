"""The vision transformer in the form of timm and DINO (Dosovitskiy et al. 2021; Caron et al. 2021): DreamSim's branches.

images (N, H, W, 3), normalised -> patches and one class token, M = 1 + (H / P)(W / P) tokens -> layers
h = x + Attention(LN x);  x' = h + W_2 act(W_1 LN h). Beside CLIP's encoder: one projection for query, key and value, patches with
a bias, and a norm before the layers only where CLIP's weights were brought into this form.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.nn.attention import attention
from storyjax.nn.clip import Activation, CLIPFeedForward, check_activation
from storyjax.nn.layers import LayerNorm, Linear, PatchConv


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Sizes; presets as DreamSim's branches are."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    image_size: int = 224  # pixels on a side
    patch_size: int = 16
    activation: Activation = "gelu"
    norm_eps: float = 1e-6
    pre_norm: bool = False  # a norm between the embeddings and the layers
    projection: int | None = None  # width of the embedding; None: not projected

    def __post_init__(self) -> None:
        check_activation(self.activation, "vision transformer")
        if self.width % self.heads or self.image_size % self.patch_size:
            raise StoryjaxError(
                f"vision transformer: expected whole heads and patches, got {self.width} channels for {self.heads} heads and "
                f"{self.image_size} pixels for patches of {self.patch_size}"
            )

    @classmethod
    def dino_b16(cls) -> "ViTConfig":
        """DINO's ViT-B/16, 85,798,656 parameters."""
        return cls()

    @classmethod
    def clip_b(cls, patch: int) -> "ViTConfig":
        """OpenAI's CLIP ViT-B/16 or B/32, in DINO's form."""
        return cls(patch_size=patch, activation="quick_gelu", norm_eps=1e-5, pre_norm=True, projection=512)

    @classmethod
    def open_clip_b(cls, patch: int) -> "ViTConfig":
        """OpenCLIP's ViT-B/16 or B/32, in DINO's form."""
        return dataclasses.replace(cls.clip_b(patch), activation="gelu")


class ViTAttention(nnx.Module):
    """Multi-head self-attention with one projection for q, k and v. x (N, M, C) -> (N, M, C)."""

    def __init__(self, width: int, heads: int, *, rngs: Any):
        self.heads = heads
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        q, k, v = jnp.split(self.qkv(x).reshape(*x.shape[:-1], 3 * self.heads, -1), 3, axis=-2)
        return self.proj(attention(q, k, v).reshape(x.shape))


class ViTBlock(nnx.Module):
    """One pre-norm layer. x (N, M, C) -> (N, M, C)."""

    def __init__(self, config: ViTConfig, *, rngs: Any):
        self.norm1 = LayerNorm(config.width, eps=config.norm_eps)
        self.attn = ViTAttention(config.width, config.heads, rngs=rngs)
        self.norm2 = LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = CLIPFeedForward(config.width, config.mlp_width, config.activation, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nnx.Module):
    """images (N, H, W, 3) -> (N, (H / P)(W / P), C), row by row."""

    def __init__(self, config: ViTConfig, *, rngs: Any):
        self.proj = PatchConv(3, config.width, config.patch_size, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(config.width))

    def __call__(self, images: jax.Array) -> jax.Array:
        patches = self.proj(images)
        return patches.reshape(images.shape[0], -1, patches.shape[-1]) + self.bias[...]


class ViT(nnx.Module):
    """images (N, H, W, 3) -> tokens (N, M, C), the class token first."""

    def __init__(self, config: ViTConfig, *, rngs: Any):
        self.config = config
        tokens = (config.image_size // config.patch_size) ** 2 + 1
        self.patch_embed = PatchEmbed(config, rngs=rngs)
        self.cls_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, 1, config.width)))
        self.pos_embed = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, tokens, config.width)))
        self.pre_norm = LayerNorm(config.width, eps=config.norm_eps) if config.pre_norm else None
        self.blocks = nnx.List(ViTBlock(config, rngs=rngs) for _ in range(config.layers))
        self.norm = LayerNorm(config.width, eps=config.norm_eps)
        self.proj = Linear(config.width, config.projection, bias=False, rngs=rngs) if config.projection else None

    def __call__(self, images: jax.Array) -> jax.Array:
        """All tokens after the last layer, not normed. images: normalised, of the config's size."""
        side = self.config.image_size
        if images.ndim != 4 or images.shape[1:] != (side, side, 3):
            raise StoryjaxError(
                f"vision transformer: expected images (N, {side}, {side}, 3), got {tuple(images.shape)}; resize them"
            )
        patches = self.patch_embed(images)
        first = jnp.broadcast_to(self.cls_token[...], (images.shape[0], 1, patches.shape[-1]))
        x = jnp.concatenate([first.astype(patches.dtype), patches], axis=1) + self.pos_embed[...]
        x = x if self.pre_norm is None else self.pre_norm(x)
        for block in self.blocks:
            x = block(x)
        return x

    def embed(self, images: jax.Array) -> jax.Array:
        """One vector for each picture (N, P): the class token, normed, projected where the config has a projection."""
        pooled = self.norm(self(images)[:, 0])
        return pooled if self.proj is None else self.proj(pooled)
