"""One pass through a UNet, against diffusers' (or, for ContextualStory, the PyTorch implementation that parity is tested with)."""

from typing import Any

import jax

from benchmarks import torch_sides
from benchmarks.measure import Row, Setting, Side, compare
from benchmarks.sides import TOKENS, Network, normal, sd21_config, sdxl_config, story_config
from storyjax.models.unet import UNet, UNetConfig
from storyjax.systems.contextual_story.model import ContextualStory

TIME = 481.0


def sd21(setting: Setting) -> list[Row]:
    """UNet of Stable Diffusion 2.1, one pass over latents of 512x512 pictures."""
    return _unet(setting, "unet-sd21", sd21_config(setting.full), 64 if setting.full else 8)


def sdxl(setting: Setting) -> list[Row]:
    """UNet of SDXL, one pass over latents of 1024x1024 pictures."""
    return _unet(setting, "unet-sdxl", sdxl_config(setting.full), 128 if setting.full else 8)


def _unet(setting: Setting, case: str, config: UNetConfig, side: int) -> list[Row]:
    batch = setting.batch or (1 if jax.default_backend() == "cpu" else 16)
    dtype = setting.dtype
    x = normal(dtype, batch, side, side, config.in_channels)
    context = normal(dtype, batch, TOKENS, config.cross_attention_dim, seed=1)
    more: dict[str, Any] = {}
    if config.addition:
        pooled = config.addition_inputs - 6 * config.addition_time_width
        more = {"pooled_text": normal(dtype, batch, pooled, seed=2), "time_ids": normal("float32", batch, 6, seed=3)}
    network = Network.random(lambda rngs: UNet(config, rngs=rngs), dtype)
    sides = [network.side(setting, lambda unet, x, context, more: unet(x, TIME, context, **more), x, context, more)]
    if setting.against:
        sides += _diffusers(setting, case, x, context, more)
    return compare("forward", sides, setting, {"batch": batch, "pixels": 8 * side}, items=batch, unit="image")


def _diffusers(setting: Setting, case: str, x: Any, context: Any, more: dict[str, Any]) -> list[Side]:
    model = torch_sides.network(case, setting)
    sample = torch_sides.channels_first(torch_sides.tensor(x, setting.dtype))
    text = torch_sides.tensor(context, setting.dtype)
    names = {"pooled_text": "text_embeds", "time_ids": "time_ids"}
    added = {names[name]: torch_sides.tensor(value, setting.dtype) for name, value in more.items()} or None
    return torch_sides.sides(setting, model, lambda unet: unet(sample, TIME, text, added_cond_kwargs=added).sample)


def story(setting: Setting) -> list[Row]:
    """Story UNet of ContextualStory with its contextualizer, one pass over a story of five 256x256 frames."""
    config, batch, dtype = story_config(setting.full), setting.batch or 1, setting.dtype
    side = 32 if setting.full else 8
    latents = normal(dtype, batch, config.frames, side, side, 4)
    text = normal(dtype, batch, config.frames, TOKENS, config.unet.cross_attention_dim, seed=1)
    motion = 50 + 5 * normal("float32", batch, config.frames - 1, seed=2)

    def forward(model: ContextualStory, latents: jax.Array, text: jax.Array, motion: jax.Array) -> jax.Array:
        return model(latents, TIME, model.contextualize(text), motion)  # type: ignore[arg-type]

    network = Network.random(lambda rngs: ContextualStory(config, rngs=rngs), dtype)
    sides = [network.side(setting, forward, latents, text, motion)]
    if setting.against:
        sides += _torch_story(setting, latents, text, motion)
    conditions = {"batch": batch, "frames": config.frames, "pixels": 8 * side}
    return compare("forward", sides, setting, conditions, items=batch, unit="story")


def _torch_story(setting: Setting, latents: jax.Array, text: jax.Array, motion: jax.Array) -> list[Side]:
    import torch

    model = torch_sides.network("contextual-story", setting)
    sample = torch_sides.channels_first(torch_sides.tensor(latents, setting.dtype))
    captions, changes = torch_sides.tensor(text, setting.dtype).flatten(0, 1), torch_sides.tensor(motion)
    time = torch.tensor(TIME, device=sample.device)
    null, keep = captions.unflatten(0, text.shape[:2])[0], torch.zeros(len(latents), dtype=torch.bool)
    keep = keep.to(sample.device)

    def run(unet: Any) -> Any:
        return unet(sample, time, captions, null, keep, changes)

    return torch_sides.sides(setting, torch_sides.training_form(model), run, autocast=True)
