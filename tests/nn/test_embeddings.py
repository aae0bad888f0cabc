"""Sinusoids and rotary positions against their formulas in float64."""

import jax
import numpy as np
import pytest

from storyjax.nn.build import InitKeys
from storyjax.nn.embeddings import TimestepEmbedding, rotary_frequencies, rotate, sinusoid

RANDOM = np.random.default_rng(5)


def test_a_sinusoid_is_cosines_then_sines():
    values = np.array([[0, 1, 37.5], [500, 981, 999]], np.float32)
    angles = values.astype(np.float64)[..., None] * 10000.0 ** (-np.arange(16) / 16)
    out = jax.jit(sinusoid, static_argnums=1)(values, 32)
    assert out.shape == (2, 3, 32)
    np.testing.assert_allclose(out, np.concatenate([np.cos(angles), np.sin(angles)], -1), atol=1e-4)
    small = values < 50
    np.testing.assert_allclose(
        np.asarray(out)[small], np.concatenate([np.cos(angles), np.sin(angles)], -1)[small], atol=5e-6
    )


@pytest.mark.parametrize("dtype", ["int32", "bfloat16"])
def test_a_sinusoid_is_float32_whatever_comes_in(dtype):
    values = jax.numpy.asarray([3, 64, 512], dtype)  # exact in all three types
    out = sinusoid(values, 8)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, sinusoid(values.astype(np.float32), 8))


def test_rotary_frequencies_fall_from_one():
    np.testing.assert_allclose(rotary_frequencies(8), 10000.0 ** (-np.arange(8) / 8), rtol=2e-6)


def test_rotation_turns_interleaved_pairs_and_leaves_the_rest():
    x = RANDOM.standard_normal((2, 4, 10)).astype(np.float32)
    frequencies = np.array([1.0, 0.1, 0.01], np.float32)
    out = np.asarray(jax.jit(rotate)(x, np.arange(4), frequencies))
    pairs = x.astype(np.float64)[..., :6:2] + 1j * x[..., 1:6:2]
    turned = pairs * np.exp(1j * np.arange(4)[:, None] * frequencies)
    np.testing.assert_allclose(out[..., :6:2], turned.real, atol=1e-6)
    np.testing.assert_allclose(out[..., 1:6:2], turned.imag, atol=1e-6)
    np.testing.assert_array_equal(out[..., 6:], x[..., 6:])


def test_scores_of_rotated_vectors_depend_on_distance_alone():
    q, k = RANDOM.standard_normal((2, 1, 8)).astype(np.float32)
    frequencies = rotary_frequencies(4)

    def score(m, n):
        return float((rotate(q, np.array([m]), frequencies) * rotate(k, np.array([n]), frequencies)).sum())

    assert abs(score(3, 1) - score(7, 5)) < 1e-5
    assert abs(score(3, 1) - score(3, 2)) > 1e-2


def test_a_silent_time_embedding_is_zero_and_another_is_not():
    keys, waves = InitKeys(jax.random.key(0)), RANDOM.standard_normal((3, 4)).astype(np.float32)
    assert not np.any(TimestepEmbedding(4, 6, zero=True, rngs=keys)(waves))
    module = TimestepEmbedding(4, 6, rngs=keys)
    h = waves @ np.asarray(module.linear_1.kernel[...]) + np.asarray(module.linear_1.bias[...])
    expected = (h / (1 + np.exp(-h))) @ np.asarray(module.linear_2.kernel[...]) + np.asarray(module.linear_2.bias[...])
    np.testing.assert_allclose(module(waves), expected, atol=2e-6)
