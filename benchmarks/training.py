"""Training steps of storyjax for benchmarks: the loop's own step, on random parameters and a batch that stays on the device."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Setting, Side
from benchmarks.sides import NAME, TINY_TEXT, TOKENS, normal, random_params, sd21_config, step_side, story_config
from storyjax.diffusion.schedule import ScheduleConfig, add_noise, make_schedule
from storyjax.models.clip_text import CLIPTextConfig
from storyjax.models.unet import UNet, UNetConfig
from storyjax.nn.build import Params, abstract, bind, materialise
from storyjax.nn.remat import Remat
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.objective import (
    Networks,
    StoryLoss,
    clip_alphas,
    initial_params,
    make_loss,
    story_maker,
    text_maker,
)
from storyjax.train.config import TrainConfig
from storyjax.train.optimizer import make_optimizer
from storyjax.train.state import State, new_state
from storyjax.train.step import make_step
from storyjax.train.task import Batch, Task


@dataclasses.dataclass(frozen=True)
class Training:
    """A task, the shapes of its parameters, and how a batch is drawn."""

    task: Task
    shapes: Params
    draw: Callable[[int], Batch]

    def config(self, setting: Setting, batch: int, accumulation: int = 1) -> TrainConfig:
        dtype: Any = setting.dtype
        return TrainConfig(batch_size=batch, accumulation=accumulation, compute_dtype=dtype)

    def step(self, config: TrainConfig) -> Callable[[State, Batch], tuple[State, Any]]:
        return make_step(self.task, config, make_optimizer(config.optimizer, config.steps))

    def state(self, config: TrainConfig) -> State:
        params = random_params(self.shapes, jnp.float32)
        return new_state(params, self.task.frozen, make_optimizer(config.optimizer, config.steps), seed=0)

    def abstract_state(self, config: TrainConfig) -> State:
        """Shapes of the state: enough to compile the step."""
        optimizer = make_optimizer(config.optimizer, config.steps)
        return jax.eval_shape(lambda params: new_state(params, self.task.frozen, optimizer, seed=0), self.shapes)

    def side(self, setting: Setting, batch: int, accumulation: int = 1, name: str = NAME) -> Side:
        config = self.config(setting, batch, accumulation)
        return step_side(setting, self.step(config), self.state(config), self.draw(batch), name)


def story_training(full: bool, *, remat: Remat = "none") -> Training:
    """ContextualStory on 256x256 frames: UNet and contextualizer trained; latents and captions cached, so the codec does not run
    and the text encoder reads the empty caption only."""
    config = story_config(full)
    config = dataclasses.replace(config, unet=dataclasses.replace(config.unet, remat=remat))
    text = CLIPTextConfig.sd21() if full else TINY_TEXT
    loss = make_loss(Networks.build(config, text), StoryLoss(), jnp.zeros(text.positions, jnp.int32), 0.18215, False)
    shapes = {"unet": abstract(story_maker(config))[1], "text_encoder": abstract(text_maker(text))[1]}
    task = Task(
        init=lambda key: initial_params(config, text, key),
        loss_fn=loss,
        frozen=(r"^text_encoder\.",),
        project=clip_alphas,
    )
    return Training(task, shapes, lambda batch: _story_batch(config, 32 if full else 8, batch))


def _story_batch(config: ContextualStoryConfig, side: int, batch: int) -> Batch:
    latents = (batch, config.frames, side, side, config.unet.in_channels)
    return {
        "latents_mean": 5 * normal("float32", *latents),
        "latents_std": jnp.full(latents, 0.1),
        "text": normal("float32", batch, config.frames, TOKENS, config.unet.cross_attention_dim, seed=1),
        "index": jnp.arange(batch),
    }


def sd21_training(full: bool, *, remat: Remat = "none") -> Training:
    """The UNet of Stable Diffusion 2.1 on 512x512 pictures: noise predicted, latents and captions cached."""
    config = dataclasses.replace(sd21_config(full), remat=remat)

    def make(rngs: Any) -> UNet:
        return UNet(config, rngs=rngs)

    graphdef, shapes = abstract(make)
    schedule = ScheduleConfig.sd15()
    table = make_schedule(schedule)

    def loss(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        noise_key, time_key = jax.random.split(key)
        latents = batch["latents"]
        noise = jax.random.normal(noise_key, latents.shape)
        times = jax.random.randint(time_key, latents.shape[:1], 0, schedule.steps)
        dtype = params["conv_in"]["kernel"].dtype
        noisy = add_noise(table, latents, noise, times).astype(dtype)
        predicted = bind(graphdef, params)(noisy, times, batch["text"].astype(dtype))
        return jnp.square(predicted.astype(jnp.float32) - noise).mean(), {}

    task = Task(init=lambda key: materialise(make, key)[1], loss_fn=loss)
    return Training(task, shapes, lambda batch: _picture_batch(config, 64 if full else 8, batch))


def _picture_batch(config: UNetConfig, side: int, batch: int) -> Batch:
    return {
        "latents": normal("float32", batch, side, side, config.in_channels),
        "text": normal("float32", batch, TOKENS, config.cross_attention_dim, seed=1),
        "index": np.arange(batch, dtype=np.int32),
    }
