"""Weights and inputs of the goldens: deterministic functions of their names, so that only outputs need storing.

The same recipe was run under the official PyTorch code (sixiaozheng/ContextualStory, commit b1daa49, float32 on a CPU) to
produce the files in `contextual_story/`. Every tensor is drawn by PCG64 seeded with the CRC-32 of its PyTorch name. The shapes
are written down here from the official configuration, independently of our model and of our table of names.
"""

import dataclasses
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "contextual_story"
Shape = tuple[int, ...]
Shapes = dict[str, Shape]

MOTION_INTEGER = np.array([[53, 61, 47, 70], [12, 88, 35, 41]])
MOTION_FLOAT = np.array([[55.25, 61.5, 47.75, 70.125]], np.float32)


def golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of one golden file."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def golden_json(name: str) -> dict:
    """The content of one JSON file beside the goldens."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def named_input(name: str, *shape: int) -> np.ndarray:
    """The input called `name`: standard normal float32."""
    return _generator(f"input:{name}").standard_normal(shape, dtype=np.float32)


def tiny_continuation() -> dict[str, np.ndarray]:
    """Two stories of three frames for a `TINY` continuation model, in the official layouts; 8x4 latents, 7 tokens."""
    shapes = {
        "x0": (2, 4, 3, 8, 4),
        "noise": (2, 4, 3, 8, 4),
        "first_frame": (2, 4, 1, 8, 4),
        "text": (6, 7, 256),
        "null_text": (3, 7, 256),
    }
    return {name: named_input(f"tiny_sc/{name}", *shape) for name, shape in shapes.items()} | {
        "motion": MOTION_FLOAT[:, :2]
    }


def channels_last(x: np.ndarray) -> np.ndarray:
    """Official layouts to ours: (N, C, H, W) -> (N, H, W, C) and (B, C, F, H, W) -> (B, F, H, W, C)."""
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x.transpose(0, 2, 3, 4, 1)


def named_weights(shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """The weights called by these PyTorch names. Nothing is zero, so no part can be forgotten unnoticed."""
    return {key: named_weight(key, shape) for key, shape in shapes.items()}


def named_weight(key: str, shape: Shape) -> np.ndarray:
    """One tensor, by the first case that its name or shape matches."""
    rng = _generator(key)
    if key.endswith("rotary_emb.freqs"):
        count = shape[0]
        return (10000.0 ** (-2 * np.arange(count) / (2 * count))).astype(np.float32)
    if key.endswith(".alpha"):
        return (0.3 + 0.4 * rng.random(shape)).astype(np.float32)
    if key.endswith("pos_embed"):
        return 0.02 * rng.standard_normal(shape, dtype=np.float32)
    if len(shape) >= 2:
        return rng.standard_normal(shape, dtype=np.float32) * (0.5 / math.sqrt(math.prod(shape[1:])))
    if key.endswith(".weight"):
        return 1 + 0.1 * rng.standard_normal(shape, dtype=np.float32)
    return 0.05 * rng.standard_normal(shape, dtype=np.float32)


def _generator(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


@dataclasses.dataclass(frozen=True)
class OfficialConfig:
    """Sizes of VideoLDMUNet3DConditionModel; the defaults are the released models'."""

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers: int = 2
    text_layers: int = 4
    text: int = 1024
    frames: int = 5


FULL = OfficialConfig()
SMALL = OfficialConfig(channels=(32, 64, 96, 96), layers=1, text_layers=1)
TINY = OfficialConfig(channels=(32, 64), layers=1, text_layers=1, text=256, frames=3)  # of tests/parity/make_goldens.py


def official_shapes(config: OfficialConfig, continuation: bool = False) -> Shapes:
    """Names and shapes of the official state dict, written down from the class and its configuration."""
    widths, first, last = config.channels, config.channels[0], config.channels[-1]
    shapes = {
        **_conv("conv_in", 4, first),
        **_linear("time_embedding.linear_1", first, 4 * first),
        **_linear("time_embedding.linear_2", 4 * first, 4 * first),
        **_linear("msim_embedding.0", first, 4 * first),
        **_linear("msim_embedding.2", 4 * first, 4 * first),
        **_text_adapter(config),
    }
    before, skips = first, [first]
    for level, width in enumerate(widths):
        at, coarsest = f"down_blocks.{level}", level == len(widths) - 1
        shapes |= _first_frame(at, before) if continuation else {}
        for j in range(config.layers):
            shapes |= _layer(config, at, j, before, width, attention=not coarsest)
            skips.append(width)
            before = width
        if not coarsest:
            shapes |= _conv(f"{at}.downsamplers.0.conv", width, width)
            skips.append(width)
    shapes |= _first_frame("mid_block", last) if continuation else {}
    shapes |= _layer(config, "mid_block", 0, last, last, attention=True)
    shapes |= _layer(config, "mid_block", 1, last, last, attention=False)
    for level, width in enumerate(reversed(widths)):
        at = f"up_blocks.{level}"
        shapes |= _first_frame(at, before) if continuation else {}
        for j in range(config.layers + 1):
            shapes |= _layer(config, at, j, before + skips.pop(), width, attention=level > 0)
            before = width
        if level < len(widths) - 1:
            shapes |= _conv(f"{at}.upsamplers.0.conv", width, width)
    return shapes | _norm("conv_norm_out", first) | _conv("conv_out", first, 4)


def _layer(config: OfficialConfig, at: str, j: int, inputs: int, width: int, attention: bool) -> Shapes:
    """A residual block and what follows it."""
    resnet, temporal = f"{at}.resnets.{j}", f"{at}.conv3ds.{j}"
    shapes = {
        **_norm(f"{resnet}.norm1", inputs),
        **_conv(f"{resnet}.conv1", inputs, width),
        **_linear(f"{resnet}.time_emb_proj", 4 * config.channels[0], width),
        **_norm(f"{resnet}.norm2", width),
        **_conv(f"{resnet}.conv2", width, width),
        **(_conv(f"{resnet}.conv_shortcut", inputs, width, 1) if inputs != width else {}),
        f"{temporal}.alpha": (1,),
        **_linear(f"{temporal}.time_emb_proj", 512, width),
    }
    for k in (1, 2):
        shapes |= _norm(f"{temporal}.norm{k}", width)
        shapes |= {f"{temporal}.conv{k}.weight": (width, width, 3, 1, 1), f"{temporal}.conv{k}.bias": (width,)}
    if attention:
        shapes |= _transformer(f"{at}.attentions.{j}", width, config.text)
        shapes |= _transformer(f"{at}.tempo_attns.{j}", width, width)
        shapes |= _temporal_extras(f"{at}.tempo_attns.{j}", width)
    return shapes


def _temporal_extras(at: str, width: int) -> Shapes:
    shapes: Shapes = {f"{at}.alpha": (1,)}
    for attn in (f"{at}.transformer_blocks.0.attn1", f"{at}.transformer_blocks.0.attn2"):
        if at.startswith("mid_block"):
            shapes[f"{attn}.pos_enc.dummy"] = (1,)
        else:
            shapes[f"{attn}.rotary_emb.freqs"] = (width // 4,)
            shapes[f"{attn}.rotary_bias.relative_attention_bias.weight"] = (32, 8)
    return shapes


def _transformer(at: str, width: int, context: int) -> Shapes:
    block = f"{at}.transformer_blocks.0"
    return {
        **_norm(f"{at}.norm", width),
        **_linear(f"{at}.proj_in", width, width),
        **_attention(f"{block}.attn1", width, width),
        **_attention(f"{block}.attn2", width, context),
        **_feed_forward(f"{block}.ff", width),
        **_norm(f"{block}.norm1", width),
        **_norm(f"{block}.norm2", width),
        **_norm(f"{block}.norm3", width),
        **_linear(f"{at}.proj_out", width, width),
    }


def _text_adapter(config: OfficialConfig) -> Shapes:
    width = config.text
    shapes: Shapes = {"text_adapter.pos_embed": (1, config.frames, 1024, width), **_norm("text_adapter.norm", width)}
    for i in range(config.text_layers):
        for number in (0, 1):
            block = f"text_adapter.trf_blocks.{i}.transformer_blocks.{number}"
            shapes |= _attention(f"{block}.attn1", width, width) | _feed_forward(f"{block}.ff", width)
            shapes |= _norm(f"{block}.norm1", width) | _norm(f"{block}.norm3", width)
            shapes |= {f"{block}.attn1.rotary_emb.freqs": (16,)} if number == 1 else {}
    return shapes


def _attention(at: str, width: int, context: int) -> Shapes:
    shapes = {f"{at}.to_q.weight": (width, width)}
    shapes |= {f"{at}.{name}.weight": (width, context) for name in ("to_k", "to_v")}
    return shapes | _linear(f"{at}.to_out.0", width, width)


def _feed_forward(at: str, width: int) -> Shapes:
    return _linear(f"{at}.net.0.proj", width, 8 * width) | _linear(f"{at}.net.2", 4 * width, width)


def _first_frame(at: str, width: int) -> Shapes:
    return _conv(f"{at}.first_frame_conv", 4, width, 1)


def _conv(at: str, inputs: int, outputs: int, kernel: int = 3) -> Shapes:
    return {f"{at}.weight": (outputs, inputs, kernel, kernel), f"{at}.bias": (outputs,)}


def _linear(at: str, inputs: int, outputs: int) -> Shapes:
    return {f"{at}.weight": (outputs, inputs), f"{at}.bias": (outputs,)}


def _norm(at: str, width: int) -> Shapes:
    return {f"{at}.weight": (width,), f"{at}.bias": (width,)}
