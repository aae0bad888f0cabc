"""The names of timm's and DINO's vision transformers, also as DreamSim spells CLIP's in them. These files have no config.json."""

from storyjax.config import from_json, to_json
from storyjax.models.vit import ViT, ViTConfig
from storyjax.weights.component import Component
from storyjax.weights.rules import AnyRule, Rule, join, linear, norm

RULES: list[AnyRule] = join(
    [Rule(name, name) for name in ("cls_token", "pos_embed")],
    [
        Rule("patch_embed.proj.weight", "patch_embed.proj.kernel", "conv2d"),
        Rule("patch_embed.proj.bias", "patch_embed.bias"),
    ],
    norm("pos_drop", "pre_norm"),  # DreamSim keeps CLIP's first norm in the place of a dropout
    norm("blocks.{i}.norm{k}", "blocks.{i}.norm{k}"),
    linear("blocks.{i}.{at:attn[.]qkv|attn[.]proj|mlp[.]fc1|mlp[.]fc2}", "blocks.{i}.{at}"),
    norm("norm", "norm"),
    [Rule("proj", "proj.kernel")],  # stored (in, out) already
)

VIT_COMPONENT = Component(
    name="vit",
    classes=(),
    read_config=lambda config: from_json(ViTConfig, dict(config)),
    write_config=to_json,
    make=lambda config, rngs: ViT(config, rngs=rngs),
    rules=lambda _: RULES,
)
