"""transformers' CLIPModel: both encoders in one file, with their projections and the scale of similarities."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from storyjax.errors import StoryjaxError
from storyjax.models.clip import CLIP, LOGIT_SCALE, CLIPConfig
from storyjax.weights.clip import (
    TEXT,
    VISION,
    read_text_config,
    read_vision_config,
    write_text_config,
    write_vision_config,
)
from storyjax.weights.component import Component, register
from storyjax.weights.rules import AnyRule, Rule, Stray, join
from storyjax.weights.settings import TRANSFORMERS, Settings


def towers(prefix: str = "") -> list[AnyRule]:
    """The tables of both encoders at `prefix` of a file, placed at `text.` and `vision.`; old files hold position numbers too."""
    return join(
        _tower(TEXT, prefix, "text"),
        _tower(VISION, prefix, "vision"),
        [
            Rule(f"{prefix}logit_scale", "logit_scale"),
            Stray(prefix + "{tower:text|vision}_model.embeddings.position_ids"),
        ],
    )


def _tower(rules: list[AnyRule], prefix: str, place: str) -> list[AnyRule]:
    return [
        dataclasses.replace(rule, pattern=prefix + rule.pattern, path=f"{place}.{rule.path}")
        for rule in rules
        if isinstance(rule, Rule)  # the spelling without prefix cannot be told apart here, and no file has it
    ]


def sub_configs(config: Mapping[str, Any], what: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Width of the common space, and the configs of the text and the vision encoder inside a whole model's config."""
    settings = Settings(config, what)
    settings.ignore((*TRANSFORMERS, "logit_scale_init_value", "is_composition"))
    width = settings.take("projection_dim", 512)
    found = []
    for name in ("text_config", "vision_config"):
        values, written_again = settings.take(name, None), settings.take(f"{name}_dict", None)
        # Where it is there, transformers takes the second one alone.
        values = (values or {}) if written_again is None else written_again
        if not isinstance(values, Mapping):
            raise StoryjaxError(f"{what}: expected an object as {name}, got {values!r}")
        found.append(dict(values))
    settings.done()
    return width, found[0], found[1]


def read_config(config: Mapping[str, Any]) -> CLIPConfig:
    """Our config from transformers' config.json of a CLIPModel."""
    width, text, vision = sub_configs(config, "CLIPModel")
    return CLIPConfig(
        dataclasses.replace(read_text_config(text), projection=width),
        dataclasses.replace(read_vision_config(vision), projection=width),
    )


def write_config(config: CLIPConfig) -> dict[str, Any]:
    """transformers' config.json."""
    return {
        "architectures": ["CLIPModel"],
        "logit_scale_init_value": LOGIT_SCALE,
        "model_type": "clip",
        "projection_dim": config.text.projection,
        "text_config": write_text_config(config.text) | {"architectures": None},
        "vision_config": write_vision_config(config.vision) | {"architectures": None},
    }


# Not by its `model_type`: the safety checker of Stable Diffusion calls itself "clip" too.
CLIP_COMPONENT = register(
    Component(
        name="clip",
        classes=("CLIPModel",),
        read_config=read_config,
        write_config=write_config,
        make=lambda config, rngs: CLIP(config, rngs=rngs),
        rules=lambda _: towers(),
    )
)
