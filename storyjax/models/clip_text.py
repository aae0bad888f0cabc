"""CLIP's text transformer (Radford et al. 2021), the encoder in front of every Stable Diffusion.

tokens (..., L) -> hidden states (..., L, C) of the last or an earlier layer, with or without the final norm, and one pooled vector.
Causal; no padding mask, as the pipelines use it.

| user | hidden states | pooled |
|---|---|---|
| Stable Diffusion 1.x (L), 2.x (H, 23 layers) | `encoder(tokens)`: after the last layer and the final norm | - |
| the same, `clip_skip` k | `encoder(tokens, skip=k)`: k layers earlier, final norm all the same | - |
| SDXL, L and bigG | `encoder.encode(tokens, skip=1, norm=False)`: the layer before the last, no norm | of bigG, projected |
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.nn.clip import Activation, CLIPLayer, check_activation
from storyjax.nn.layers import Embedding, LayerNorm, Linear


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
    projection: int | None = None  # width of the pooled vector after its projection; None: not projected
    # The pooled vector stands at the first token of this id. None: at the largest id, which is how the released files that give
    # 2 as the end of text are meant (transformers reads them so).
    end_token: int | None = None

    def __post_init__(self) -> None:
        check_activation(self.activation, "text encoder")

    @classmethod
    def clip_l(cls, projection: int | None = None) -> "CLIPTextConfig":
        """CLIP ViT-L/14, 123,060,480 parameters: Stable Diffusion 1.x, and SDXL's first."""
        return cls(projection=projection)

    @classmethod
    def clip_h(cls, projection: int | None = None) -> "CLIPTextConfig":
        """OpenCLIP ViT-H/14, 24 layers."""
        return cls(width=1024, layers=24, heads=16, mlp_width=4096, activation="gelu", projection=projection)

    @classmethod
    def clip_bigg(cls, projection: int | None = 1280) -> "CLIPTextConfig":
        """OpenCLIP ViT-bigG/14, 694,659,840 parameters: SDXL's second."""
        return cls(width=1280, layers=32, heads=20, mlp_width=5120, activation="gelu", projection=projection)

    @classmethod
    def sd15(cls) -> "CLIPTextConfig":
        """The text encoder of Stable Diffusion 1.x: ViT-L/14."""
        return cls.clip_l()

    @classmethod
    def sd21(cls) -> "CLIPTextConfig":
        """The text encoder of Stable Diffusion 2.x: ViT-H/14 without its last layer (23 layers), 340,387,840 parameters."""
        return dataclasses.replace(cls.clip_h(), layers=23)


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
        self.layers = nnx.List(
            CLIPLayer(config.width, config.heads, config.mlp_width, config.activation, rngs=rngs)
            for _ in range(config.layers)
        )
        self.final_layer_norm = LayerNorm(config.width)
        self.text_projection = (
            Linear(config.width, config.projection, bias=False, rngs=rngs) if config.projection else None
        )

    def __call__(self, tokens: jax.Array, *, skip: int = 0, norm: bool = True) -> jax.Array:
        """Hidden states (..., L, C) after all layers but the last `skip`, through the final norm unless `norm` is off."""
        x, _ = self._run(tokens, skip, last=False)
        return self.final_layer_norm(x) if norm else x

    def encode(self, tokens: jax.Array, *, skip: int = 0, norm: bool = True) -> tuple[jax.Array, jax.Array]:
        """Hidden states as `__call__` gives them, and the pooled vector (..., P).

        Pooled: after the last layer and the final norm, at the end-of-text token, through `text_projection` where there is one
        (P is then its width, else C). Always of the last layer, whatever `skip` says.
        """
        x, last = self._run(tokens, skip, last=True)
        last = self.final_layer_norm(last)
        ends = tokens if self.config.end_token is None else tokens == self.config.end_token
        place = jnp.argmax(ends, axis=-1)  # the first of equal ones, so the first end token
        pooled = jnp.take_along_axis(last, place[..., None, None], axis=-2)[..., 0, :]
        pooled = pooled if self.text_projection is None else self.text_projection(pooled)
        return self.final_layer_norm(x) if norm else x, pooled

    def _run(self, tokens: jax.Array, skip: int, last: bool) -> tuple[jax.Array, jax.Array]:
        """The state before the last `skip` layers, and (where `last` asks for it) after all of them; neither is normed."""
        layers = len(self.layers)
        if not 0 <= skip < layers:
            raise StoryjaxError(f"text encoder: cannot skip {skip} of its {layers} layers; give 0 to {layers - 1}")
        x = self.embeddings(tokens)
        mask = jnp.tri(tokens.shape[-1], dtype=bool)
        for layer in self.layers[: layers - skip]:
            x = layer(x, mask)
        chosen = x
        for layer in self.layers[layers - skip :] if last else ():
            x = layer(x, mask)
        return chosen, x
