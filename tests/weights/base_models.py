"""Tiny base models that have every part of a released one: their original configs, their inputs, and what diffusers and
transformers compute from weights that are functions of a tensor's name. Only that last step needs PyTorch."""

from typing import Any

import numpy as np

from tests.goldens.make_inputs import named_input, named_weights

UNET = {
    "_class_name": "UNet2DConditionModel",
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 8,
}
CLIP = {
    "architectures": ["CLIPTextModel"],
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 9,
    "vocab_size": 50,
}
CONFIGS: dict[str, dict[str, Any]] = {
    # Stable Diffusion 1: projections as convolutions, as many heads at every level
    "unet_sd1": {**UNET, "attention_head_dim": 2, "cross_attention_dim": 12},
    # Stable Diffusion 2, inpainting
    "unet_sd2_inpaint": {
        **UNET,
        "in_channels": 9,
        "attention_head_dim": [1, 4],
        "cross_attention_dim": 20,
        "use_linear_projection": True,
    },
    "unet_sdxl": {
        **UNET,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": [2, 4],
        "cross_attention_dim": 20,
        "use_linear_projection": True,
        "transformer_layers_per_block": [1, 2],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 6,
        "projection_class_embeddings_input_dim": 10 + 6 * 6,
    },
    "vae": {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [8, 16],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 3,
        "scaling_factor": 0.13025,
    },
    # 2 as the end of text: the largest id, as every released Stable Diffusion means it
    "clip_text": {**CLIP, "eos_token_id": 2, "bos_token_id": 0},
    "clip_text_projected": {
        **CLIP,
        "architectures": ["CLIPTextModelWithProjection"],
        "hidden_act": "gelu",
        "projection_dim": 10,
        "eos_token_id": 31,
    },
    "clip_vision": {
        **{name: value for name, value in CLIP.items() if name not in ("max_position_embeddings", "vocab_size")},
        "architectures": ["CLIPVisionModelWithProjection"],
        "hidden_act": "gelu",
        "projection_dim": 10,
        "image_size": 15,  # the last pixel is in no patch
        "patch_size": 7,
    },
}
# Both the largest id and the id 31 stand elsewhere than at the end, and repeat.
TOKENS = np.array([[3, 7, 31, 49, 49, 31, 0], [1, 49, 31, 2, 49, 31, 31]])
GRADIENTS_OF = "unet_sdxl"


def inputs(name: str) -> dict[str, np.ndarray]:
    """What goes in, pictures in PyTorch's layout."""
    config = CONFIGS[name]
    if name.startswith("unet"):
        channels = config.get("in_channels", 4)
        given = {
            "sample": named_input("sample", 2, channels, 6, 8),
            "timesteps": np.array([17, 901]),
            "context": named_input("context", 2, 5, config["cross_attention_dim"]),
        }
        if "addition_embed_type" in config:
            sizes = np.array([[64, 48, 0, 3, 32, 40], [512, 512, 7, 0, 1024, 768]], np.float32)
            given |= {"pooled_text": named_input("pooled", 2, 10), "time_ids": sizes}
        return given
    if name == "vae":
        return {"images": named_input("images", 1, 3, 12, 10), "latents": named_input("latents", 1, 3, 4, 5)}
    return {"images": named_input("images", 2, 3, 15, 15)} if name == "clip_vision" else {"tokens": TOKENS}


def original(config: dict[str, Any], *, with_weights: bool = False) -> Any:
    """The model that diffusers or transformers builds from a config.json, to evaluate; weights random, or `named_weights`."""
    import diffusers
    import torch
    import transformers

    plain = {key: value for key, value in config.items() if not key.startswith("_") and key != "architectures"}
    if "_class_name" in config:
        model = getattr(diffusers, config["_class_name"])(**plain)
    else:
        kind = config["architectures"][0]
        whole = {"CLIPModel": transformers.CLIPConfig, "OwlViTForObjectDetection": transformers.OwlViTConfig}
        settings = transformers.CLIPVisionConfig if "Vision" in kind else transformers.CLIPTextConfig
        settings = whole.get(kind, settings)
        model = getattr(transformers, kind)(settings(**plain))
    if with_weights:
        drawn = named_weights(shapes_of(model))
        names = zip(model.state_dict(), drawn)
        model.load_state_dict({theirs: torch.from_numpy(drawn[released]) for theirs, released in names})
    return model.eval()


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    """Original name -> shape. Encoders without projection are spelled as all released files are, not as the newest library does."""
    prefix = {"CLIPTextModel": "text_model.", "CLIPVisionModel": "vision_model."}.get(type(model).__name__, "")
    return {
        key if key.startswith(prefix) else prefix + key: tuple(value.shape) for key, value in model.state_dict().items()
    }


def outputs_of_original(name: str, model: Any) -> dict[str, np.ndarray]:
    """What the original computes, as arrays by name; of one UNet also all gradients of a loss, as `gradient <name>`."""
    import torch

    given = {key: torch.from_numpy(value) for key, value in inputs(name).items()}
    if name.startswith("unet"):
        return _unet_outputs(name, model, given)
    with torch.no_grad():
        if name == "vae":
            found = model.encode(given["images"]).latent_dist
            out = {"mean": found.mean, "deviation": found.std, "decoded": model.decode(given["latents"]).sample}
        elif name == "clip_vision":
            found = model(given["images"], output_hidden_states=True)
            out = {"last": found.last_hidden_state, "early": found.hidden_states[-2], "embedding": found.image_embeds}
        else:
            found = model(given["tokens"], output_hidden_states=True)
            pooled = found.text_embeds if "projected" in name else found.pooler_output
            out = {"last": found.last_hidden_state, "early": found.hidden_states[-2], "pooled": pooled}
    return {key: value.numpy() for key, value in out.items()}


def _unet_outputs(name: str, model: Any, given: dict[str, Any]) -> dict[str, np.ndarray]:
    import torch

    added = {"text_embeds": given["pooled_text"], "time_ids": given["time_ids"]} if "time_ids" in given else None
    out = model(given["sample"], given["timesteps"], given["context"], added_cond_kwargs=added).sample
    arrays = {"out": out.detach().numpy()}
    if name == GRADIENTS_OF:
        torch.mean((out - torch.from_numpy(named_input("target", *out.shape))) ** 2).backward()
        arrays |= {f"gradient {key}": value.grad.numpy() for key, value in model.named_parameters()}
    return arrays
