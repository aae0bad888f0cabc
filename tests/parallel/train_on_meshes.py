"""Ten steps of the tiny story model on each mesh that is named, from the same seed and the same stories.

    python -m tests.parallel.train_on_meshes MESH [MESH ...]

Prints for each mesh the losses, a sum over the parameters, and how many bytes of the state lie on the first device.
"""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from storyjax.kernels.story_attention import ring
from storyjax.nn.build import flatten
from storyjax.parallel import rules
from storyjax.parallel.mesh import MeshShape, make_mesh
from storyjax.parallel.placement import Placement
from storyjax.systems.contextual_story.objective import (
    Networks,
    StoryLoss,
    clip_alphas,
    initial_params,
    make_loss,
    story_maker,
    text_maker,
)
from storyjax.train.config import OptimizerConfig, TrainConfig
from storyjax.train.optimizer import make_optimizer
from storyjax.train.state import begun_with
from storyjax.train.step import compile_step, make_step
from storyjax.train.task import Task
from tests.tiny import SCHEDULE, TEXT, TOKENS, VISUALIZATION, network, quick_compiles

FRAMES, STORIES, STEPS, SIDE = 4, 8, 10, 4
STORY = dataclasses.replace(VISUALIZATION, frames=FRAMES)
CONFIG = TrainConfig(
    steps=STEPS, batch_size=STORIES, accumulation=1, optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=2)
)
PARAMETERS = {"unet": network(story_maker(STORY))[1], "text_encoder": network(text_maker(TEXT))[1]}


def batch(step: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(step)
    latents = random.standard_normal((2, STORIES, FRAMES, SIDE, SIDE, 4)).astype(np.float32)
    tokens = random.integers(0, TEXT.vocab_size, (STORIES, FRAMES, TOKENS), np.int32)
    return {"latents_mean": latents[0], "latents_std": 0.1 * np.abs(latents[1]), "tokens": tokens}


def task() -> Task:
    loss = make_loss(
        Networks.build(STORY, TEXT), StoryLoss(schedule=SCHEDULE), jnp.arange(TOKENS) % 3, 0.5, continuation=False
    )
    return Task(init=lambda key: initial_params(STORY, TEXT, key), loss_fn=loss, project=clip_alphas)


def train_on(mesh: str) -> dict:
    """`mesh` as `--mesh` takes it; with "ring:" before it frames always go round a ring, as of long stories."""
    ring.GATHERED = 0 if mesh.startswith("ring:") else 1 << 40
    shape = MeshShape.parse(mesh.removeprefix("ring:"))
    placement = Placement(make_mesh(shape, jax.devices()[: int(np.prod(list(shape.sizes.values())))]))
    optimizer = make_optimizer(CONFIG.optimizer, CONFIG.steps)
    with placement.current(), quick_compiles():
        state = begun_with(PARAMETERS, task(), optimizer, CONFIG.seed, placement)
        place = lambda step: placement.batch(batch(step), STORIES)  # noqa: E731
        step, _ = compile_step(make_step(task(), CONFIG, optimizer), state, place(0), placement)
        losses = []
        for number in range(STEPS):
            state, values = step(state, place(number))
            losses.append(float(values["loss"]))
    leaves = jax.tree.leaves(state)
    first = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
    whole = sum(leaf.nbytes for leaf in leaves)
    total = sum(float(np.abs(np.asarray(leaf)).sum()) for leaf in flatten(state["params"]).values())
    return {"losses": losses, "parameters": total, "share": first / whole}


if __name__ == "__main__":
    rules.WHOLE = 16  # so that even this model's leaves are cut
    print(json.dumps({mesh: train_on(mesh) for mesh in sys.argv[1:]}))
