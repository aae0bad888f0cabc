"""Convolutions with batch normalisation in its inference form, in two and three dimensions, and the pooling between them.

What recognition networks of 2012 to 2018 are made of. The statistics are parameters like any other: they come from a file and
nothing here changes them. Channels last; time, where there is one, comes before height and width.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from storyjax.nn.layers import uniform

SMALL_MAP = 100  # pixels, on a CPU
Pads = Sequence[tuple[int, int]] | Literal["SAME"]


class BatchNorm(nnx.Module):
    """y = (x - mean) / sqrt(variance + eps) * scale + bias, one of each a channel, with the statistics of the training."""

    def __init__(self, channels: int, *, eps: float):
        self.eps = eps
        self.scale, self.bias = nnx.Param(jnp.ones(channels)), nnx.Param(jnp.zeros(channels))
        self.mean, self.variance = nnx.Param(jnp.zeros(channels)), nnx.Param(jnp.ones(channels))

    def line(self) -> tuple[jax.Array, jax.Array]:
        """(factor, offset), each (channels,): y = x factor + offset."""
        factor = self.scale[...] * jax.lax.rsqrt(self.variance[...] + self.eps)
        return factor, self.bias[...] - self.mean[...] * factor

    def __call__(self, x: jax.Array) -> jax.Array:
        factor, offset = self.line()
        return x * factor + offset


class PlainConv(nnx.Module):
    """Convolution over (N, H, W, C) or (N, T, H, W, C); kernel (*sizes, inputs, outputs).

    padding: zeros on either side of each axis as one number an axis, or "SAME": TensorFlow's, as many as keep ceil(size / stride),
    the odd one behind. Weights start uniform with variance 2 / fan_in (He et al. 2015): activations behind a ReLU keep their size.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Sequence[int],
        *,
        strides: Sequence[int] | None = None,
        padding: Sequence[int] | Literal["SAME"] | None = None,
        bias: bool = True,
        rngs: Any,
    ):
        self.strides = tuple(strides or (1,) * len(kernel))
        self.padding: Pads = "SAME" if padding == "SAME" else tuple((p, p) for p in padding or (0,) * len(kernel))
        init = uniform(math.sqrt(6 / (inputs * math.prod(kernel))))
        self.kernel = nnx.Param(init(rngs.params(), (*kernel, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = convolve(x, self.kernel[...], self.strides, self.padding)
        return y if self.bias is None else y + self.bias[...]


class ConvNorm(nnx.Module):
    """ReLU(norm(conv(x))): the norm is folded into the kernel, so that it costs no pass over the result.

    relu: leave it out where a shortcut is added first.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Sequence[int],
        *,
        strides: Sequence[int] | None = None,
        padding: Sequence[int] | Literal["SAME"] | None = None,
        eps: float,
        relu: bool = True,
        rngs: Any,
    ):
        self.relu = relu
        self.conv = PlainConv(inputs, outputs, kernel, strides=strides, padding=padding, bias=False, rngs=rngs)
        self.norm = BatchNorm(outputs, eps=eps)

    def folded(self) -> tuple[jax.Array, jax.Array]:
        """Kernel and bias of the one convolution that does both."""
        factor, offset = self.norm.line()
        return self.conv.kernel[...] * factor, offset

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = self.folded()
        y = convolve(x, kernel, self.conv.strides, self.conv.padding) + bias
        return jax.nn.relu(y) if self.relu else y


def convolve(x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Pads) -> jax.Array:
    """The convolution of PyTorch and TensorFlow (correlation), channels last. x (N, *sizes, I), kernel (*sizes, I, O).

    Three axes of which time or space is not looked along become two: every backend is better at those.
    """
    if kernel.ndim == 5 and padding != "SAME":
        if kernel.shape[0] == strides[0] == 1 and padding[0] == (0, 0):
            flat = x.reshape(-1, *x.shape[2:])
            y = convolve(flat, kernel[0], strides[1:], padding[1:])
            return y.reshape(*x.shape[:2], *y.shape[1:])
        if kernel.shape[1:3] == (1, 1) and tuple(strides[1:]) == (1, 1) and tuple(padding[1:]) == ((0, 0), (0, 0)):
            flat = x.reshape(*x.shape[:2], -1, x.shape[-1])
            y = convolve(flat, kernel[:, 0], (strides[0], 1), (padding[0], (0, 0)))
            return y.reshape(*y.shape[:2], *x.shape[2:4], -1)
    if kernel.ndim == 4 and padding != "SAME" and tuple(strides) == (1, 1):
        if kernel.shape[:2] == (1, 1) and tuple(padding) == ((0, 0), (0, 0)):
            return x @ kernel[0, 0]
        if jax.default_backend() == "cpu" and x.shape[1] * x.shape[2] <= SMALL_MAP:
            return _as_product(x, kernel, padding)
    letters = "HW" if kernel.ndim == 4 else "DHW"
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    return jax.lax.conv_general_dilated(x, kernel, tuple(strides), padding, dimension_numbers=numbers)


def _as_product(x: jax.Array, kernel: jax.Array, padding: Sequence[tuple[int, int]]) -> jax.Array:
    """The same as one matrix product over all that a window sees: twice as fast where a map has few pixels and many channels."""
    height, width = kernel.shape[:2]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = x.shape[1] - height + 1, x.shape[2] - width + 1
    seen = [x[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)]
    return jnp.concatenate(seen, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def max_pool(x: jax.Array, size: Sequence[int], strides: Sequence[int], padding: Pads = ()) -> jax.Array:
    """The largest number of each window, channel by channel; padding is never the largest."""
    pads = padding if padding == "SAME" else ((0, 0), *(padding or ((0, 0),) * len(size)), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, *size, 1), (1, *strides, 1), pads)


def average_pool(
    x: jax.Array,
    size: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]] = (),
    *,
    count_padding: bool = True,
) -> jax.Array:
    """The mean of each window, channel by channel. count_padding: zeros beyond the border count (PyTorch's default), or not.

    Axis by axis, as sums of shifted copies: windows that overlap share their sums, which the compiler's own windows do not.
    """
    count = np.ones((1,) * x.ndim, np.float32)
    x = jnp.pad(x, ((0, 0), *(padding or ((0, 0),) * len(size)), (0, 0)))
    for axis, (length, stride) in enumerate(zip(size, strides), start=1):
        before, behind = padding[axis - 1] if padding else (0, 0)
        real = np.pad(
            np.ones(x.shape[axis] - before - behind, np.float32), (before, behind), constant_values=count_padding
        )
        last = x.shape[axis] - length + 1
        x = sum(jax.lax.slice_in_dim(x, k, k + last, stride, axis) for k in range(length))  # type: ignore[assignment]
        inside = sum(real[k : k + last : stride] for k in range(length))
        count = count * np.reshape(inside, [-1 if each == axis else 1 for each in range(x.ndim)])
    return x / count


def ceil_pads(sizes: Sequence[int], size: int, stride: int) -> Pads:
    """Padding behind each axis (of `sizes`) that makes a pool count its last, incomplete window, as PyTorch's `ceil_mode` does."""
    return tuple((0, -(length - size) % stride) for length in sizes)
