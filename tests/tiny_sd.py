"""Stable Diffusion in the smallest sizes that have every part: 16x16 pixels, two levels, a few hundred kilobytes as a folder."""

import dataclasses
from pathlib import Path
from typing import Any

from storyjax.data import load_tokenizer
from storyjax.diffusion.samplers import Sampler
from storyjax.diffusion.schedule import ScheduleConfig
from storyjax.models.unet import UNetConfig
from storyjax.models.vae import VAEConfig
from storyjax.systems.stable_diffusion.config import Defaults, StableDiffusionConfig
from storyjax.systems.stable_diffusion.pipeline import NETWORKS, StableDiffusionPipeline
from tests import tiny

SIZE = 16
UNET = UNetConfig(
    block_out_channels=(8, 16),
    attention=(True, False),
    heads=(2, 4),
    layers_per_block=1,
    cross_attention_dim=8,
    norm_groups=4,
    sample_size=8,
    linear_projection=False,
)
UNET_XL = dataclasses.replace(
    UNET,
    attention=(False, True),
    transformer_depth=(1, 2),
    cross_attention_dim=16,
    addition="text_time",
    addition_inputs=8 + 6 * 4,
    addition_time_width=4,
    linear_projection=True,
)
CODEC = VAEConfig(block_out_channels=(8, 8), layers_per_block=1, norm_groups=4)
TEXT = dataclasses.replace(tiny.TEXT, layers=2, activation="quick_gelu")
TEXT_2 = dataclasses.replace(tiny.TEXT, layers=2, projection=8)

_SD15 = StableDiffusionConfig(
    UNET,
    TEXT,
    CODEC,
    size=(SIZE, SIZE),
    defaults=Defaults(num_inference_steps=3, sampler=Sampler("plms")),
)
CONFIGS = {
    "sd15": _SD15,
    "sd21_v": dataclasses.replace(
        _SD15, schedule=ScheduleConfig.sd21_v(), defaults=Defaults(num_inference_steps=3, sampler=Sampler("ddim"))
    ),
    "sdxl": dataclasses.replace(
        _SD15,
        unet=UNET_XL,
        text_encoder_2=TEXT_2,
        schedule=ScheduleConfig.sdxl(),
        zero_empty_prompt=True,
        defaults=Defaults(num_inference_steps=3, guidance_scale=5.0, sampler=Sampler("euler")),
    ),
    "inpaint": dataclasses.replace(_SD15, unet=dataclasses.replace(UNET, in_channels=9)),
}


def pipeline(kind: str, tokenizer: Path, **changes: Any) -> StableDiffusionPipeline:
    """A pipeline with parameters that are functions of their names; `tokenizer` is the folder for both encoders."""
    config = dataclasses.replace(CONFIGS[kind], **changes)
    names = [name for name in NETWORKS if getattr(config, name) is not None]
    params = {
        name: tiny.network(lambda rngs, name=name: NETWORKS[name](getattr(config, name), rngs=rngs), seed)[1]
        for seed, name in enumerate(names)
    }
    read = load_tokenizer(tokenizer)
    return StableDiffusionPipeline(config, params, {name: read for name in tokenizers(kind, tokenizer)})


def tokenizers(kind: str, tokenizer: Path) -> dict[str, Path]:
    """The folders that `save` copies."""
    return {name: tokenizer for name in (["tokenizer", "tokenizer_2"] if kind == "sdxl" else ["tokenizer"])}


def folder(kind: str, tokenizer: Path, place: Path) -> Path:
    """A model folder on the disk."""
    pipeline(kind, tokenizer).save(place, tokenizers(kind, tokenizer))
    return place
