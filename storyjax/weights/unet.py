"""The UNet of diffusers (Stable Diffusion 1, 2, XL) as a table: what every system's table starts from.

Names differ from ours in few places: `weight` is `kernel` or `scale`, `to_out.0` is `to_out`, the feed-forward's `net.0.proj` and
`net.2` are `proj_in` and `proj_out`, and a block has one `downsample` or `upsample` instead of a list of them.
"""

from storyjax.weights.rules import AnyRule, conv2d, join, linear, norm

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
        resnet(f"{BLOCK}.resnets.{{j}}", f"{root}{{at}}.resnets.{{j}}"),
        transformer(f"{BLOCK}.attentions.{{j}}", f"{root}{{at}}.attentions.{{j}}", projection),
        conv2d("down_blocks.{i}.downsamplers.0.conv", f"{root}down_blocks.{{i}}.downsample.conv"),
        conv2d("up_blocks.{i}.upsamplers.0.conv", f"{root}up_blocks.{{i}}.upsample.conv"),
        norm("conv_norm_out", f"{root}conv_norm_out"),
        conv2d("conv_out", f"{root}conv_out"),
    )
