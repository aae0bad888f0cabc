"""Every file in configs/ gives a configuration whose parts fit together: its loss is traced on shapes alone, no numbers."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from storyjax.config import from_json, load_config, to_json
from storyjax.data.labels import Labels
from storyjax.evals.networks.recogniser import KINDS
from storyjax.nn.build import count
from storyjax.systems.contextual_story.experiment import ContextualStoryRun
from storyjax.systems.contextual_story.objective import Networks, initial_params, make_loss
from storyjax.train.autoencoder import AutoencoderRun, autoencoder_task
from storyjax.train.character_classifier import CharacterClassifierRun, classifier_task
from storyjax.train.recogniser import RecogniserRun, recogniser_task
from storyjax.train.task import Task

ROOT = Path(__file__).parents[1]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("[!_]*.py"))


def shape(*sizes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def pictures(run: Any) -> jax.ShapeDtypeStruct:
    return shape(run.train.batch_size, run.data.frames, run.data.size, run.data.size, 3, dtype=jnp.uint8)


@functools.singledispatch
def dry_run(run: Any) -> tuple[Task, dict[str, jax.ShapeDtypeStruct]]:
    """The task of a run and the shapes of one batch."""
    raise AssertionError(f"tests/test_configs.py does not know how to try a {type(run).__name__}")


@dry_run.register
def _(run: AutoencoderRun):
    return autoencoder_task(run.vae, run.loss), {"images": pictures(run)}


@dry_run.register
def _(run: RecogniserRun):
    labels = Labels(*((f"some {kind}", f"other {kind}") for kind in KINDS))
    network = dataclasses.replace(run.network, labels=labels, image_size=run.data.size)
    frames = pictures(run).shape[:2]
    batch = {kind: shape(*frames, dtype=jnp.int32) for kind in KINDS}
    batch |= {"images": pictures(run), "characters": shape(*frames, len(labels.characters), dtype=jnp.uint8)}
    return recogniser_task(network), batch


@dry_run.register
def _(run: CharacterClassifierRun):
    network = dataclasses.replace(run.network, characters=("one", "other"), image_size=run.data.size)
    characters = shape(*pictures(run).shape[:2], 2, dtype=jnp.uint8)
    return classifier_task(network), {"images": pictures(run), "characters": characters}


@dry_run.register
def _(run: ContextualStoryRun):
    vae, stories, frames = run.codec.vae, run.train.batch_size, run.story.frames
    assert run.data.frames == frames
    latents = shape(stories, frames, *2 * [run.data.size // vae.factor], vae.latent_channels)
    length = run.text_encoder.positions
    loss = make_loss(
        Networks.build(run.story, run.text_encoder),
        run.loss,
        jnp.zeros(length, jnp.int32),
        vae.scaling_factor,
        continuation=run.story.first_frame == "conv2d",
    )
    batch = {"latents_mean": latents, "latents_std": latents, "tokens": shape(stories, frames, length, dtype=jnp.int32)}
    return Task(functools.partial(initial_params, run.story, run.text_encoder), loss), batch


@pytest.mark.parametrize("file", FILES)
def test_loss_of_the_configuration_can_be_traced(file):
    run = load_config(ROOT / file)
    task, batch = dry_run(run)
    key = jax.random.key(0)
    params = jax.eval_shape(task.init, key)
    loss, metrics = jax.eval_shape(task.loss_fn, params, batch, key)
    assert loss == shape()
    assert all(value.shape == () for value in metrics.values())
    assert 1e5 < count(params) < 2e9


@pytest.mark.parametrize("file", FILES)
def test_configuration_survives_its_json(file):
    run = load_config(ROOT / file)
    assert from_json(type(run), to_json(run)) == run


@pytest.mark.parametrize("file", FILES)
def test_configuration_tells_its_command(file):
    assert f"storyjax train {file} --workdir " in (ROOT / file).read_text()
