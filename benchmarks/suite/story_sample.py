"""Drawing whole stories with the full-size ContextualStory: 50 DDIM steps under guidance, five 256x256 frames.

storyjax's side is the pipeline as a person calls it, from sentences to uint8 pictures on the host. PyTorch's side gets the text
encoder's states for nothing and reads the captions together once, where the published code does so at every step.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import torch_sides
from benchmarks.measure import Row, Setting, Side, compare
from benchmarks.sides import NAME, TINY_TEXT, TINY_VAE, TOKENS, random_params, story_config
from storyjax.data import train_tokenizer
from storyjax.models.clip_text import CLIPTextConfig
from storyjax.models.vae import VAEConfig
from storyjax.nn.build import Params, abstract, bind
from storyjax.nn.flops import Flops, count_flops
from storyjax.systems.contextual_story.objective import story_maker, text_maker
from storyjax.systems.contextual_story.pipeline import ContextualStoryPipeline, PipelineConfig, vae_maker

SENTENCES = ("Pip wakes up.", "Snow fell.", "He runs out.", "He builds a house.", "Night comes.")
GUIDANCE, MOTION = 7.5, (53.25, 61.5, 47.75, 70.125)


def run(setting: Setting) -> list[Row]:
    """A 50-step guided story of ContextualStory, alone and several in a batch, decoded to pictures."""
    steps, several = (50, setting.batch or 8) if setting.full else (2, setting.batch or 2)
    pipeline = _pipeline(setting)
    rows: list[Row] = []
    for batch in (1, several) if setting.full else (several,):
        sides = [_ours(pipeline, batch, steps)]
        if setting.against:
            sides += _torch(setting, pipeline.config, batch, steps)
        conditions = {
            "batch": batch,
            "steps": steps,
            "guidance": GUIDANCE,
            "frames": 5,
            "pixels": pipeline.config.size[0],
        }
        rows += compare("sampling", sides, setting, conditions, items=batch, unit="story")
    return rows


def _pipeline(setting: Setting) -> ContextualStoryPipeline:
    full = setting.full
    text = CLIPTextConfig.sd21() if full else TINY_TEXT
    vae, size = (VAEConfig(), 256) if full else (TINY_VAE, 16)
    config = PipelineConfig(story_config(full), text, vae, size=(size, size))
    makers = {"unet": story_maker(config.story), "text_encoder": text_maker(text), "vae": vae_maker(vae)}
    params = {name: random_params(abstract(maker)[1], setting.dtype) for name, maker in makers.items()}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_tokenizer([*SENTENCES] * 2, Path(folder) / "tokenizer", text.vocab_size, text.positions)
    return ContextualStoryPipeline(config, params, tokenizer, np.asarray(MOTION))


def _ours(pipeline: ContextualStoryPipeline, batch: int, steps: int) -> Side:
    def start() -> Any:
        return pipeline(
            [SENTENCES] * batch, num_inference_steps=steps, guidance_scale=GUIDANCE, sampler="ddim", output_type="np"
        )

    stats = jax.devices()[0].memory_stats

    def peak() -> int | None:
        told = stats() or {}
        return told.get("peak_bytes_in_use")

    flops = sampling_flops(pipeline.config, pipeline.params, batch, steps)
    return Side(NAME, start, wait=lambda images: images, flops=flops, peak_bytes=peak)


def sampling_flops(config: PipelineConfig, params: Params, stories: int, steps: int) -> Flops:
    """Captions of all stories and the empty one encoded, read together, the guided steps, the frames decoded."""
    graphs = {
        "unet": abstract(story_maker(config.story))[0],
        "text_encoder": abstract(text_maker(config.text_encoder))[0],
        "vae": abstract(vae_maker(config.vae))[0],
    }

    def given(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    def count(name: str, function: Any, *shapes: jax.ShapeDtypeStruct) -> Flops:
        return count_flops(lambda params, *given: function(bind(graphs[name], params), *given), params[name], *shapes)

    frames, width, tokens = config.story.frames, config.text_encoder.width, config.text_encoder.positions
    side, channels = config.size[0] // config.vae.factor, config.vae.latent_channels
    tokens_of_all = given((stories + 1) * frames, tokens, dtype=jnp.int32)
    latents, text = given(2 * stories, frames, side, side, channels), given(2 * stories, frames, tokens, width)
    return sum(
        (
            count("text_encoder", lambda model, tokens: model(tokens), tokens_of_all),
            count("unet", lambda model, text: model.contextualize(text), given(stories, frames, tokens, width)),
            count("unet", lambda model, *given: model(*given), latents, given(), text, given(1, frames - 1)).times(
                steps
            ),
            count("vae", lambda model, x: model.decode(x), given(stories * frames, side, side, channels)),
        ),
        Flops(),
    )


def _torch(setting: Setting, config: PipelineConfig, batch: int, steps: int) -> Sequence[Side]:
    import torch
    from diffusers import DDIMScheduler

    model, codec = torch_sides.network("contextual-story", setting), torch_sides.network("vae", setting)
    place = torch_sides.device()
    frames, side = config.story.frames, config.size[0] // config.vae.factor
    width = config.text_encoder.width
    text = torch.randn(batch * frames, TOKENS, width, device=place)
    null = torch.randn(batch * frames, TOKENS, width, device=place)
    begin = torch.randn(batch, 4, frames, side, side, device=place)
    motion = torch.tensor([MOTION], device=place)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    scheduler.set_timesteps(steps, device=place)

    def run(unet: Any) -> Any:
        context, latents = torch.cat([null, model.contextualize(text)]), begin
        for time in scheduler.timesteps:
            without, told = unet(torch.cat([latents, latents]), time, context, motion).float().chunk(2)
            latents = scheduler.step(without + GUIDANCE * (told - without), time, latents).prev_sample
        pictures = codec.decode(latents.transpose(1, 2).flatten(0, 1) / 0.18215).sample
        return pictures.float().add(1).mul(127.5).clamp(0, 255).byte().cpu()

    return torch_sides.sides(setting, model, run, autocast=True)
