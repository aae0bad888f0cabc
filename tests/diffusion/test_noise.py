"""Noise priors: unit variance, the promised correlation between frames, explicit keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.diffusion.noise import NoisePrior, draw, key_data, mix, part_keys, seeds
from storyjax.errors import StoryjaxError

SHAPE = (4, 5, 32, 32, 8)  # 32768 numbers per frame: a correlation is known to about 0.006


def frame_correlations(noise):
    return np.corrcoef(np.moveaxis(np.asarray(noise, np.float64), 1, 0).reshape(noise.shape[1], -1))


def distance():
    frame = np.arange(5)
    return np.abs(frame[:, None] - frame)


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (NoisePrior("vanilla"), np.eye(5)),
        (NoisePrior("mixed", 1.5), np.where(distance() == 0, 1, 9 / 13)),
        (NoisePrior("mixed", 0.5), np.where(distance() == 0, 1, 0.2)),
        (NoisePrior("progressive", 1.5), (9 / 13) ** (distance() / 2)),
    ],
)
def test_frames_have_unit_variance_and_the_promised_correlation(prior, expected):
    noise = draw(prior, jax.random.key(0), SHAPE)
    np.testing.assert_allclose(frame_correlations(noise), expected, atol=0.025)
    np.testing.assert_allclose(np.std(noise, axis=(0, 2, 3, 4)), 1, atol=0.02)
    np.testing.assert_allclose(np.mean(noise, axis=(0, 2, 3, 4)), 0, atol=0.03)


def test_stories_and_pixels_are_independent():
    noise = np.asarray(draw(NoisePrior("mixed", 1.5), jax.random.key(1), SHAPE))
    np.testing.assert_allclose(np.corrcoef(noise.reshape(4, -1)), np.eye(4), atol=0.03)
    neighbours = np.corrcoef(noise[:, :, :, :-1].ravel(), noise[:, :, :, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.02


def test_the_mixed_prior_is_its_formula_on_the_two_halves_of_the_key():
    key = jax.random.key(3)
    shared_key, own_key = jax.random.split(key)
    shared = jax.random.normal(shared_key, (4, 1, 32, 32, 8))
    own = jax.random.normal(own_key, SHAPE)
    expected = np.sqrt(2.25 / 3.25) * shared + np.sqrt(1 / 3.25) * own
    np.testing.assert_allclose(draw(NoisePrior(), key, SHAPE), expected, atol=1e-6)
    np.testing.assert_allclose(mix(shared, own, 1.5), expected, atol=1e-6)


def test_without_shared_strength_every_prior_is_vanilla():
    key = jax.random.key(4)
    plain = draw(NoisePrior("vanilla"), key, SHAPE)
    for kind in ("mixed", "progressive"):
        np.testing.assert_allclose(draw(NoisePrior(kind, 0.0), key, SHAPE), plain, atol=1e-6)


def test_one_frame_and_many_frames_are_possible():
    assert draw(NoisePrior("progressive"), jax.random.key(0), (1, 1, 2, 2, 1)).shape == (1, 1, 2, 2, 1)
    assert draw(NoisePrior("progressive"), jax.random.key(0), (1, 100, 2, 2, 1)).shape == (1, 100, 2, 2, 1)


@pytest.mark.parametrize("kind", ["vanilla", "mixed", "progressive"])
def test_noise_is_a_function_of_its_key_and_bfloat16_is_the_same_noise_rounded(kind):
    draws = jax.jit(lambda key: draw(NoisePrior(kind), key, (1, 5, 4, 4, 2)))
    once, again, other = draws(jax.random.key(5)), draws(jax.random.key(5)), draws(jax.random.key(6))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)
    half = jax.jit(lambda key: draw(NoisePrior(kind), key, (1, 5, 4, 4, 2), jnp.bfloat16))(jax.random.key(5))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), once, rtol=2**-8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "mixd"}, "unknown noise prior 'mixd'; did you mean 'mixed'"),
        ({"alpha": -1.0}, "expected alpha of at least 0, got -1.0"),
    ],
)
def test_impossible_priors_are_refused(arguments, message):
    with pytest.raises(StoryjaxError, match=message):
        NoisePrior(**arguments)


def test_noise_without_a_frame_axis_is_refused():
    with pytest.raises(StoryjaxError, match=r"expected a shape \(B, F, H, W, C\), got \(2, 8, 8, 4\)"):
        draw(NoisePrior(), jax.random.key(0), (2, 8, 8, 4))


def test_one_seed_counts_up_and_several_are_taken_as_they_are():
    assert seeds(7, 3, "story") == [7, 8, 9]
    assert seeds(np.int64(7), 1, "story") == [7]
    assert seeds([5, 5], 2, "story") == [5, 5]
    np.testing.assert_array_equal(key_data([5, 6])[1], jax.random.key_data(jax.random.key(6)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1, 2], "expected one seed or 3, one for each picture, got 2"),
        (-1, "expected a seed in 0..4294967295, got -1"),
        (2**32 - 1, "got 4294967296"),
        ([1, 2, "3"], "expected a seed in 0..4294967295, got '3'"),
    ],
)
def test_seeds_that_are_none_are_refused(given, message):
    with pytest.raises(StoryjaxError, match=message):
        seeds(given, 3, "picture")


def test_parts_of_a_drawing_have_keys_of_their_own_and_the_first_the_drawings():
    keys = key_data([3, 4])
    np.testing.assert_array_equal(part_keys(keys, 0), keys)
    later = [part_keys(keys, part) for part in (1, 2)]
    assert len({tuple(row) for some in (keys, *later) for row in some}) == 6
    np.testing.assert_array_equal(part_keys(keys[1:], 2), later[1][1:])
