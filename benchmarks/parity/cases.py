"""What is compared: the networks by name, their original configs, and what they are given."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

Kind = Literal["unet", "vae", "clip_text", "clip_vision", "contextual_story"]
Config = dict[str, Any]
Arrays = dict[str, np.ndarray]

END_OF_TEXT = 49407


@dataclasses.dataclass(frozen=True)
class Case:
    """One row. `original` is the class that the original library builds from the config."""

    name: str
    title: str
    kind: Kind
    original: str
    released: Mapping[str, Any]
    tiny: Mapping[str, Any]

    def config(self, full: bool) -> Config:
        return dict(self.released if full else self.tiny)

    def inputs(self, full: bool) -> Arrays:
        """What both sides are given, in PyTorch's layouts; always the same numbers."""
        return INPUTS[self.kind](self.config(full), np.random.default_rng(0))


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _unet_inputs(config: Config, rng: np.random.Generator) -> Arrays:
    side = config["sample_size"]
    inputs = {
        "sample": _normal(rng, 1, config["in_channels"], side, side),
        "timestep": np.array([481], np.int32),
        "context": _normal(rng, 1, 77, config["cross_attention_dim"]),
    }
    if config.get("addition_embed_type") == "text_time":
        width = config["addition_time_embed_dim"]
        inputs["pooled_text"] = _normal(rng, 1, config["projection_class_embeddings_input_dim"] - 6 * width)
        inputs["time_ids"] = np.array([[1024, 960, 0, 32, 1024, 896]], np.float32)
    return inputs


def _vae_inputs(config: Config, rng: np.random.Generator) -> Arrays:
    side = config["sample_size"]
    small = side // 2 ** (len(config["block_out_channels"]) - 1)
    return {
        "image": np.clip(_normal(rng, 1, 3, side, side), -1, 1),
        "latents": _normal(rng, 1, config["latent_channels"], small, small),
    }


def _text_inputs(config: Config, rng: np.random.Generator) -> Arrays:
    tokens = rng.integers(0, END_OF_TEXT - 1, (2, config["max_position_embeddings"]), dtype=np.int32)
    tokens[0, 9:] = tokens[1, 30:] = END_OF_TEXT
    return {"tokens": tokens}


def _vision_inputs(config: Config, rng: np.random.Generator) -> Arrays:
    return {"image": _normal(rng, 1, 3, config["image_size"], config["image_size"])}


def _story_inputs(config: Config, rng: np.random.Generator) -> Arrays:
    frames, side, width = config["frames"], config["sample_size"], config["context"]
    noised = frames - 1 if config["continuation"] else frames
    tokens = min(77, config["positions"])
    inputs = {
        "latents": _normal(rng, 1, 4, noised, side, side),
        "timestep": np.array(481, np.int32),
        "text": _normal(rng, frames, tokens, width),
        "null_text": _normal(rng, frames, tokens, width),
        "motion": np.array([[53.25, 61.5, 47.75, 70.125]], np.float32)[:, : frames - 1],
    }
    if config["continuation"]:
        inputs["first_frame"] = _normal(rng, 1, 4, 1, side, side)
    return inputs


INPUTS = {
    "unet": _unet_inputs,
    "vae": _vae_inputs,
    "clip_text": _text_inputs,
    "clip_vision": _vision_inputs,
    "contextual_story": _story_inputs,
}

_CROSS_DOWN, _CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
_SD15 = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": [_CROSS_DOWN] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + [_CROSS_UP] * 3,
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "norm_num_groups": 32,
}
_SD21 = _SD15 | {
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
_SDXL = _SD21 | {
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D"] + [_CROSS_DOWN] * 2,
    "up_block_types": [_CROSS_UP] * 2 + ["UpBlock2D"],
    "attention_head_dim": [5, 10, 20],
    "transformer_layers_per_block": [1, 2, 10],
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_TINY_UNET = {
    "sample_size": 8,
    "block_out_channels": [16, 32],
    "down_block_types": [_CROSS_DOWN, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", _CROSS_UP],
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
}
_TINY_SDXL = {
    "down_block_types": ["DownBlock2D", _CROSS_DOWN],
    "up_block_types": [_CROSS_UP, "UpBlock2D"],
    "attention_head_dim": [2, 4],
    "transformer_layers_per_block": [1, 2],
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 64,
}
_VAE = {
    "sample_size": 512,
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
}
_TINY_VAE = _VAE | {
    "sample_size": 16,
    "block_out_channels": [16, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
    "norm_num_groups": 8,
}


def _text(width: int, layers: int, heads: int, activation: str, projection: int) -> Config:
    return {
        "vocab_size": 49408,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 77,
        "hidden_act": activation,
        "projection_dim": projection,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def _vision(
    width: int, mlp: int, layers: int, heads: int, projection: int, image: int = 224, patch: int = 14
) -> Config:
    return {
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": image,
        "patch_size": patch,
        "hidden_act": "gelu",
        "projection_dim": projection,
    }


# In the words of the PyTorch implementation beside the tests; both sides derive the rest from these.
_STORY = {"sample_size": 32, "frames": 5, "context": 1024, "positions": 1024, "continuation": False}
_TINY_STORY = _STORY | {
    "sample_size": 8,
    "context": 256,
    "channels": [32, 64],
    "attention": [True, False],
    "heads": [2, 4],
    "layers": 1,
    "groups": 8,
    "contextualizer_layers": 1,
}

_UNET, _TEXT, _PROJECTED_TEXT = "UNet2DConditionModel", "CLIPTextModel", "CLIPTextModelWithProjection"
_VISION = "CLIPVisionModelWithProjection"
CASES = [
    Case("unet-sd15", "UNet, Stable Diffusion 1.5", "unet", _UNET, _SD15, _SD15 | _TINY_UNET),
    Case(
        "unet-sd21",
        "UNet, Stable Diffusion 2.1 base",
        "unet",
        _UNET,
        _SD21,
        _SD21 | _TINY_UNET | {"attention_head_dim": [2, 4]},
    ),
    Case(
        "unet-inpaint",
        "UNet, Stable Diffusion 1.5 inpainting",
        "unet",
        _UNET,
        _SD15 | {"in_channels": 9},
        _SD15 | _TINY_UNET | {"in_channels": 9},
    ),
    Case("unet-sdxl", "UNet, SDXL base", "unet", _UNET, _SDXL, _SDXL | _TINY_UNET | _TINY_SDXL),
    Case("vae", "Autoencoder, Stable Diffusion", "vae", "AutoencoderKL", _VAE, _TINY_VAE),
    Case(
        "text-l",
        "CLIP text L",
        "clip_text",
        _TEXT,
        _text(768, 12, 12, "quick_gelu", 768),
        _text(16, 2, 2, "quick_gelu", 16),
    ),
    Case(
        "text-h",
        "CLIP text H (23 layers)",
        "clip_text",
        _TEXT,
        _text(1024, 23, 16, "gelu", 512),
        _text(16, 3, 2, "gelu", 8),
    ),
    Case(
        "text-bigg",
        "CLIP text bigG, projected",
        "clip_text",
        _PROJECTED_TEXT,
        _text(1280, 32, 20, "gelu", 1280),
        _text(16, 2, 4, "gelu", 24),
    ),
    Case(
        "vision-h",
        "CLIP vision H, projected",
        "clip_vision",
        _VISION,
        _vision(1280, 5120, 32, 16, 1024),
        _vision(32, 64, 2, 2, 16, 28, 7),
    ),
    Case(
        "vision-bigg",
        "CLIP vision bigG, projected",
        "clip_vision",
        _VISION,
        _vision(1664, 8192, 48, 16, 1280),
        _vision(48, 72, 2, 4, 16, 28, 7),
    ),
    Case("contextual-story", "ContextualStory, visualization", "contextual_story", "StoryUNet", _STORY, _TINY_STORY),
    Case(
        "contextual-story-continuation",
        "ContextualStory, continuation",
        "contextual_story",
        "StoryUNet",
        _STORY | {"continuation": True},
        _TINY_STORY | {"continuation": True},
    ),
]
BY_NAME = {case.name: case for case in CASES}
