"""The UNet of diffusers (Stable Diffusion 1, 2, XL): its table of names, what every system's table starts from, and its config.

Names differ from ours in few places: `weight` is `kernel` or `scale`, `to_out.0` is `to_out`, the feed-forward's `net.0.proj` and
`net.2` are `proj_in` and `proj_out`, and a block has one `downsample` or `upsample` instead of a list of them.
"""

from collections.abc import Mapping
from typing import Any

from storyjax.config import from_json
from storyjax.models.unet import UNet, UNetConfig
from storyjax.weights.component import Component, register
from storyjax.weights.rules import AnyRule, conv2d, join, linear, norm
from storyjax.weights.settings import DIFFUSERS, Settings

BLOCK = r"{at:(?:down_blocks|up_blocks)\.[0-9]+|mid_block}"


def resnet(source: str, target: str) -> list[AnyRule]:
    """A residual block: two norms and convolutions, the time projection, the shortcut."""
    return join(
        norm(f"{source}.norm{{k}}", f"{target}.norm{{k}}"),
        conv2d(f"{source}.conv{{k}}", f"{target}.conv{{k}}"),
        linear(f"{source}.time_emb_proj", f"{target}.time_emb_proj"),
        conv2d(f"{source}.conv_shortcut", f"{target}.conv_shortcut"),
    )


def transformer_block(source: str, target: str) -> list[AnyRule]:
    """Norms, attentions (no bias on q, k, v) and GEGLU feed-forward of one transformer block."""
    attention = "attn{k}"
    return join(
        norm(f"{source}.norm{{k}}", f"{target}.norm{{k}}"),
        linear(f"{source}.{attention}.{{to:to_[qkv]}}", f"{target}.{attention}.{{to}}", bias=False),
        linear(f"{source}.{attention}.to_out.0", f"{target}.{attention}.to_out"),
        linear(f"{source}.ff.net.0.proj", f"{target}.ff.proj_in"),
        linear(f"{source}.ff.net.2", f"{target}.ff.proj_out"),
    )


def transformer(source: str, target: str, projection: str = "linear") -> list[AnyRule]:
    """A transformer over an image: norm, projections in and out, its blocks.

    projection: "linear", or "conv1x1_as_linear" for Stable Diffusion 1.
    """
    return join(
        norm(f"{source}.norm", f"{target}.norm"),
        linear(f"{source}.proj_{{way:in|out}}", f"{target}.proj_{{way}}", transform=projection),
        transformer_block(f"{source}.transformer_blocks.{{b}}", f"{target}.transformer_blocks.{{b}}"),
    )


def unet(root: str = "", projection: str = "linear") -> list[AnyRule]:
    """The table of a UNet whose slots are empty; its native paths start with `root` ("unet." inside a system's model)."""
    return join(
        conv2d("conv_in", f"{root}conv_in"),
        linear("time_embedding.linear_{k}", f"{root}time_embedding.linear_{{k}}"),
        linear("add_embedding.linear_{k}", f"{root}add_embedding.linear_{{k}}"),
        resnet(f"{BLOCK}.resnets.{{j}}", f"{root}{{at}}.resnets.{{j}}"),
        transformer(f"{BLOCK}.attentions.{{j}}", f"{root}{{at}}.attentions.{{j}}", projection),
        conv2d("down_blocks.{i}.downsamplers.0.conv", f"{root}down_blocks.{{i}}.downsample.conv"),
        conv2d("up_blocks.{i}.upsamplers.0.conv", f"{root}up_blocks.{{i}}.upsample.conv"),
        norm("conv_norm_out", f"{root}conv_norm_out"),
        conv2d("conv_out", f"{root}conv_out"),
    )


FIXED: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "only_cross_attention": (False,),
    "mid_block_only_cross_attention": (None, False),
    "dual_cross_attention": (False, None),
    "cross_attention_norm": (None,),
    "attention_type": ("default",),
    "num_attention_heads": (None,),
    "reverse_transformer_layers_per_block": (None,),
    "downsample_padding": (1,),
    "mid_block_scale_factor": (1,),
    "dropout": (0,),
    "act_fn": ("silu", "swish"),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "addition_embed_type": (None, "text_time"),
    "resnet_time_scale_shift": ("default",),
    "resnet_skip_time_act": (False,),
    "resnet_out_scale_factor": (1,),
    "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "time_cond_proj_dim": (None,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
}
# Attention scores are float32 here in any case; the others say how something refused above would be built.
INERT = ("upcast_attention", "class_embeddings_concat", "addition_embed_type_num_heads")
KINDS = {"DownBlock2D": False, "CrossAttnDownBlock2D": True, "UpBlock2D": False, "CrossAttnUpBlock2D": True}


def read_settings(settings: Settings) -> UNetConfig:
    """The UNet that diffusers' settings describe. A system with settings of its own takes those from the same `settings` first."""
    settings.ignore(DIFFUSERS)
    settings.ignore(INERT)
    settings.fixed(FIXED)
    widths = settings.take("block_out_channels", [320, 640, 1280, 1280])
    levels = len(widths) if isinstance(widths, list | tuple) else 0
    values = {
        "in_channels": settings.take("in_channels", 4),
        "out_channels": settings.take("out_channels", 4),
        "block_out_channels": widths,
        "attention": _attention(settings),
        # The original's name says width, but the number is that of the heads: a slip that every released file keeps.
        "heads": settings.each("attention_head_dim", 8, levels),
        "layers_per_block": settings.one("layers_per_block", 2),
        "transformer_depth": settings.take("transformer_layers_per_block", 1),
        "cross_attention_dim": settings.one("cross_attention_dim", 1280),
        "norm_groups": settings.take("norm_num_groups", 32),
        "norm_eps": settings.take("norm_eps", 1e-5),
        "sample_size": settings.one("sample_size", None) or UNetConfig.sample_size,
        "linear_projection": settings.take("use_linear_projection", False),
        "addition": settings.take("addition_embed_type", None),
    }
    inputs = settings.take("projection_class_embeddings_input_dim", None)
    width = settings.take("addition_time_embed_dim", None)
    if values["addition"]:
        values |= {"addition_inputs": inputs, "addition_time_width": width}
    settings.done()
    return from_json(UNetConfig, values, settings.what)


def _attention(settings: Settings) -> list[bool]:
    """Which levels have spatial transformers, by the names of the blocks; the way up must mirror the way down."""
    down = settings.take("down_block_types", ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"])
    up = settings.take("up_block_types", ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)
    for name, kinds, way in (("down_block_types", down, "Down"), ("up_block_types", up, "Up")):
        known = [kind for kind in KINDS if way in kind]
        if not isinstance(kinds, list | tuple) or any(kind not in known for kind in kinds):
            settings.refuse(name, f"'{way}Block2D' and 'CrossAttn{way}Block2D'")
            return []
    if [KINDS[kind] for kind in up] != [KINDS[kind] for kind in reversed(down)]:
        settings.refuse("up_block_types", "the mirror image of down_block_types")
    return [KINDS[kind] for kind in down]


def read_config(config: Mapping[str, Any]) -> UNetConfig:
    """Our config from diffusers' config.json of a UNet2DConditionModel; what is missing there has diffusers' default."""
    return read_settings(Settings(config, "UNet2DConditionModel"))


def write_config(config: UNetConfig) -> dict[str, Any]:
    """diffusers' config.json; `remat`, which changes no number, has no place there."""
    cross = ["CrossAttn" if attention else "" for attention in config.attention]
    added = {"projection_class_embeddings_input_dim": None, "addition_time_embed_dim": None}
    if config.addition:
        added = {
            "projection_class_embeddings_input_dim": config.addition_inputs,
            "addition_time_embed_dim": config.addition_time_width,
        }
    depth = config.transformer_depth
    return {
        "_class_name": "UNet2DConditionModel",
        **{name: allowed[0] for name, allowed in FIXED.items()},
        "addition_embed_type": config.addition,
        **added,
        "attention_head_dim": list(config.heads),
        "block_out_channels": list(config.block_out_channels),
        "cross_attention_dim": config.cross_attention_dim,
        "down_block_types": [f"{kind}DownBlock2D" for kind in cross],
        "in_channels": config.in_channels,
        "layers_per_block": config.layers_per_block,
        "norm_eps": config.norm_eps,
        "norm_num_groups": config.norm_groups,
        "out_channels": config.out_channels,
        "sample_size": config.sample_size,
        "transformer_layers_per_block": depth if isinstance(depth, int) else list(depth),
        "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(cross)],
        "use_linear_projection": config.linear_projection,
    }


def projection_of(config: UNetConfig) -> str:
    """The transform of the spatial transformers' projections in a file of this network."""
    return "linear" if config.linear_projection else "conv1x1_as_linear"


COMPONENT = register(
    Component(
        name="unet",
        classes=("UNet2DConditionModel",),
        read_config=read_config,
        write_config=write_config,
        make=lambda config, rngs: UNet(config, rngs=rngs),
        rules=lambda config: unet(projection=projection_of(config)),
    )
)
