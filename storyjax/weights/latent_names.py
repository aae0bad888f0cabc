"""Tensor names of the original latent-diffusion code in those of diffusers and transformers, network by network.

The original numbers what it runs through: `input_blocks.4.1` is the fifth step down, its second module. diffusers counts levels and
places within them. Facts from https://github.com/CompVis/latent-diffusion (openaimodel.py, model.py) and
https://github.com/mlfoundations/open_clip; which name means which was checked against diffusers' own loader (tests).
"""

import functools
import re

import numpy as np

from storyjax.weights.renamed import Change

# Where a tensor goes: its new names, and what is done to its values for each; none where the name is unknown.
Targets = list[tuple[str, Change | None]]

_STEP = re.compile(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"middle_block\.([012])\.(.+)")  # residual block, transformer, residual block
_PLAIN = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def unet(key: str, layers: int) -> Targets:
    """diffusers' name of a tensor of the UNet. layers: residual blocks of each level on the way down."""
    layer, _, kind = key.rpartition(".")
    if layer in _PLAIN:
        return [(f"{_PLAIN[layer]}.{kind}", None)]
    if found := _MIDDLE.fullmatch(key):
        number, rest = int(found[1]), found[2]
        if number == 1:
            return [(f"mid_block.attentions.0.{rest}", None)]
        return _of_resnet(f"mid_block.resnets.{number // 2}", rest)
    if (found := _STEP.fullmatch(key)) is None:
        return []
    down, number, module, rest = found[1] == "input", int(found[2]), found[3], found[4]
    level, place = divmod(number - 1 if down else number, layers + 1)
    block = f"{'down' if down else 'up'}_blocks.{level}"
    layer, _, kind = rest.rpartition(".")
    if layer == ("op" if down else "conv"):
        return [(f"{block}.{'downsamplers' if down else 'upsamplers'}.0.conv.{kind}", None)]
    if module == "0":
        return _of_resnet(f"{block}.resnets.{place}", rest)
    return [(f"{block}.attentions.{place}.{rest}", None)] if module == "1" else []


def _of_resnet(at: str, rest: str) -> Targets:
    layer, _, kind = rest.rpartition(".")
    return [(f"{at}.{_RESNET[layer]}.{kind}", None)] if layer in _RESNET else []


_VAE_STEP = re.compile(r"(encoder|decoder)\.(?:down|up)\.(\d+)\.(?:block\.(\d+)|(?:down|up)sample)\.(.+)")
_VAE_MIDDLE = re.compile(r"(encoder|decoder)\.mid\.(?:block_([12])|attn_1)\.(.+)")
_VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_VAE_SAME = re.compile(r"(encoder|decoder)\.(conv_in|conv_out)\.\w+|(post_)?quant_conv\.\w+")


def vae(key: str, levels: int) -> Targets:
    """diffusers' name of a tensor of the picture codec. levels: how many resolutions it has."""
    if _VAE_SAME.fullmatch(key):
        return [(key, None)]
    if found := re.fullmatch(r"(encoder|decoder)\.norm_out\.(\w+)", key):
        return [(f"{found[1]}.conv_norm_out.{found[2]}", None)]
    if found := _VAE_MIDDLE.fullmatch(key):
        half, number, rest = found.groups()
        if number:
            return [(f"{half}.mid_block.resnets.{int(number) - 1}.{_shortcut(rest)}", None)]
        layer, _, kind = rest.rpartition(".")
        name = _VAE_ATTENTION.get(layer)
        return [(f"{half}.mid_block.attentions.0.{name}.{kind}", _without_pixels)] if name else []
    if found := _VAE_STEP.fullmatch(key):
        half, level, place, rest = found.groups()
        # The decoder's levels are numbered by resolution there and in the order of running here.
        block = f"encoder.down_blocks.{level}" if half == "encoder" else f"decoder.up_blocks.{levels - 1 - int(level)}"
        sampler = "downsamplers" if half == "encoder" else "upsamplers"
        return [(f"{block}.{f'resnets.{place}' if place else f'{sampler}.0'}.{_shortcut(rest)}", None)]
    return []


def _shortcut(rest: str) -> str:
    return rest.replace("nin_shortcut.", "conv_shortcut.")


def _without_pixels(values: np.ndarray) -> np.ndarray:
    """(O, I, 1, 1) -> (O, I): the original's attention projects by 1x1 convolutions."""
    return (
        values.reshape(values.shape[:2]) if values.ndim > 2 and values.shape[2:] == (1,) * (values.ndim - 2) else values
    )


_OPEN_CLIP = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_OPEN_CLIP_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
_OPEN_CLIP_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def open_clip(key: str) -> Targets:
    """transformers' names of a tensor of OpenCLIP's text encoder; the matrices of q, k and v lie there in one."""
    if key in _OPEN_CLIP:
        return [(_OPEN_CLIP[key], None)]
    if key == "text_projection":
        return [("text_projection.weight", np.transpose)]
    if (found := _OPEN_CLIP_LAYER.fullmatch(key)) is None:
        return []
    at, rest = f"text_model.encoder.layers.{found[1]}", found[2]
    if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
        kind = rest.rpartition("_")[2]
        return [(f"{at}.self_attn.{part}_proj.{kind}", functools.partial(_third, n)) for n, part in enumerate("qkv")]
    layer, _, kind = rest.rpartition(".")
    return [(f"{at}.{_OPEN_CLIP_PARTS[layer]}.{kind}", None)] if layer in _OPEN_CLIP_PARTS else []


def _third(number: int, values: np.ndarray) -> np.ndarray:
    if values.ndim == 0 or values.shape[0] % 3:
        return values  # whole, so that its shape is refused
    rows = values.shape[0] // 3
    return values[number * rows : (number + 1) * rows]
