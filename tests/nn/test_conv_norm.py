"""Convolutions with batch norm and pools, against PyTorch's where it is installed and against arithmetic where it is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyjax.nn.build import InitKeys
from storyjax.nn.conv_norm import BatchNorm, ConvNorm, PlainConv, average_pool, ceil_pads, max_pool

RANDOM = np.random.default_rng(0)


def random(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def rngs():
    return InitKeys(jax.random.key(0))


def with_statistics(norm: BatchNorm) -> BatchNorm:
    channels = norm.scale[...].shape
    norm.scale[...], norm.bias[...] = jnp.asarray(1 + 0.3 * random(*channels)), jnp.asarray(random(*channels))
    norm.mean[...], norm.variance[...] = jnp.asarray(random(*channels)), jnp.asarray(0.1 + random(*channels) ** 2)
    return norm


def test_batch_norm_is_its_formula():
    norm, x = with_statistics(BatchNorm(3, eps=0.1)), random(2, 4, 3)
    mean, variance = np.asarray(norm.mean[...]), np.asarray(norm.variance[...])
    expected = (x - mean) / np.sqrt(variance + 0.1) * np.asarray(norm.scale[...]) + np.asarray(norm.bias[...])
    np.testing.assert_allclose(norm(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("relu", [True, False])
def test_folding_changes_nothing(relu):
    layer = ConvNorm(3, 5, (3, 1), strides=(2, 1), padding=(1, 0), eps=1e-3, relu=relu, rngs=rngs())
    with_statistics(layer.norm)
    x = random(2, 7, 6, 3)
    expected = layer.norm(layer.conv(x))
    np.testing.assert_allclose(layer(x), jax.nn.relu(expected) if relu else expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "strides", "padding"),
    [
        ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ((3, 1, 1), (2, 1, 1), (1, 0, 0)),
        ((1, 1, 1), (2, 2, 2), (0, 0, 0)),
        ((3, 3, 3), (1, 1, 1), (1, 0, 1)),
        ((3, 1, 1), (1, 1, 1), (0, 1, 0)),
    ],
)
def test_convolutions_over_time_and_space_equal_those_of_pytorch(kernel, strides, padding):
    torch = pytest.importorskip("torch")
    layer, x = PlainConv(3, 4, kernel, strides=strides, padding=padding, rngs=rngs()), random(2, 5, 6, 7, 3)
    weight = torch.from_numpy(np.asarray(layer.kernel[...]).transpose(4, 3, 0, 1, 2).copy())
    given = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
    expected = torch.nn.functional.conv3d(given, weight, stride=strides, padding=padding)
    np.testing.assert_allclose(layer(x), np.moveaxis(expected.numpy(), 1, -1), atol=1e-5)


@pytest.mark.parametrize("side", [8, 11])  # on a CPU a small map goes another way than a large one
@pytest.mark.parametrize(
    ("kernel", "padding"), [((1, 1), (0, 0)), ((3, 3), (1, 1)), ((1, 3), (0, 1)), ((3, 1), (0, 0))]
)
def test_convolutions_of_small_and_large_maps_equal_those_of_pytorch(side, kernel, padding):
    torch = pytest.importorskip("torch")
    layer, x = PlainConv(3, 4, kernel, padding=padding, rngs=rngs()), random(2, side, side, 3)
    weight = torch.from_numpy(np.asarray(layer.kernel[...]).transpose(3, 2, 0, 1).copy())
    given = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
    expected = torch.nn.functional.conv2d(given, weight, padding=padding)
    np.testing.assert_allclose(layer(x), np.moveaxis(expected.numpy(), 1, -1), atol=1e-5)


@settings(max_examples=25)
@given(st.integers(3, 9), st.integers(3, 9), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.booleans())
def test_average_pools_are_means_of_windows(height, width, size, stride, pad, counted):
    x = np.random.default_rng(height).standard_normal((1, height, width, 2)).astype(np.float32)
    pads = ((pad, pad if size > 1 else 0),) * 2
    found = np.asarray(average_pool(x, (size, size), (stride, stride), pads, count_padding=counted))
    padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=0 if counted else np.nan)
    for i in range(found.shape[1]):
        for j in range(found.shape[2]):
            window = padded[0, i * stride : i * stride + size, j * stride : j * stride + size]
            if np.isfinite(window).any():
                np.testing.assert_allclose(found[0, i, j], np.nanmean(window, axis=(0, 1)), atol=1e-5)


@pytest.mark.parametrize("length", range(3, 12))
@pytest.mark.parametrize(("size", "stride"), [(3, 2), (2, 2), (3, 3)])
def test_pools_count_an_incomplete_last_window_as_pytorch_does(length, size, stride):
    torch = pytest.importorskip("torch")
    x = random(1, length, length + 1, 2)
    given = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
    expected = torch.nn.functional.max_pool2d(given, size, stride, ceil_mode=True)
    found = max_pool(x, (size, size), (stride, stride), ceil_pads(x.shape[1:3], size, stride))
    np.testing.assert_array_equal(found, np.moveaxis(expected.numpy(), 1, -1))


def test_same_padding_puts_the_odd_zero_behind():
    layer = PlainConv(1, 1, (3, 3), strides=(2, 2), padding="SAME", bias=False, rngs=rngs())
    layer.kernel[...] = jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1.0)  # looks at a window's first pixel
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(layer(x)[0, :, :, 0], [[0, 2], [8, 10]])
