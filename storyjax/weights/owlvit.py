"""transformers' OwlViTForObjectDetection."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from storyjax.models.clip import LOGIT_SCALE, CLIPConfig
from storyjax.models.owlvit import OwlViT
from storyjax.weights.clip import read_text_config, read_vision_config, write_text_config, write_vision_config
from storyjax.weights.clip_whole import sub_configs, towers
from storyjax.weights.component import Component, register
from storyjax.weights.rules import AnyRule, Rule, Stray, join, linear, norm

TEXT_DEFAULTS = {"max_position_embeddings": 16}  # where transformers' defaults are not CLIP's
VISION_DEFAULTS = {"image_size": 768}


def _spelled(rule: AnyRule) -> AnyRule:
    """CLIP's first norm is misspelled in its files, not in these."""
    if isinstance(rule, Rule) and "pre_layrnorm" in rule.pattern:
        return dataclasses.replace(rule, pattern=rule.pattern.replace("pre_layrnorm", "pre_layernorm"))
    return rule


RULES: list[AnyRule] = join(
    [_spelled(rule) for rule in towers("owlvit.")],
    norm("layer_norm", "layer_norm"),
    linear("class_head.{part:dense0|logit_shift|logit_scale}", "class_head.{part}"),
    linear("box_head.dense{k}", "box_head.dense{k}"),
    [Stray("box_bias")],  # computed from the number of patches
)


def read_config(config: Mapping[str, Any]) -> CLIPConfig:
    """Our config from transformers' config.json. The pooled text token is that of the largest id, whatever the config says."""
    width, text, vision = sub_configs(config, "OwlViTForObjectDetection")
    return CLIPConfig(
        dataclasses.replace(read_text_config(TEXT_DEFAULTS | text), projection=width, end_token=None),
        dataclasses.replace(read_vision_config(VISION_DEFAULTS | vision), projection=width),
    )


def write_config(config: CLIPConfig) -> dict[str, Any]:
    """transformers' config.json."""
    text = write_text_config(config.text) | {"model_type": "owlvit_text_model", "bos_token_id": 49406}
    vision = write_vision_config(config.vision) | {"model_type": "owlvit_vision_model"}
    return {
        "architectures": ["OwlViTForObjectDetection"],
        "logit_scale_init_value": LOGIT_SCALE,
        "model_type": "owlvit",
        "projection_dim": config.text.projection,
        "text_config": text | {"architectures": None, "eos_token_id": 49407, "pad_token_id": 0},
        "vision_config": vision | {"architectures": None},
    }


OWLVIT_COMPONENT = register(
    Component(
        name="owlvit",
        classes=("OwlViTForObjectDetection", "owlvit"),
        read_config=read_config,
        write_config=write_config,
        make=lambda config, rngs: OwlViT(config, rngs=rngs),
        rules=lambda _: RULES,
    )
)
