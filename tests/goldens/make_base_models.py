"""Goldens of the base models: what diffusers and transformers say about them, kept so that tests need neither, nor PyTorch.

    python -m tests.goldens.make_base_models      (with the `parity` extra installed)

`base_models/keys_<model>.json.gz`: the released config.json, and the name and shape of every tensor (built on the meta device).
`base_models/tiny.npz`: outputs of the tiny models in `tests/weights/base_models.py` (float32, on a CPU), and of all gradients of
one of them their norm and their product with a named random direction.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.goldens.make_inputs import named_input
from tests.weights.base_models import CONFIGS, original, outputs_of_original, shapes_of

FOLDER = Path(__file__).parent / "base_models"
UNET = {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
SD15 = {**UNET, "_diffusers_version": "0.6.0", "attention_head_dim": 8, "cross_attention_dim": 768}
SD2 = {
    **UNET,
    "_diffusers_version": "0.8.0",
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "dual_cross_attention": False,
    "only_cross_attention": False,
    "use_linear_projection": True,
}
SDXL = {
    **SD2,
    "_diffusers_version": "0.19.0.dev0",
    "addition_embed_type": "text_time",
    "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_dim": 2048,
    "cross_attention_norm": None,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "mid_block_only_cross_attention": None,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "num_attention_heads": None,
    "num_class_embeds": None,
    "projection_class_embeddings_input_dim": 2816,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "sample_size": 128,
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "upcast_attention": None,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
TEXT = {
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "projection_dim": 768,
    "torch_dtype": "float32",
    "transformers_version": "4.22.0.dev0",
    "vocab_size": 49408,
}
VISION = {
    "architectures": ["CLIPVisionModelWithProjection"],
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "image_size": 224,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 5120,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 16,
    "num_channels": 3,
    "num_hidden_layers": 32,
    "patch_size": 14,
    "projection_dim": 1024,
    "torch_dtype": "float16",
    "transformers_version": "4.28.0.dev0",
}
# What the first version of transformers' CLIP wrote into each encoder's config beside its sizes.
GENERATION = {
    "architectures": None,
    "bad_words_ids": None,
    "diversity_penalty": 0.0,
    "length_penalty": 1.0,
    "max_length": 20,
    "min_length": 0,
    "num_beams": 1,
    "pruned_heads": {},
    "top_k": 50,
    "torchscript": False,
}
CLIP_B32 = {
    "architectures": ["CLIPModel"],
    "initializer_factor": 1.0,
    "logit_scale_init_value": 2.6592,
    "model_type": "clip",
    "projection_dim": 512,
    "text_config": {
        **TEXT,
        **GENERATION,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_attention_heads": 8,
        "projection_dim": 512,
    },
    "text_config_dict": None,
    "transformers_version": None,
    "vision_config": {
        **VISION,
        **GENERATION,
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "patch_size": 32,
        "projection_dim": 512,
    },
    "vision_config_dict": None,
}
WIDE_H = {"hidden_act": "gelu", "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
WIDE = {"hidden_act": "gelu", "hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20}
RELEASED: dict[str, dict[str, Any]] = {
    "sd15_unet": SD15,
    "sd15_inpainting_unet": {**SD15, "in_channels": 9},
    "sd21_base_unet": SD2,
    "sdxl_unet": SDXL,
    "sd_vae": VAE,
    "sdxl_vae": {
        **VAE,
        "_diffusers_version": "0.20.0.dev0",
        "force_upcast": True,
        "sample_size": 1024,
        "scaling_factor": 0.13025,
    },
    "clip_l_text": TEXT,
    "sd21_text": {
        **TEXT,
        "hidden_act": "gelu",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 23,
        "projection_dim": 512,
    },
    "clip_bigg_text": {
        **TEXT,
        **WIDE,
        "architectures": ["CLIPTextModelWithProjection"],
        "num_hidden_layers": 32,
        "projection_dim": 1280,
    },
    "clip_h_vision": VISION,
    "clip_b32": CLIP_B32,
    "pick_score": {
        **CLIP_B32,
        "projection_dim": 1024,
        "text_config": {**CLIP_B32["text_config"], **WIDE_H, "num_hidden_layers": 24},
        "vision_config": VISION,
    },
    "owlvit_b32": {
        "architectures": ["OwlViTForObjectDetection"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "owlvit",
        "projection_dim": 512,
        "text_config": {
            **GENERATION,
            "hidden_size": 512,
            "max_position_embeddings": 16,
            "model_type": "owlvit_text_model",
        },
        "vision_config": {**GENERATION, "image_size": 768, "model_type": "owlvit_vision_model", "patch_size": 32},
    },
    "clip_bigg_vision": {
        **VISION,
        "hidden_size": 1664,
        "intermediate_size": 8192,
        "num_hidden_layers": 48,
        "projection_dim": 1280,
    },
}


def keys(name: str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The config of a released (or, as "tiny_<name>", tiny) model and the shapes of its tensors by name, from the stored file."""
    content = json.loads(gzip.decompress((FOLDER / f"keys_{name}.json.gz").read_bytes()))
    return content["config"], {key: tuple(shape) for key, shape in content["shapes"].items()}


def outputs() -> dict[str, np.ndarray]:
    """The stored outputs of the tiny models, by "<model> <output>"."""
    with np.load(FOLDER / "tiny.npz") as file:
        return dict(file)


def summary(name: str, gradient: np.ndarray) -> np.ndarray:
    """Norm of a gradient, and its product with a direction that depends on its name: two numbers that no other one has."""
    gradient = np.asarray(gradient, np.float64)
    return np.array([np.linalg.norm(gradient), (gradient * named_input(f"direction {name}", *gradient.shape)).sum()])


def _write_keys(name: str, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    text = json.dumps({"config": config, "shapes": shapes}, separators=(",", ":"))
    (FOLDER / f"keys_{name}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def main() -> None:
    """Write every golden anew."""
    import torch

    FOLDER.mkdir(exist_ok=True)
    for name, config in RELEASED.items():
        with torch.device("meta"):
            _write_keys(name, config, shapes_of(original(config)))
        print(name)
    arrays = {}
    for name, config in CONFIGS.items():
        model = original(config, with_weights=True)
        _write_keys(f"tiny_{name}", config, shapes_of(model))
        for key, value in outputs_of_original(name, model).items():
            key_of_parameter = key.removeprefix("gradient ")
            arrays[f"{name} {key}"] = value if key == key_of_parameter else summary(key_of_parameter, value)
    np.savez_compressed(FOLDER / "tiny.npz", **arrays)


if __name__ == "__main__":
    main()
