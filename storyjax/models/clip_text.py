"""CLIP's text transformer (Radford et al. 2021), the encoder in front of every Stable Diffusion.

tokens (..., L) -> last hidden state after the final norm (..., L, C). Causal; no padding mask, as the pipelines use it.
"""

import dataclasses
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.nn.attention import attention
from storyjax.nn.layers import Embedding, LayerNorm, Linear

Activation = Literal["quick_gelu", "gelu"]


@dataclasses.dataclass(frozen=True)
class CLIPTextConfig:
    """Sizes; presets as released."""

    vocab_size: int = 49408
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    positions: int = 77
    activation: Activation = "quick_gelu"  # h sigmoid(1.702 h), or the exact one

    def __post_init__(self) -> None:
        if self.activation not in get_args(Activation):
            raise StoryjaxError(
                f"text encoder: unknown activation '{self.activation}'{nearest(self.activation, list(get_args(Activation)))}"
            )

    @classmethod
    def sd15(cls) -> "CLIPTextConfig":
        """CLIP ViT-L/14's text encoder."""
        return cls()

    @classmethod
    def sd21(cls) -> "CLIPTextConfig":
        """OpenCLIP ViT-H/14's text encoder without its last layer, as Stable Diffusion 2 ships it (23 layers)."""
        return cls(width=1024, layers=23, heads=16, mlp_width=4096, activation="gelu")


class _SelfAttention(nnx.Module):
    def __init__(self, width: int, heads: int, *, rngs: Any):
        self.heads = heads
        self.q_proj = Linear(width, width, rngs=rngs)
        self.k_proj = Linear(width, width, rngs=rngs)
        self.v_proj = Linear(width, width, rngs=rngs)
        self.out_proj = Linear(width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        length, width = x.shape[-2:]
        q, k, v = (p(x).reshape(*x.shape[:-1], self.heads, -1) for p in (self.q_proj, self.k_proj, self.v_proj))
        out = attention(q, k, v, mask=jnp.tri(length, dtype=bool))
        return self.out_proj(out.reshape(*x.shape[:-1], width))


class _MLP(nnx.Module):
    def __init__(self, config: CLIPTextConfig, *, rngs: Any):
        self.quick = config.activation == "quick_gelu"
        self.fc1 = Linear(config.width, config.mlp_width, rngs=rngs)
        self.fc2 = Linear(config.mlp_width, config.width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.fc1(x)
        return self.fc2(h * jax.nn.sigmoid(1.702 * h) if self.quick else jax.nn.gelu(h, approximate=False))


class _Layer(nnx.Module):
    def __init__(self, config: CLIPTextConfig, *, rngs: Any):
        self.layer_norm1 = LayerNorm(config.width)
        self.self_attn = _SelfAttention(config.width, config.heads, rngs=rngs)
        self.layer_norm2 = LayerNorm(config.width)
        self.mlp = _MLP(config, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class _Embeddings(nnx.Module):
    def __init__(self, config: CLIPTextConfig, *, rngs: Any):
        self.token_embedding = Embedding(config.vocab_size, config.width, scale=0.02, rngs=rngs)
        self.position_embedding = Embedding(config.positions, config.width, scale=0.02, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        most = self.position_embedding.embedding.shape[0]
        if tokens.shape[-1] > most:  # a look-up past the table's end would give NaN without a word
            raise StoryjaxError(
                f"text encoder: expected at most {most} tokens, got {tokens.shape[-1]}; cut the captions"
            )
        return self.token_embedding(tokens) + self.position_embedding(jnp.arange(tokens.shape[-1]))


class CLIPTextEncoder(nnx.Module):
    """tokens (..., L) int32 -> (..., L, C)."""

    def __init__(self, config: CLIPTextConfig, *, rngs: Any):
        self.config = config
        self.embeddings = _Embeddings(config, rngs=rngs)
        self.layers = nnx.List(_Layer(config, rngs=rngs) for _ in range(config.layers))
        self.final_layer_norm = LayerNorm(config.width)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.final_layer_norm(x)
