"""The config.json of diffusers and transformers for networks of which only tensors are known.

Widths, depths and which level attends are read off the shapes; the rest is what the published families have in common, and the few
numbers in which they differ (heads, activation, scaling factor) are listed by family.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

Shape = tuple[int, ...]
ShapeOf = Callable[[str], Shape]  # by the original's name, within the network


def level_starts(names: set[str]) -> tuple[int, int]:
    """(levels, residual blocks of each level) of an original UNet: each level but the last ends with a step `.0.op`."""
    steps = sorted(int(n[1]) for name in names if (n := re.fullmatch(r"input_blocks\.(\d+)\.0\.op\.weight", name)))
    last = max((int(n[1]) for name in names if (n := re.match(r"input_blocks\.(\d+)\.", name))), default=0)
    return len(steps) + 1, steps[0] - 1 if steps else last


def unet(names: set[str], shape_of: ShapeOf, *, heads: int | None, sample_size: int, pooled: int = 0) -> dict[str, Any]:
    """Config of a UNet2DConditionModel. heads: of every level, or None for heads of 64 channels each.

    sample_size: in latent pixels. pooled: width of the pooled text where the UNet takes it (Stable Diffusion XL), else 0.
    """
    levels, layers = level_starts(names)
    firsts = [1 + level * (layers + 1) for level in range(levels)]
    widths = [shape_of(f"input_blocks.{first}.0.out_layers.3.weight")[0] for first in firsts]
    depths = [count(names, rf"input_blocks\.{first}\.1\.transformer_blocks\.(\d+)\.") for first in firsts]
    cross = ["CrossAttn" if depth else "" for depth in depths]
    attends = "middle_block.1"
    config = {
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": heads if heads else [max(1, width // 64) for width in widths],
        "block_out_channels": widths,
        "center_input_sample": False,
        "cross_attention_dim": shape_of(f"{attends}.transformer_blocks.0.attn2.to_k.weight")[1],
        "down_block_types": [f"{kind}DownBlock2D" for kind in cross],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": shape_of("input_blocks.0.0.weight")[1],
        "layers_per_block": layers,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": 32,
        "out_channels": shape_of("out.2.weight")[0],
        "sample_size": sample_size,
        "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(cross)],
        "use_linear_projection": len(shape_of(f"{attends}.proj_in.weight")) == 2,
    }
    if max(depths) > 1:
        config["transformer_layers_per_block"] = [max(1, depth) for depth in depths]
    if pooled:
        inputs = shape_of("label_emb.0.0.weight")[1]
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (inputs - pooled) // 6,  # six numbers: sizes and crop, each embedded alone
            "projection_class_embeddings_input_dim": inputs,
        }
    return config


def vae(names: set[str], shape_of: ShapeOf, *, scaling_factor: float, sample_size: int) -> dict[str, Any]:
    """Config of an AutoencoderKL. sample_size: in pixels."""
    levels = vae_levels(names)
    return {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": [shape_of(f"encoder.down.{level}.block.0.conv2.weight")[0] for level in range(levels)],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "in_channels": shape_of("encoder.conv_in.weight")[1],
        "latent_channels": shape_of("post_quant_conv.weight")[1],
        "layers_per_block": count(names, r"encoder\.down\.0\.block\.(\d+)\."),
        "norm_num_groups": 32,
        "out_channels": shape_of("decoder.conv_out.weight")[0],
        "sample_size": sample_size,
        "scaling_factor": scaling_factor,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }


def vae_levels(names: set[str]) -> int:
    """How many resolutions the picture codec has."""
    return count(names, r"encoder\.down\.(\d+)\.")


def text(tensors: Any, activation: str, projection: int = 0) -> dict[str, Any]:
    """Config of a CLIPTextModel, or of one WithProjection. tensors: a lazy mapping under transformers' names.

    Heads have 64 channels each, as in every released encoder.
    """
    vocabulary, width = tensors.shape_of("text_model.embeddings.token_embedding.weight")
    return {
        "architectures": ["CLIPTextModelWithProjection" if projection else "CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        "eos_token_id": 2,
        "hidden_act": activation,
        "hidden_size": width,
        "intermediate_size": tensors.shape_of("text_model.encoder.layers.0.mlp.fc1.weight")[0],
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": tensors.shape_of("text_model.embeddings.position_embedding.weight")[0],
        "model_type": "clip_text_model",
        "num_attention_heads": max(1, width // 64),
        "num_hidden_layers": count(tensors, r"text_model\.encoder\.layers\.(\d+)\."),
        "pad_token_id": 1,
        "projection_dim": projection or 512,
        "vocab_size": vocabulary,
    }


SCHEDULERS = {"sd1": "PNDMScheduler", "sd2": "DDIMScheduler", "sdxl": "EulerDiscreteScheduler"}


def scheduler(family: str, prediction: str, zero_snr: bool) -> dict[str, Any]:
    """scheduler_config.json as the family's released folders have it."""
    common = {
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": prediction,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    }
    extra = {"timestep_spacing": "leading"} if family == "sdxl" else {}
    return {
        "_class_name": SCHEDULERS[family],
        **common,
        **extra,
        **({"rescale_betas_zero_snr": True} if zero_snr else {}),
    }


def index(family: str, inpainting: bool) -> dict[str, Any]:
    """model_index.json of the family's released folders."""
    kind = ("StableDiffusionXL" if family == "sdxl" else "StableDiffusion") + ("Inpaint" if inpainting else "")
    entries = {
        "_class_name": f"{kind}Pipeline",
        "scheduler": ["diffusers", SCHEDULERS[family]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if family == "sdxl":
        second = {
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
        }
        return entries | second | {"force_zeros_for_empty_prompt": True}
    return entries | {
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
    }


def tokenizers(family: str) -> dict[str, dict[str, str]]:
    """All have CLIP's words; OpenCLIP pads with id 0, which is the word "!"."""
    name = "openai/clip-vit-large-patch14"
    ends, marks = {"name": name, "pad_token": "<|endoftext|>"}, {"name": name, "pad_token": "!"}
    if family == "sdxl":
        return {"tokenizer": ends, "tokenizer_2": marks}
    return {"tokenizer": marks if family == "sd2" else ends}


def count(names: Iterable[str], pattern: str) -> int:
    """How many numbers the pattern's group takes, over all names."""
    return len({found[1] for name in names if (found := re.match(pattern, name))})
