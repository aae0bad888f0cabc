"""CLIP's text and vision encoders of transformers: their tables of names and their configs.

Every released file begins its names with `text_model.` or `vision_model.`; the newest transformers leaves that away where the
encoder has no projection. Both are read, the released form is written. Old files hold the row numbers of the position table too.
"""

from collections.abc import Mapping
from typing import Any

from storyjax.config import from_json
from storyjax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from storyjax.models.clip_vision import CLIPVisionConfig, CLIPVisionEncoder
from storyjax.weights.component import Component, class_names, register
from storyjax.weights.rules import Alias, AnyRule, Rule, Stray, conv2d, join, linear, norm
from storyjax.weights.settings import TRANSFORMERS, Settings

LEGACY_END = 2  # the end-of-text id in configs written before transformers used it: there it means the largest id


def _transformer(prefix: str) -> list[AnyRule]:
    """The layers that both encoders have."""
    source, target = f"{prefix}encoder.layers.{{i}}", "layers.{i}"
    return join(
        linear(f"{source}.self_attn.{{to:(?:q|k|v|out)_proj}}", f"{target}.self_attn.{{to}}"),
        norm(f"{source}.layer_norm{{k}}", f"{target}.layer_norm{{k}}"),
        linear(f"{source}.mlp.fc{{k}}", f"{target}.mlp.fc{{k}}"),
        [Rule(f"{prefix}embeddings.position_embedding.weight", "embeddings.position_embedding.embedding")],
    )


def _both_spellings(prefix: str, rules: list[AnyRule]) -> list[AnyRule]:
    """The rules, and the same without the prefix for reading only."""
    bare = [
        Alias(rule.pattern.removeprefix(prefix), rule.path, rule.transform) for rule in rules if isinstance(rule, Rule)
    ]
    return join(rules, bare, [Stray(f"{prefix}embeddings.position_ids"), Stray("embeddings.position_ids")])


TEXT: list[AnyRule] = join(
    _both_spellings(
        "text_model.",
        join(
            _transformer("text_model."),
            [Rule("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.embedding")],
            norm("text_model.final_layer_norm", "final_layer_norm"),
        ),
    ),
    linear("text_projection", "text_projection", bias=False),
)
VISION: list[AnyRule] = join(
    _both_spellings(
        "vision_model.",
        join(
            _transformer("vision_model."),
            [
                Rule("vision_model.embeddings.class_embedding", "embeddings.class_embedding"),
                conv2d("vision_model.embeddings.patch_embedding", "embeddings.patch_embedding")[0],  # without bias
            ],
            norm("vision_model.pre_layrnorm", "pre_layernorm"),
            norm("vision_model.post_layernorm", "post_layernorm"),
        ),
    ),
    linear("visual_projection", "visual_projection", bias=False),
)

FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("quick_gelu", "gelu"),
    "layer_norm_eps": (1e-5,),
    "attention_dropout": (0,),
    "dropout": (0,),
    "pruned_heads": ({},),
}


def _read(config: Mapping[str, Any], what: str, defaults: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """What both encoders' configs say. defaults: transformers' own, by its names."""
    settings = Settings(config, what)
    settings.ignore(TRANSFORMERS)
    settings.fixed(FIXED)
    values = {ours: settings.take(theirs, defaults[theirs]) for theirs, ours in NAMES.items()}
    projection = settings.take("projection_dim", 512)
    projected = any(name.endswith("WithProjection") for name in class_names(config))
    return settings, values | {"projection": projection if projected else None}


NAMES = {
    "hidden_size": "width",
    "intermediate_size": "mlp_width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "hidden_act": "activation",
}
TEXT_DEFAULTS = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "hidden_act": "quick_gelu",
}
VISION_DEFAULTS = TEXT_DEFAULTS | {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}


def read_text_config(config: Mapping[str, Any]) -> CLIPTextConfig:
    """Our config from transformers' config.json of a CLIPTextModel, or of one WithProjection: that name alone tells them apart."""
    settings, values = _read(config, "CLIPTextModel", TEXT_DEFAULTS)
    settings.ignore(("pad_token_id", "bos_token_id"))
    end = settings.take("eos_token_id", 49407)
    values |= {
        "vocab_size": settings.take("vocab_size", 49408),
        "positions": settings.take("max_position_embeddings", 77),
        "end_token": None if end == LEGACY_END else end,
    }
    settings.done()
    return from_json(CLIPTextConfig, values, settings.what)


def write_text_config(config: CLIPTextConfig) -> dict[str, Any]:
    """transformers' config.json."""
    legacy = config.end_token is None
    return _written(config, "CLIPTextModel", "clip_text_model") | {
        "bos_token_id": 0 if legacy else 49406,
        "eos_token_id": LEGACY_END if legacy else config.end_token,
        "max_position_embeddings": config.positions,
        "pad_token_id": 1,
        "vocab_size": config.vocab_size,
    }


def read_vision_config(config: Mapping[str, Any]) -> CLIPVisionConfig:
    """Our config from transformers' config.json of a CLIPVisionModel, or of one WithProjection."""
    settings, values = _read(config, "CLIPVisionModel", VISION_DEFAULTS)
    settings.fixed({"num_channels": (3,)})
    values |= {"image_size": settings.take("image_size", 224), "patch_size": settings.take("patch_size", 32)}
    settings.done()
    return from_json(CLIPVisionConfig, values, settings.what)


def write_vision_config(config: CLIPVisionConfig) -> dict[str, Any]:
    """transformers' config.json."""
    return _written(config, "CLIPVisionModel", "clip_vision_model") | {
        "image_size": config.image_size,
        "num_channels": 3,
        "patch_size": config.patch_size,
    }


def _written(config: CLIPTextConfig | CLIPVisionConfig, architecture: str, model_type: str) -> dict[str, Any]:
    return {
        "architectures": [architecture + ("WithProjection" if config.projection else "")],
        "attention_dropout": 0.0,
        "layer_norm_eps": 1e-5,
        "model_type": model_type,
        "projection_dim": config.projection or 512,
        **{theirs: getattr(config, ours) for theirs, ours in NAMES.items()},
    }


TEXT_COMPONENT = register(
    Component(
        name="clip_text",
        classes=("CLIPTextModel", "CLIPTextModelWithProjection", "clip_text_model"),
        read_config=read_text_config,
        write_config=write_text_config,
        make=lambda config, rngs: CLIPTextEncoder(config, rngs=rngs),
        rules=lambda _: TEXT,
    )
)
VISION_COMPONENT = register(
    Component(
        name="clip_vision",
        classes=("CLIPVisionModel", "CLIPVisionModelWithProjection", "clip_vision_model"),
        read_config=read_vision_config,
        write_config=write_vision_config,
        make=lambda config, rngs: CLIPVisionEncoder(config, rngs=rngs),
        rules=lambda _: VISION,
    )
)
