"""AutoencoderKL of diffusers: its table of names and its config.

The one attention, in the middle, has two spellings in the wild: `to_q`, `to_k`, `to_v`, `to_out.0` today, `query`, `key`, `value`,
`proj_attn` before; and its matrices are sometimes 1x1 convolutions, as the first implementation had them.
"""

from collections.abc import Mapping
from typing import Any

from storyjax.config import from_json
from storyjax.errors import StoryjaxError
from storyjax.models.vae import AutoencoderKL, VAEConfig
from storyjax.weights.component import Component, register
from storyjax.weights.rules import Alias, AnyRule, conv2d, join, linear, norm
from storyjax.weights.settings import DIFFUSERS, Settings
from storyjax.weights.unet import resnet

HALF = "{half:encoder|decoder}"
MIDDLE = f"{HALF}.mid_block.attentions.0"
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out"}


def _attention() -> list[AnyRule]:
    target = "{half}.mid_block.attention"
    aliases: list[AnyRule] = []
    for old, new in OLD_NAMES.items():
        aliases.append(Alias(f"{MIDDLE}.{old}.weight", f"{target}.{new}.kernel", "linear_or_conv1x1"))
        aliases.append(Alias(f"{MIDDLE}.{old}.bias", f"{target}.{new}.bias"))
    return join(
        norm(f"{MIDDLE}.group_norm", "{half}.mid_block.group_norm"),
        linear(f"{MIDDLE}.{{to:to_[qkv]}}", f"{target}.{{to}}", transform="linear_or_conv1x1"),
        linear(f"{MIDDLE}.to_out.0", f"{target}.to_out", transform="linear_or_conv1x1"),
        aliases,
    )


RULES: list[AnyRule] = join(
    conv2d(f"{HALF}.conv_{{way:in|out}}", "{half}.conv_{way}"),
    norm(f"{HALF}.conv_norm_out", "{half}.conv_norm_out"),
    resnet(f"{HALF}.{{at:down_blocks|up_blocks}}.{{i}}.resnets.{{j}}", "{half}.{at}.{i}.resnets.{j}"),
    resnet(f"{HALF}.mid_block.resnets.{{j}}", "{half}.mid_block.resnets.{j}"),
    _attention(),
    conv2d("encoder.down_blocks.{i}.downsamplers.0.conv", "encoder.down_blocks.{i}.resample.conv"),
    conv2d("decoder.up_blocks.{i}.upsamplers.0.conv", "decoder.up_blocks.{i}.resample.conv"),
    conv2d("{quant:quant_conv|post_quant_conv}", "{quant}"),
)

FIXED: dict[str, tuple[Any, ...]] = {
    "in_channels": (3,),
    "out_channels": (3,),
    "act_fn": ("silu", "swish"),
    "down_block_types": ("DownEncoderBlock2D",),
    "up_block_types": ("UpDecoderBlock2D",),
    "shift_factor": (None, 0),
    "latents_mean": (None,),
    "latents_std": (None,),
    "use_quant_conv": (True,),
    "use_post_quant_conv": (True,),
    "mid_block_add_attention": (True,),
}
# `sample_size` is the picture size of training, for slicing large pictures; `force_upcast` asks for float32, which pipelines here
# decode in anyway.
INERT = ("sample_size", "force_upcast")


def read_config(config: Mapping[str, Any]) -> VAEConfig:
    """Our config from diffusers' config.json of an AutoencoderKL; what is missing there has diffusers' default."""
    settings = Settings(config, "AutoencoderKL")
    settings.ignore(DIFFUSERS)
    settings.ignore(INERT)
    settings.fixed(FIXED)
    values = {
        "block_out_channels": settings.take("block_out_channels", [64]),
        "layers_per_block": settings.take("layers_per_block", 1),
        "latent_channels": settings.take("latent_channels", 4),
        "norm_groups": settings.take("norm_num_groups", 32),
        "scaling_factor": settings.take("scaling_factor", 0.18215),
    }
    settings.done()
    return from_json(VAEConfig, values, settings.what)


def write_config(config: VAEConfig) -> dict[str, Any]:
    """diffusers' config.json. Error: patches larger than one pixel, which diffusers has not."""
    if config.patch != 1:
        raise StoryjaxError(
            f"an AutoencoderKL of diffusers has no patches, this one has patch={config.patch}; keep it as it is"
        )
    levels = len(config.block_out_channels)
    return {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": list(config.block_out_channels),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "in_channels": 3,
        "latent_channels": config.latent_channels,
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_groups,
        "out_channels": 3,
        "scaling_factor": config.scaling_factor,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }


COMPONENT = register(
    Component(
        name="vae",
        classes=("AutoencoderKL",),
        read_config=read_config,
        write_config=write_config,
        make=lambda config, rngs: AutoencoderKL(config, rngs=rngs),
        rules=lambda _: RULES,
    )
)
