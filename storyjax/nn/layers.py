"""Linear, convolution, embedding and norm layers with PyTorch's defaults, channels last.

Weights and biases start uniform in (-1/sqrt(fan_in), 1/sqrt(fan_in)), as torch.nn.Linear and torch.nn.Conv do. No layer has a
dtype of its own: a computation runs in the dtype of its parameters and inputs, which the training step casts once. Norms
compute their statistics in float32 by the two-pass formula whatever comes in.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.errors import StoryjaxError


def uniform(bound: float) -> nnx.Initializer:
    """Uniform in (-bound, bound)."""

    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32, *_: Any) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Linear(nnx.Linear):
    """y = x W + b; kernel (inputs, outputs). `zero=True` starts from zero, for projections that must begin silent."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, zero: bool = False, rngs: Any):
        init = nnx.initializers.zeros_init() if zero else uniform(1 / math.sqrt(inputs))
        super().__init__(inputs, outputs, use_bias=bias, kernel_init=init, bias_init=init, rngs=rngs)


class Conv(nnx.Conv):
    """2D convolution over (..., H, W, C); kernel (k, k, inputs, outputs); zero padding of `padding` pixels on each side."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: int | tuple[tuple[int, int], tuple[int, int]] | None = None,
        rngs: Any,
    ):
        padding = kernel // 2 if padding is None else padding
        pads = ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding
        init = uniform(1 / math.sqrt(inputs * kernel * kernel))
        super().__init__(
            inputs, outputs, (kernel, kernel), strides=stride, padding=pads, kernel_init=init, bias_init=init, rngs=rngs
        )


class PatchConv(nnx.Module):
    """Cuts images into patches and projects each: kernel (P, P, inputs, outputs), stride P, no bias, no padding.

    x (N, H, W, C) -> (N, H // P, W // P, outputs); pixels beyond whole patches are not looked at. One matrix product.
    """

    def __init__(self, inputs: int, outputs: int, patch: int, *, rngs: Any):
        init = uniform(1 / math.sqrt(inputs * patch * patch))
        self.kernel = nnx.Param(init(rngs.params(), (patch, patch, inputs, outputs)))

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel[...]
        patch, outputs = kernel.shape[0], kernel.shape[-1]
        rows, columns = x.shape[1] // patch, x.shape[2] // patch
        x = x[:, : rows * patch, : columns * patch].astype(kernel.dtype)
        x = x.reshape(x.shape[0], rows, patch, columns, patch, x.shape[-1]).swapaxes(2, 3)
        return x.reshape(x.shape[0], rows, columns, -1) @ kernel.reshape(-1, outputs)


class FrameConv(nnx.Module):
    """1D convolution over frames, kernel (3, C_in, C_out), zero padding 1: PyTorch's Conv3d of kernel (3, 1, 1).

    x (B, F, H, W, C) -> (B, F, H, W, C_out). Written as three shifted matrix products, which every backend runs well.
    """

    def __init__(self, inputs: int, outputs: int, *, rngs: Any):
        init = uniform(1 / math.sqrt(inputs * 3))
        self.kernel = nnx.Param(init(rngs.params(), (3, inputs, outputs)))
        self.bias = nnx.Param(init(rngs.params(), (outputs,)))

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, frames = self.kernel[...], x.shape[1]
        padded = jnp.pad(x, ((0, 0), (1, 1)) + ((0, 0),) * (x.ndim - 2))
        taps = (padded[:, i : i + frames] @ kernel[i] for i in range(3))
        return sum(taps, self.bias[...])


class Embedding(nnx.Module):
    """Rows of a table, (rows, C), standard normal times `scale` at the start."""

    def __init__(self, rows: int, channels: int, *, scale: float = 1.0, rngs: Any):
        self.embedding = nnx.Param(scale * jax.random.normal(rngs.params(), (rows, channels)))

    def __call__(self, ids: jax.Array) -> jax.Array:
        return jnp.take(self.embedding[...], ids, axis=0)


class GroupNorm(nnx.Module):
    """(x - mean) / sqrt(var + eps) * scale + bias, statistics over H, W and the channels of one group.

    x (..., H, W, C) with any number of leading axes, each normalised alone. Biased variance, as PyTorch's.
    """

    def __init__(self, groups: int, channels: int, *, eps: float = 1e-5):
        if channels % groups:
            raise StoryjaxError(f"group norm: {channels} channels do not divide into {groups} groups")
        self.groups, self.eps = groups, eps
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self._normal(x).astype(x.dtype)

    def silu(self, x: jax.Array) -> jax.Array:
        """SiLU of the normalised x, rounded to its dtype once, not twice: in bfloat16 a fifth less error in a whole codec."""
        return jax.nn.silu(self._normal(x)).astype(x.dtype)

    def _normal(self, x: jax.Array) -> jax.Array:
        """In float32."""
        *lead, height, width, channels = x.shape
        groups = x.astype(jnp.float32).reshape(*lead, height * width, self.groups, channels // self.groups)
        mean = groups.mean(axis=(-3, -1), keepdims=True)
        centred = groups - mean
        variance = jnp.square(centred).mean(axis=(-3, -1), keepdims=True)
        normal = (centred * jax.lax.rsqrt(variance + self.eps)).reshape(x.shape)
        return normal * self.scale[...] + self.bias[...]


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(var + eps) * scale + bias over the last axis; eps 1e-5 as PyTorch's."""

    def __init__(self, channels: int, *, eps: float = 1e-5):
        self.eps = eps
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        full = x.astype(jnp.float32)
        centred = full - full.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + self.eps) * self.scale[...] + self.bias[...]).astype(x.dtype)
