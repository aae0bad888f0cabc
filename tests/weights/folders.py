"""Tiny checkpoints in the layouts of released ones, made without the original libraries: names and shapes by the tables, weights
that are functions of a name."""

import json
import zlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from storyjax.nn.build import abstract
from storyjax.weights import Dead, shapes_of
from storyjax.weights.component import component_of
from storyjax.weights.rules import TRANSFORMS, key_of
from tests.weights.base_models import CONFIGS

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.21.2",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
VAE = {**CONFIGS["vae"], "latent_channels": 4, "scaling_factor": 0.18215, "_diffusers_version": "0.6.0"}
TEXT = {**CONFIGS["clip_text"], "model_type": "clip_text_model", "torch_dtype": "float32"}
DIFFUSERS, TRANSFORMERS = "diffusers", "transformers"


def _text(width: int, **changes: Any) -> dict[str, Any]:
    return {**TEXT, "hidden_size": width, **changes}


STORY_UNET = {
    **CONFIGS["unet_sd1"],
    "_class_name": "VideoLDMUNet3DConditionModel",
    "block_out_channels": [32],
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
    "norm_num_groups": 32,
    "attention_head_dim": [4],
    "cross_attention_dim": 16,
    "use_linear_projection": True,
    "augment_temporal_attention": True,
    "temp_pos_embedding": "rotary",
    "use_motion_condition": True,
    "use_frame_stride_condition": False,
    "use_temporal": {"temporal_attn": True, "temporal_conv": True},
    "n_temp_heads": 8,
    "n_frames": 3,
    "use_text_cross_attention": "FSText",
    "num_layers_FStext": 1,
    "FStext_layer_depth": 2,
    "FStext_layer_temporal": [False, True],
    "FStext_layer_causal": [False, False],
    "first_frame_condition_mode": "none",
}
# pipeline class, further entries of its model_index.json, and the config of every network
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, dict[str, Any]]]] = {
    "sd1": (
        "StableDiffusionPipeline",
        {
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "feature_extractor": [TRANSFORMERS, "CLIPImageProcessor"],
            "requires_safety_checker": True,
        },
        {"unet": CONFIGS["unet_sd1"], "vae": VAE, "text_encoder": _text(12)},
    ),
    "sd2": (
        "StableDiffusionInpaintPipeline",
        {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False},
        {"unet": CONFIGS["unet_sd2_inpaint"], "vae": VAE, "text_encoder": _text(20, hidden_act="gelu")},
    ),
    "sdxl": (
        "StableDiffusionXLPipeline",
        {"force_zeros_for_empty_prompt": True, "image_encoder": [None, None]},
        {
            "unet": CONFIGS["unet_sdxl"],
            "vae": {**VAE, "scaling_factor": 0.13025, "force_upcast": True},
            "text_encoder": _text(8),
            "text_encoder_2": {**CONFIGS["clip_text_projected"], "hidden_size": 12, "model_type": "clip_text_model"},
        },
    ),
    "contextual_story": (
        "ConditionalAnimationPipeline",
        {},
        {"unet": STORY_UNET, "vae": VAE, "text_encoder": _text(16, hidden_act="gelu")},
    ),
}


def original_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Original name -> shape of every tensor of a network, the dead ones too, in an order that is not ours."""
    found = component_of(config)
    ours = found.read_config(config)
    rules, shapes = found.rules(ours), {}
    for path, shape in shapes_of(abstract(lambda rngs: found.make(ours, rngs))[1]).items():
        ((rule, key),) = key_of(rules, path)
        shapes[key] = TRANSFORMS[rule.transform].shape(shape, inverse=True)
        for dead in rules:
            if isinstance(dead, Dead) and (key := dead.pytorch_key(path)):
                shapes[key] = dead.shape(shape)
    return dict(sorted(shapes.items()))


def original_tensors(config: dict[str, Any], dtype: str = "float32") -> dict[str, np.ndarray]:
    """The same with values."""
    return {name: values(name, shape).astype(DTYPES[dtype]) for name, shape in original_shapes(config).items()}


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers, float32, always the same for a name."""
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)


def write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def tokenizer(folder: Path, words: int = 40) -> None:
    """A CLIP tokenizer of single letters."""
    folder.mkdir(parents=True)
    names = ["<|startoftext|>", "<|endoftext|>", *(chr(ord("!") + i) for i in range(words - 2))]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    write_json(folder / "tokenizer_config.json", {"model_max_length": 9, "tokenizer_class": "CLIPTokenizer"})
    write_json(folder / "special_tokens_map.json", {"pad_token": "<|endoftext|>"})


def diffusers_folder(folder: Path, model: str, dtype: str = "float32") -> Path:
    """A folder as the released one of that family lies on the hub."""
    pipeline, entries, networks = MODELS[model]
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": "0.21.2", **entries}
    for name, config in networks.items():
        library = DIFFUSERS if "_class_name" in config else TRANSFORMERS
        index[name] = [library, config["_class_name"] if library == DIFFUSERS else config["architectures"][0]]
        write_json(folder / name / "config.json", config)
        tensors = original_tensors(config, dtype)
        if name == "text_encoder":  # as older versions of transformers saved it
            tensors["text_model.embeddings.position_ids"] = np.arange(config["max_position_embeddings"])[None]
        file = "diffusion_pytorch_model" if library == DIFFUSERS else "model"
        save_file(tensors, folder / name / f"{file}.safetensors", metadata={"format": "pt"})
        if library == TRANSFORMERS:
            tokenizer(folder / name.replace("text_encoder", "tokenizer"))
            index[name.replace("text_encoder", "tokenizer")] = [TRANSFORMERS, "CLIPTokenizer"]
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    index["scheduler"] = [DIFFUSERS, SCHEDULER["_class_name"]]
    if model == "sd1":
        write_json(folder / "safety_checker" / "config.json", {"architectures": ["StableDiffusionSafetyChecker"]})
        write_json(folder / "feature_extractor" / "preprocessor_config.json", {"size": 224})
    if model == "contextual_story":
        write_json(folder / "cumulative_motion.json", [[3.5, 4.25]])
    write_json(folder / "model_index.json", index)
    return folder


def all_bytes(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Everything in a diffusers folder's weights: <network>/<tensor> -> dtype, shape, bytes."""
    from storyjax.weights import open_tensors

    found = {}
    for file in sorted(folder.glob("*/*.safetensors")):
        for key, value in open_tensors(file).items():
            found[f"{file.parent.name}/{key}"] = (value.dtype.name, value.shape, value.tobytes())
    return found
