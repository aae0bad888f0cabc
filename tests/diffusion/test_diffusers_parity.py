"""Whole trajectories of every sampler against diffusers' schedulers: stored ones, and fresh ones where PyTorch is installed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.diffusion.diffusers_format import from_diffusers, sampler_from_diffusers
from storyjax.diffusion.samplers import Sampler, sample
from storyjax.diffusion.schedule import make_schedule
from tests import tiny
from tests.diffusion import diffusers_runs
from tests.diffusion.diffusers_runs import RUNS, Run

# float32 there, coefficients from float64 here. Euler under zero terminal SNR passes through latents of size 4096 there.
CLOSE = 5e-5


def follow(run: Run, latents: jax.Array, key: jax.Array) -> jax.Array:
    sampler = sampler_from_diffusers(run.mapping)
    sampler = Sampler(eta=run.eta) if run.eta else sampler
    schedule = make_schedule(from_diffusers(run.mapping))
    denoise = functools.partial(diffusers_runs.network, jnp)
    return sample(denoise, schedule, sampler, run.steps, latents, key, trajectory=True)[1]


@pytest.fixture(scope="module")
def ours():
    """All runs as one program: that is compiled much sooner than each alone."""
    program = tiny.quick_jit(lambda *given: {name: follow(run, *given) for name, run in RUNS.items()})
    return jax.device_get(program(diffusers_runs.start(), diffusers_runs.key()))


def relative(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest error of a step, of that step's size."""
    errors = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(got, expected, strict=True)]
    return max(errors)


@pytest.fixture(scope="module")
def stored():
    with np.load(diffusers_runs.FILE) as archive:
        return {name: archive[name] for name in archive.files}


def test_the_stored_runs_are_those_listed(stored):
    assert sorted(stored) == sorted(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_stored_trajectories_of_diffusers_are_followed(name, stored, ours):
    assert relative(ours[name], stored[name]) < CLOSE


@pytest.mark.parametrize("name", RUNS)
def test_the_stored_trajectories_are_what_diffusers_gives(name, stored):
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    np.testing.assert_allclose(diffusers_runs.by_diffusers(RUNS[name]), stored[name], rtol=1e-5, atol=1e-5)
