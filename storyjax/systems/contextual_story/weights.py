"""ContextualStory's checkpoint names: Stable Diffusion's table and what the paper adds.

The official class is VideoLDMUNet3DConditionModel; visualization has 1537 tensors, continuation 18 more (`first_frame_conv`).
76 of them never influence an output: a time projection in every temporal convolution block that is never called, a relative
position bias whose use is commented out, a placeholder scalar of the sinusoidal positions. They are dropped and, on
export, written back as zeros.
"""

from storyjax.weights.rules import AnyRule, Dead, Rule, conv2d, join, linear, norm
from storyjax.weights.unet import BLOCK, transformer, transformer_block, unet


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


def _temporal_attention() -> list[AnyRule]:
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
        transformer(source, target),
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


RULES: list[AnyRule] = join(
    unet("unet."),
    _temporal_convolution(),
    _temporal_attention(),
    _contextualizer(),
    linear("msim_embedding.0", "motion_embedding.linear_1"),
    linear("msim_embedding.2", "motion_embedding.linear_2"),
    conv2d(f"{BLOCK}.first_frame_conv", "unet.{at}.block_entry.first_frame_conv"),
)
