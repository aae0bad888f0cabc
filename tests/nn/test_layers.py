"""Layers against PyTorch's definitions, written out in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.nn.build import InitKeys
from storyjax.nn.layers import Conv, Embedding, FrameConv, GroupNorm, LayerNorm, Linear, PatchConv

RANDOM = np.random.default_rng(7)
KEYS = InitKeys(jax.random.key(3))


@jax.jit
def run(module, x):
    return module(x)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def group_norm(x, groups, eps, scale, bias):
    """torch.nn.functional.group_norm for channels last, in float64."""
    n, h, w, c = x.shape
    parts = x.astype(np.float64).reshape(n, h, w, groups, c // groups)
    mean, var = parts.mean((1, 2, 4), keepdims=True), parts.var((1, 2, 4), keepdims=True)
    return ((parts - mean) / np.sqrt(var + eps)).reshape(x.shape) * scale + bias


def changed(norm):
    """The norm with scale and bias that are not the identity."""
    channels = norm.scale.shape[0]
    norm.scale[...], norm.bias[...] = jnp.asarray(1 + normal(channels)), jnp.asarray(normal(channels))
    return norm, np.asarray(norm.scale[...], np.float64), np.asarray(norm.bias[...], np.float64)


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_group_norm_equals_the_formula(eps):
    x = normal(2, 4, 3, 12)
    norm, scale, bias = changed(GroupNorm(3, 12, eps=eps))
    np.testing.assert_allclose(run(norm, x), group_norm(x, 3, eps, scale, bias), atol=2e-6)


def test_group_norm_survives_a_mean_far_above_the_deviation():
    x = 100 + 0.01 * normal(2, 8, 8, 4)
    expected = group_norm(x, 2, 1e-5, 1, 0)
    np.testing.assert_allclose(run(GroupNorm(2, 4), x), expected, atol=5e-3)
    naive = (np.square(x).mean() - np.square(x.mean())).astype(np.float64)  # the one-pass variance is useless here
    assert abs(naive - x.astype(np.float64).var()) > 0.5 * x.var()


def test_group_norm_normalises_every_leading_entry_alone():
    x = normal(2, 3, 4, 4, 8)
    out = run(GroupNorm(4, 8), x)
    np.testing.assert_array_equal(out, np.asarray(run(GroupNorm(4, 8), x.reshape(6, 4, 4, 8))).reshape(x.shape))


def test_group_norm_refuses_groups_that_do_not_divide():
    with pytest.raises(StoryjaxError, match="10 channels do not divide into 4 groups"):
        GroupNorm(4, 10)


def test_layer_norm_equals_the_formula_with_pytorchs_eps():
    x = 0.01 * normal(5, 6) + 3  # small deviations, so that another eps shows
    norm, scale, bias = changed(LayerNorm(6))
    full = x.astype(np.float64)
    expected = (full - full.mean(-1, keepdims=True)) / np.sqrt(full.var(-1, keepdims=True) + 1e-5) * scale + bias
    np.testing.assert_allclose(run(norm, x), expected, atol=2e-4)


@pytest.mark.parametrize("norm", [GroupNorm(2, 8), LayerNorm(8)])
def test_norms_of_bfloat16_are_those_of_float32_rounded(norm):
    x = jnp.asarray(5 + normal(2, 4, 4, 8), jnp.bfloat16)
    out = run(norm, x)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out, run(norm, x.astype(jnp.float32)).astype(jnp.bfloat16))


def convolve(x, kernel, bias, stride, pads):
    """Cross-correlation with zero padding, one window at a time."""
    x = np.pad(x.astype(np.float64), ((0, 0), *pads, (0, 0)))
    size = kernel.shape[0]
    height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((len(x), height, width, kernel.shape[-1]))
    for i, j in itertools.product(range(height), range(width)):
        window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
        out[:, i, j] = np.einsum("nhwc,hwco->no", window, kernel) + bias
    return out


@pytest.mark.parametrize(
    ("settings", "pads"),
    [
        ({"kernel": 3}, ((1, 1), (1, 1))),
        ({"kernel": 1}, ((0, 0), (0, 0))),
        ({"kernel": 3, "stride": 2}, ((1, 1), (1, 1))),
        ({"kernel": 3, "stride": 2, "padding": ((0, 1), (0, 1))}, ((0, 1), (0, 1))),
    ],
)
def test_convolutions_pad_like_pytorch(settings, pads):
    conv, x = Conv(3, 5, **settings, rngs=KEYS), normal(2, 6, 5, 3)
    kernel, bias = (np.asarray(a[...], np.float64) for a in (conv.kernel, conv.bias))
    np.testing.assert_allclose(run(conv, x), convolve(x, kernel, bias, settings.get("stride", 1), pads), atol=2e-6)


def test_frame_convolution_runs_over_frames_alone():
    conv, x = FrameConv(3, 5, rngs=KEYS), normal(2, 4, 2, 1, 3)
    kernel, bias = (np.asarray(a[...], np.float64) for a in (conv.kernel, conv.bias))
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    expected = sum(np.einsum("bfhwc,co->bfhwo", padded[:, i : i + 4], kernel[i]) for i in range(3)) + bias
    np.testing.assert_allclose(run(conv, x), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("make", "fan_in"),
    [
        (lambda: Linear(25, 400, rngs=KEYS), 25),
        (lambda: Conv(4, 400, 3, rngs=KEYS), 36),
        (lambda: FrameConv(12, 400, rngs=KEYS), 36),
    ],
)
def test_weights_and_biases_start_uniform_within_pytorchs_bound(make, fan_in):
    layer, bound = make(), fan_in**-0.5
    for values in (np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])):
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.98 * bound
        assert abs(values.std() / bound - 3**-0.5) < 0.06
        assert abs(values.mean()) < 0.1 * bound


def test_a_silent_projection_starts_at_zero():
    layer = Linear(4, 3, zero=True, rngs=KEYS)
    assert not np.any(layer.kernel[...])
    assert not np.any(layer.bias[...])


def test_a_projection_without_bias_has_none():
    assert Linear(4, 3, bias=False, rngs=KEYS).bias is None


def test_embedding_takes_rows_of_a_normal_table():
    table = Embedding(500, 16, scale=0.02, rngs=KEYS)
    ids = np.array([[3, 3], [0, 499]])
    np.testing.assert_array_equal(run(table, ids), np.asarray(table.embedding[...])[ids])
    assert abs(np.asarray(table.embedding[...]).std() - 0.02) < 1e-3


def test_patch_convolution_is_one_product_per_whole_patch():
    layer, x = PatchConv(2, 5, 3, rngs=KEYS), normal(1, 7, 8, 2)
    out, kernel = np.asarray(run(layer, x)), np.asarray(layer.kernel[...], np.float64)
    assert out.shape == (1, 2, 2, 5)
    for row, column in itertools.product(range(2), range(2)):
        patch = x[0, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
        np.testing.assert_allclose(out[0, row, column], np.einsum("hwi,hwio->o", patch, kernel), atol=1e-5)
