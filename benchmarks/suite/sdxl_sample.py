"""Pictures of 1024x1024 with SDXL: 20 Euler steps under guidance, decoded in float32, storyjax's pipeline against diffusers'.

Both are called as a person calls them; PyTorch's side gets the text encoders' states for nothing.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import torch_sides
from benchmarks.measure import Row, Setting, Side, compare
from benchmarks.sides import NAME, TINY_TEXT, TINY_VAE, TOKENS, random_params, sdxl_config
from storyjax.data import train_tokenizer
from storyjax.diffusion.samplers import Sampler
from storyjax.diffusion.schedule import ScheduleConfig
from storyjax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from storyjax.models.unet import UNet
from storyjax.models.vae import AutoencoderKL, VAEConfig
from storyjax.nn.build import abstract, bind
from storyjax.nn.flops import Flops, count_flops
from storyjax.systems.stable_diffusion.config import Defaults, StableDiffusionConfig
from storyjax.systems.stable_diffusion.pipeline import StableDiffusionPipeline

PROMPT, GUIDANCE = "a red kite over a lake", 5.0
NETWORKS = {"unet": UNet, "text_encoder": CLIPTextEncoder, "text_encoder_2": CLIPTextEncoder, "vae": AutoencoderKL}


def run(setting: Setting) -> list[Row]:
    """SDXL pictures of 1024x1024, 20 guided steps, one alone and several in a batch."""
    steps, several = (20, setting.batch or 4) if setting.full else (2, setting.batch or 2)
    pipeline = _pipeline(setting, steps)
    rows: list[Row] = []
    for batch in (1, several) if setting.full else (several,):
        sides = [_ours(pipeline, batch, steps)]
        if setting.against:
            sides += _diffusers(setting, pipeline.config, batch, steps)
        conditions = {"batch": batch, "steps": steps, "guidance": GUIDANCE, "pixels": pipeline.config.size[0]}
        rows += compare("sampling", sides, setting, conditions, items=batch, unit="image")
    return rows


def _config(full: bool, steps: int) -> StableDiffusionConfig:
    small, tiny = {"width": 16, "heads": 2, "mlp_width": 32}, {"width": 8, "heads": 2, "mlp_width": 16}
    return StableDiffusionConfig(
        unet=sdxl_config(full),
        text_encoder=CLIPTextConfig.clip_l() if full else _toy(small),
        text_encoder_2=CLIPTextConfig.clip_bigg() if full else _toy(tiny | {"projection": 16}),
        vae=VAEConfig.sdxl() if full else TINY_VAE,
        schedule=ScheduleConfig.sdxl(),
        size=(1024, 1024) if full else (16, 16),
        zero_empty_prompt=True,
        defaults=Defaults(steps, GUIDANCE, sampler=Sampler("euler")),
    )


def _toy(sizes: dict[str, Any]) -> CLIPTextConfig:
    return CLIPTextConfig(vocab_size=TINY_TEXT.vocab_size, layers=2, activation="gelu", **sizes)


def _pipeline(setting: Setting, steps: int) -> StableDiffusionPipeline:
    config = _config(setting.full, steps)
    params = {}
    for name, network in NETWORKS.items():
        _, shapes = abstract(lambda rngs, name=name, network=network: network(getattr(config, name), rngs=rngs))
        params[name] = random_params(shapes, "float32" if name == "vae" else setting.dtype)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_tokenizer([PROMPT] * 2, Path(folder) / "tokenizer", TINY_TEXT.vocab_size, TOKENS)
    return StableDiffusionPipeline(config, params, {"tokenizer": tokenizer, "tokenizer_2": tokenizer})


def _ours(pipeline: StableDiffusionPipeline, batch: int, steps: int) -> Side:
    def start() -> Any:
        return pipeline(PROMPT, num_images_per_prompt=batch, output_type="np")

    def peak() -> int | None:
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    flops = _step_flops(pipeline, 2 * batch).times(steps) + _decode_flops(pipeline).times(batch)
    return Side(NAME, start, wait=lambda images: images, flops=flops, peak_bytes=peak)


def _step_flops(pipeline: StableDiffusionPipeline, pictures: int) -> Flops:
    """One call of the UNet. The text encoders, a hundredth of a picture at 20 steps, are left out on both sides."""
    config = pipeline.config.unet
    graphdef, _ = abstract(lambda rngs: UNet(config, rngs=rngs))
    side = pipeline.config.size[0] // pipeline.config.vae.factor
    shape = jax.ShapeDtypeStruct
    pooled = config.addition_inputs - 6 * config.addition_time_width
    return count_flops(
        lambda params, x, time, text, pooled, ids: bind(graphdef, params)(
            x, time, text, pooled_text=pooled, time_ids=ids
        ),
        pipeline.params["unet"],
        shape((pictures, side, side, config.in_channels), "float32"),
        shape((), "float32"),
        shape((pictures, TOKENS, config.cross_attention_dim), "float32"),
        shape((pictures, pooled), "float32"),
        shape((pictures, 6), "float32"),
    )


def _decode_flops(pipeline: StableDiffusionPipeline) -> Flops:
    config, size = pipeline.config.vae, pipeline.config.size[0]
    graphdef, _ = abstract(lambda rngs: AutoencoderKL(config, rngs=rngs))
    latents = jax.ShapeDtypeStruct((1, size // config.factor, size // config.factor, config.latent_channels), "float32")
    return count_flops(lambda params, x: bind(graphdef, params).decode(x), pipeline.params["vae"], latents)


def _diffusers(setting: Setting, config: StableDiffusionConfig, batch: int, steps: int) -> Sequence[Side]:
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    unet, codec = torch_sides.network("unet-sdxl", setting), torch_sides.network("vae", setting, dtype="float32")
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    parts: dict[str, Any] = dict.fromkeys(["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"])
    drawing = StableDiffusionXLPipeline(vae=codec, unet=unet, scheduler=scheduler, add_watermarker=False, **parts)
    drawing.set_progress_bar_config(disable=True)
    pooled = config.unet.addition_inputs - 6 * config.unet.addition_time_width

    def states(*shape: int) -> Any:
        return torch.randn(batch, *shape, device=unet.device, dtype=unet.dtype)

    told = {
        "prompt_embeds": states(TOKENS, config.unet.cross_attention_dim),
        "negative_prompt_embeds": states(TOKENS, config.unet.cross_attention_dim),
        "pooled_prompt_embeds": states(pooled),
        "negative_pooled_prompt_embeds": states(pooled),
    }

    def run(called: Any) -> Any:
        drawing.unet = called
        latents = drawing(
            **told,
            height=config.size[0],
            width=config.size[1],
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            output_type="latent",
        ).images
        pictures = [codec.decode(one[None].float() / config.vae.scaling_factor).sample for one in latents]
        return torch.cat(pictures).add(1).mul(127.5).clamp(0, 255).byte().cpu()

    return torch_sides.sides(setting, unet, run)
