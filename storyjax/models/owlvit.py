"""OWL-ViT (Minderer et al. 2022, "Simple Open-Vocabulary Object Detection with Vision Transformers"): where is what a text names?

CLIP's two encoders, the pictures larger than CLIP's; every patch predicts one box, and a vector to be compared with the text's:

    z = LN(LN_post(patch) * LN_post(class token))
    box = sigmoid(MLP(z) + where the patch is),  as centre x, centre y, width, height in 0..1
    logit(text) = (cos(W z, text) + shift(z)) * (elu(scale(z)) + 1)
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from storyjax.models.clip import LOGIT_SCALE, CLIPConfig
from storyjax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from storyjax.models.clip_vision import CLIPVisionConfig, CLIPVisionEncoder
from storyjax.nn.layers import LayerNorm, Linear


def base_patch32() -> CLIPConfig:
    """google/owlvit-base-patch32, 153,231,879 parameters: pictures of 768 pixels, 576 boxes, texts of up to 16 tokens."""
    sizes = CLIPConfig.vit_b32()
    return CLIPConfig(dataclasses.replace(sizes.text, positions=16), dataclasses.replace(sizes.vision, image_size=768))


class BoxHead(nnx.Module):
    """z (N, M, C) -> (N, M, 4), before the place of the patch is added."""

    def __init__(self, width: int, *, rngs: Any):
        self.dense0 = Linear(width, width, rngs=rngs)
        self.dense1 = Linear(width, width, rngs=rngs)
        self.dense2 = Linear(width, 4, rngs=rngs)

    def __call__(self, z: jax.Array) -> jax.Array:
        z = jax.nn.gelu(self.dense0(z), approximate=False)
        return self.dense2(jax.nn.gelu(self.dense1(z), approximate=False))


class ClassHead(nnx.Module):
    """z (N, M, C) -> vectors of length 1 (N, M, T), shifts (N, M) and scales (N, M) of the logits."""

    def __init__(self, width: int, text_width: int, *, rngs: Any):
        self.dense0 = Linear(width, text_width, rngs=rngs)
        self.logit_shift = Linear(width, 1, rngs=rngs)
        self.logit_scale = Linear(width, 1, rngs=rngs)

    def __call__(self, z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        vectors = self.dense0(z)
        vectors = vectors / (jnp.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-6)
        return vectors, self.logit_shift(z)[..., 0], jax.nn.elu(self.logit_scale(z)[..., 0]) + 1


class OwlViT(nnx.Module):
    """The detector; CLIP's own vision projection and scale are in its files and in nothing it computes."""

    def __init__(self, config: CLIPConfig, *, rngs: Any):
        self.config = config
        text: CLIPTextConfig = config.text
        vision: CLIPVisionConfig = config.vision
        self.text = CLIPTextEncoder(text, rngs=rngs)
        self.vision = CLIPVisionEncoder(vision, rngs=rngs)
        self.logit_scale = nnx.Param(jnp.asarray(LOGIT_SCALE, jnp.float32))
        self.layer_norm = LayerNorm(vision.width)
        self.class_head = ClassHead(vision.width, text.width, rngs=rngs)
        self.box_head = BoxHead(vision.width, rngs=rngs)

    def embed_texts(self, tokens: jax.Array) -> jax.Array:
        """tokens (Q, L) int32 -> vectors of length 1 (Q, T)."""
        vectors = self.text.encode(tokens)[1]
        vectors = vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)
        return vectors / (jnp.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-6)

    def look(self, images: jax.Array) -> dict[str, jax.Array]:
        """images (N, H, W, 3), normalised -> of each of M patches, row by row: "boxes" (N, M, 4) as centre x, centre y,
        width, height in 0..1; "vectors" (N, M, T), "shift" and "scale" (N, M), of which `logits` are made."""
        tokens = self.vision.post_layernorm(self.vision(images))
        z = self.layer_norm(tokens[:, 1:] * tokens[:, :1])
        side = self.config.vision.image_size // self.config.vision.patch_size
        vectors, shift, scale = self.class_head(z)
        boxes = jax.nn.sigmoid(self.box_head(z) + places(side))
        return {"boxes": boxes, "vectors": vectors, "shift": shift, "scale": scale}


def logits(seen: Mapping[str, Any], texts: Any) -> Any:
    """What `look` gave and vectors of texts (Q, T) -> (..., M, Q), as JAX or as NumPy arrays."""
    return (seen["vectors"] @ texts.T + seen["shift"][..., None]) * seen["scale"][..., None]


def places(side: int) -> np.ndarray:
    """Where each of side x side patches looks first, before the sigmoid: (side^2, 4). Its lower right corner, one patch large."""
    steps = np.arange(1, side + 1, dtype=np.float32) / np.float32(side)
    y, x = np.meshgrid(steps, steps, indexing="ij")
    size = np.full_like(x, 1 / side)
    place = np.stack([x, y, size, size], axis=-1).reshape(-1, 4)
    return np.log(place + np.float32(1e-4)) - np.log1p(-place + np.float32(1e-4))
