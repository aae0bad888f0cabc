"""Names and shapes of checkpoints in the original latent-diffusion layout, at any size, as that code's constructors make them.

Independent of `storyjax.weights.latent_names`: nothing here knows diffusers' names. `tests/weights/test_latent_parity.py` shows
that diffusers' own loader takes what this module makes for the real thing.
"""

import dataclasses

import numpy as np

SCHEDULE = ["betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"]
SCHEDULE += ["log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"]
SCHEDULE += ["posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"]


@dataclasses.dataclass(frozen=True)
class Family:
    """Sizes of a model. depths: transformer blocks of each level of the UNet; clip, second: (width, layers, vocabulary)."""

    name: str
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    context: int
    clip: tuple[int, int, int]
    second: tuple[int, int, int] | None = None
    in_channels: int = 4
    vae_widths: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2
    positions: int = 77
    added: int = 0  # numbers that SDXL adds to the time embedding

    @property
    def linear(self) -> bool:
        return self.name != "sd1"


FULL = {
    "sd1": Family("sd1", (320, 640, 1280, 1280), (1, 1, 1, 0), 768, (768, 12, 49408)),
    "sd1-inpainting": Family("sd1", (320, 640, 1280, 1280), (1, 1, 1, 0), 768, (768, 12, 49408), in_channels=9),
    "sd2": Family("sd2", (320, 640, 1280, 1280), (1, 1, 1, 0), 1024, (1024, 24, 49408)),
    "sdxl": Family("sdxl", (320, 640, 1280), (0, 2, 10), 2048, (768, 12, 49408), second=(1280, 32, 49408), added=2816),
}
TINY = {
    "sd1": Family("sd1", (32, 64), (1, 0), 16, (16, 2, 30), vae_widths=(32, 64), layers=1, positions=7),
    "sd1-inpainting": Family(
        "sd1", (32, 64), (1, 0), 16, (16, 2, 30), in_channels=9, vae_widths=(32, 32), layers=2, positions=7
    ),
    "sd2": Family("sd2", (64, 128, 128), (1, 1, 0), 64, (64, 3, 30), vae_widths=(32, 64), layers=2, positions=7),
    "sdxl": Family(
        "sdxl",
        (32, 64, 64),
        (0, 1, 2),
        16 + 128,
        (16, 2, 30),
        second=(128, 2, 30),
        vae_widths=(32, 32, 64),
        positions=7,
        added=128 + 6 * 8,
    ),
}


def shapes(family: Family, *, ema: bool = False) -> dict[str, tuple[int, ...]]:
    """Every tensor of a file of this family. ema: with averaged weights beside the last ones."""
    unet = {f"model.diffusion_model.{name}": shape for name, shape in unet_shapes(family).items()}
    named = {name: (1000,) for name in SCHEDULE} | unet
    named |= {f"first_stage_model.{name}": shape for name, shape in vae_shapes(family).items()}
    if family.name == "sd2":
        named |= {
            f"cond_stage_model.model.{name}": shape for name, shape in open_clip_shapes(family, family.clip).items()
        }
    else:
        prefix = "cond_stage_model.transformer." if family.name == "sd1" else "conditioner.embedders.0.transformer."
        named |= {f"{prefix}{name}": shape for name, shape in clip_shapes(family, family.clip).items()}
    if family.second:
        second = open_clip_shapes(family, family.second)
        named |= {f"conditioner.embedders.1.model.{name}": shape for name, shape in second.items()}
    if ema:
        named |= {"model_ema." + name.removeprefix("model.").replace(".", ""): shape for name, shape in unet.items()}
        named |= {"model_ema.decay": (), "model_ema.num_updates": ()}
    return named


def numbers(named: dict[str, tuple[int, ...]], dtype=np.float32, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors of those shapes; `position_ids` counts."""
    random = np.random.default_rng(seed)
    return {
        name: np.arange(shape[1])[None] if name.endswith("position_ids") else random.normal(size=shape).astype(dtype)
        for name, shape in named.items()
    }


def _affine(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _norm(name, width):
    return _affine(name, width)


def unet_shapes(family):
    first, embedded = family.widths[0], 4 * family.widths[0]
    named = _affine("time_embed.0", embedded, first) | _affine("time_embed.2", embedded, embedded)
    if family.added:
        named |= _affine("label_emb.0.0", embedded, family.added) | _affine("label_emb.0.2", embedded, embedded)
    named |= _affine("input_blocks.0.0", first, family.in_channels, 3, 3)
    width, skips, step = first, [first], 1
    for level, wide in enumerate(family.widths):
        for _ in range(family.layers):
            named |= _resnet(f"input_blocks.{step}.0", width, wide, embedded)
            width = wide
            named |= _transformer(f"input_blocks.{step}.1", width, family.depths[level], family)
            skips.append(width)
            step += 1
        if level < len(family.widths) - 1:
            named |= _affine(f"input_blocks.{step}.0.op", width, width, 3, 3)
            skips.append(width)
            step += 1
    named |= _resnet("middle_block.0", width, width, embedded)
    named |= _transformer("middle_block.1", width, max(1, family.depths[-1]), family)
    named |= _resnet("middle_block.2", width, width, embedded)
    step = 0
    for level in reversed(range(len(family.widths))):
        for place in range(family.layers + 1):
            wide = family.widths[level]
            named |= _resnet(f"output_blocks.{step}.0", width + skips.pop(), wide, embedded)
            width = wide
            named |= _transformer(f"output_blocks.{step}.1", width, family.depths[level], family)
            if level and place == family.layers:
                module = 2 if family.depths[level] else 1
                named |= _affine(f"output_blocks.{step}.{module}.conv", width, width, 3, 3)
            step += 1
    assert not skips
    return named | _norm("out.0", first) | _affine("out.2", 4, first, 3, 3)


def _resnet(at, width, wide, embedded):
    named = _norm(f"{at}.in_layers.0", width) | _affine(f"{at}.in_layers.2", wide, width, 3, 3)
    named |= _affine(f"{at}.emb_layers.1", wide, embedded)
    named |= _norm(f"{at}.out_layers.0", wide) | _affine(f"{at}.out_layers.3", wide, wide, 3, 3)
    return named | (_affine(f"{at}.skip_connection", wide, width, 1, 1) if width != wide else {})


def _transformer(at, width, depth, family):
    if not depth:
        return {}
    projection = (width, width) if family.linear else (width, width, 1, 1)
    named = _norm(f"{at}.norm", width) | _affine(f"{at}.proj_in", *projection) | _affine(f"{at}.proj_out", *projection)
    for block in (f"{at}.transformer_blocks.{number}" for number in range(depth)):
        for attention, context in (("attn1", width), ("attn2", family.context)):
            named |= {f"{block}.{attention}.to_q.weight": (width, width)}
            named |= {f"{block}.{attention}.to_{each}.weight": (width, context) for each in "kv"}
            named |= _affine(f"{block}.{attention}.to_out.0", width, width)
        named |= _affine(f"{block}.ff.net.0.proj", 8 * width, width) | _affine(f"{block}.ff.net.2", width, 4 * width)
        for number in (1, 2, 3):
            named |= _norm(f"{block}.norm{number}", width)
    return named


def vae_shapes(family):
    widths, latent = family.vae_widths, 4
    last = widths[-1]
    named = _affine("encoder.conv_in", widths[0], 3, 3, 3)
    width = widths[0]
    for level, wide in enumerate(widths):
        for place in range(family.layers):
            named |= _vae_block(f"encoder.down.{level}.block.{place}", width, wide)
            width = wide
        if level < len(widths) - 1:
            named |= _affine(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    named |= _vae_middle("encoder", last) | _norm("encoder.norm_out", last)
    named |= _affine("encoder.conv_out", 2 * latent, last, 3, 3)
    named |= _affine("decoder.conv_in", last, latent, 3, 3) | _vae_middle("decoder", last)
    width = last
    for level in reversed(range(len(widths))):
        for place in range(family.layers + 1):
            named |= _vae_block(f"decoder.up.{level}.block.{place}", width, widths[level])
            width = widths[level]
        if level:
            named |= _affine(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    named |= _norm("decoder.norm_out", widths[0]) | _affine("decoder.conv_out", 3, widths[0], 3, 3)
    return (
        named | _affine("quant_conv", 2 * latent, 2 * latent, 1, 1) | _affine("post_quant_conv", latent, latent, 1, 1)
    )


def _vae_block(at, width, wide):
    named = _norm(f"{at}.norm1", width) | _affine(f"{at}.conv1", wide, width, 3, 3)
    named |= _norm(f"{at}.norm2", wide) | _affine(f"{at}.conv2", wide, wide, 3, 3)
    return named | (_affine(f"{at}.nin_shortcut", wide, width, 1, 1) if width != wide else {})


def _vae_middle(half, width):
    named = _vae_block(f"{half}.mid.block_1", width, width) | _vae_block(f"{half}.mid.block_2", width, width)
    named |= _norm(f"{half}.mid.attn_1.norm", width)
    for name in ("q", "k", "v", "proj_out"):
        named |= _affine(f"{half}.mid.attn_1.{name}", width, width, 1, 1)
    return named


def clip_shapes(family, sizes):
    width, layers, words = sizes
    named = {
        "text_model.embeddings.position_ids": (1, family.positions),
        "text_model.embeddings.token_embedding.weight": (words, width),
        "text_model.embeddings.position_embedding.weight": (family.positions, width),
    }
    for at in (f"text_model.encoder.layers.{number}" for number in range(layers)):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            named |= _affine(f"{at}.self_attn.{name}", width, width)
        named |= _norm(f"{at}.layer_norm1", width) | _norm(f"{at}.layer_norm2", width)
        named |= _affine(f"{at}.mlp.fc1", 4 * width, width) | _affine(f"{at}.mlp.fc2", width, 4 * width)
    return named | _norm("text_model.final_layer_norm", width)


def open_clip_shapes(family, sizes):
    width, layers, words = sizes
    named = {
        "positional_embedding": (family.positions, width),
        "text_projection": (width, width),
        "logit_scale": (),
        "token_embedding.weight": (words, width),
    }
    for at in (f"transformer.resblocks.{number}" for number in range(layers)):
        named |= {f"{at}.attn.in_proj_weight": (3 * width, width), f"{at}.attn.in_proj_bias": (3 * width,)}
        named |= _affine(f"{at}.attn.out_proj", width, width)
        named |= _norm(f"{at}.ln_1", width) | _norm(f"{at}.ln_2", width)
        named |= _affine(f"{at}.mlp.c_fc", 4 * width, width) | _affine(f"{at}.mlp.c_proj", width, 4 * width)
    return named | _norm("ln_final", width)
