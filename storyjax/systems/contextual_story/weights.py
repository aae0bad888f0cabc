"""ContextualStory's checkpoints: Stable Diffusion's table of names and what the paper adds, and the released config.

The official class is VideoLDMUNet3DConditionModel; visualization has 1537 tensors, continuation 18 more (`first_frame_conv`).
76 of them never influence an output: a time projection in every temporal convolution block that is never called, a relative
position bias whose use is commented out, a placeholder scalar of the sinusoidal positions. They are dropped and, on
export, written back as zeros.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from storyjax.config import from_json, to_json
from storyjax.diffusion.noise import NoisePrior
from storyjax.errors import StoryjaxError
from storyjax.systems.contextual_story.config import FIRST_FRAME_MODES, ContextualStoryConfig
from storyjax.systems.contextual_story.model import ContextualStory
from storyjax.weights import unet as base
from storyjax.weights.component import Component, register
from storyjax.weights.rules import AnyRule, Dead, Rule, conv2d, join, linear, norm
from storyjax.weights.settings import Settings
from storyjax.weights.system import System, register_system
from storyjax.weights.unet import BLOCK, transformer, transformer_block, unet

if TYPE_CHECKING:
    from storyjax.weights.checkpoint import Checkpoint


def _temporal_convolution() -> list[AnyRule]:
    source, target = f"{BLOCK}.conv3ds.{{j}}", "unet.{at}.after_resnet.{j}"
    return join(
        [Rule(f"{source}.alpha", f"{target}.alpha")],
        norm(f"{source}.norm{{k}}", f"{target}.norm{{k}}"),
        linear(f"{source}.conv{{k}}", f"{target}.conv{{k}}", transform="temporal_conv"),
        [
            Dead(f"{source}.time_emb_proj.weight", f"{target}.conv2.bias", lambda shape: (*shape, 512)),
            Dead(f"{source}.time_emb_proj.bias", f"{target}.conv2.bias", lambda shape: shape),
        ],
    )


def _temporal_attention(projection: str) -> list[AnyRule]:
    source, target = f"{BLOCK}.tempo_attns.{{j}}", "unet.{at}.after_attention.{j}"
    attention = "transformer_blocks.{b}.attn{k}"
    return join(
        [
            Rule(f"{source}.alpha", f"{target}.alpha"),
            Rule(f"{source}.{attention}.rotary_emb.freqs", f"{target}.{attention}.freqs"),
            # The blocks with a neighbourhood carry the unused bias, the middle block the unused scalar.
            Dead(
                f"{source}.{attention}.rotary_bias.relative_attention_bias.weight",
                f"{target}.{attention}.freqs",
                lambda _: (32, 8),
            ),
            Dead(
                f"mid_block.tempo_attns.{{j}}.{attention}.pos_enc.dummy",
                f"unet.mid_block.after_attention.{{j}}.{attention}.to_out.bias",
                lambda _: (1,),
            ),
        ],
        transformer(source, target, projection),
    )


def _contextualizer() -> list[AnyRule]:
    """Block 0 of an official layer looks at the whole story, block 1 along the frames."""
    layers = []
    for number, name in enumerate(("story", "frame")):
        source = f"text_adapter.trf_blocks.{{i}}.transformer_blocks.{number}"
        layers.append(transformer_block(source, f"contextualizer.layers.{{i}}.{name}"))
    freqs = Rule(
        "text_adapter.trf_blocks.{i}.transformer_blocks.1.attn1.rotary_emb.freqs",
        "contextualizer.layers.{i}.frame.attn1.freqs",
    )
    pos_embed = Rule("text_adapter.pos_embed", "contextualizer.pos_embed")
    return join(*layers, [freqs, pos_embed], norm("text_adapter.norm", "contextualizer.norm"))


def rules(projection: str = "linear") -> list[AnyRule]:
    """The whole table; projection as in `storyjax.weights.unet.transformer`."""
    return join(
        unet("unet.", projection),
        _temporal_convolution(),
        _temporal_attention(projection),
        _contextualizer(),
        linear("msim_embedding.0", "motion_embedding.linear_1"),
        linear("msim_embedding.2", "motion_embedding.linear_2"),
        conv2d(f"{BLOCK}.first_frame_conv", "unet.{at}.block_entry.first_frame_conv"),
    )


RULES = rules()

# The first value is what the official class means where a config leaves the setting out; none of those is a released model.
FIXED: dict[str, tuple[Any, ...]] = {
    "use_temporal": ({"temporal_attn": True, "temporal_conv": True},),
    "use_frame_stride_condition": (False,),
    "FStext_layer_depth": (2,),
    "FStext_layer_temporal": ([False, True],),
    "FStext_layer_causal": ([False, False],),
}
RELEASED = {"augment_temporal_attention": True, "temp_pos_embedding": "rotary", "use_motion_condition": True}
# How training starts, and what the data loader was given.
INERT = ("zero_init_storyflow_adapter", "zero_init_FSText", "sample_n_frames", "variant")
CONTEXTUALIZER = "FSText"
# Not in the official config, because its code has these numbers written into it.
HARD_WIRED = ("contextualizer_heads", "contextualizer_positions", "temporal_norm_groups")


def read_config(config: Mapping[str, Any]) -> ContextualStoryConfig:
    """Our config from the config.json of a VideoLDMUNet3DConditionModel: the UNet's settings and the paper's."""
    settings = Settings(config, "VideoLDMUNet3DConditionModel")
    settings.ignore(INERT)
    settings.fixed(FIXED)
    for name, value in RELEASED.items():  # the official class has other defaults, so these must be there
        if settings.take(name, None) != value:
            settings.refuse(name, repr(value))
    layers = settings.take("num_layers_FStext", 4)
    contextualizer = settings.take("use_text_cross_attention", None)
    if contextualizer not in (CONTEXTUALIZER, ""):
        settings.refuse("use_text_cross_attention", f"'{CONTEXTUALIZER}' or ''")
    first_frame = settings.take("first_frame_condition_mode", "none")
    if first_frame not in FIRST_FRAME_MODES:
        settings.refuse("first_frame_condition_mode", " or ".join(repr(mode) for mode in FIRST_FRAME_MODES))
    values = {
        "frames": settings.take("n_frames", 8),
        "temporal_heads": settings.take("n_temp_heads", 8),
        "first_frame": first_frame,
        "contextualizer_layers": layers if contextualizer else 0,
        "unet": to_json(base.read_settings(settings)),
    }
    return from_json(ContextualStoryConfig, values, settings.what)


def write_config(config: ContextualStoryConfig) -> dict[str, Any]:
    """The official config.json. `alpha_start`, which only begins a training, has no place there.

    Error: a size that the official code has written into it and this model has otherwise.
    """
    released = ContextualStoryConfig()
    for name in HARD_WIRED:
        if getattr(config, name) != getattr(released, name):
            raise StoryjaxError(
                f"the official ContextualStory knows {name}={getattr(released, name)} only, this model has "
                f"{getattr(config, name)}; keep it as it is"
            )
    return {
        **base.write_config(config.unet),
        "_class_name": "VideoLDMUNet3DConditionModel",
        **{name: allowed[0] for name, allowed in FIXED.items()},
        **RELEASED,
        "first_frame_condition_mode": config.first_frame,
        "n_frames": config.frames,
        "n_temp_heads": config.temporal_heads,
        "num_layers_FStext": config.contextualizer_layers or released.contextualizer_layers,
        "use_text_cross_attention": CONTEXTUALIZER if config.contextualizer_layers else "",
    }


COMPONENT = register(
    Component(
        name="contextual_story",
        classes=("VideoLDMUNet3DConditionModel",),
        read_config=read_config,
        write_config=write_config,
        make=lambda config, rngs: ContextualStory(config, rngs=rngs),
        rules=lambda config: rules(base.projection_of(config.unet)),
    )
)


def settings(_: "Checkpoint") -> dict[str, Any]:
    """The released models' picture size, noise prior and sampling (spec §8.1, §9); no file of theirs says them.

    The official evaluation draws with DDIM, whatever scheduler the folder inherited from its base model.
    """
    from storyjax.systems.contextual_story.pipeline import Defaults

    return {
        "size": [256, 256],
        "prior": to_json(NoisePrior()),
        "defaults": to_json(Defaults()),
    }


register_system(
    System(
        name="contextual_story",
        pipelines=("ConditionalAnimationPipeline",),
        parts={"unet": "contextual_story", "text_encoder": "clip_text", "vae": "vae"},
        settings=settings,
        files=("cumulative_motion.json",),
    )
)
