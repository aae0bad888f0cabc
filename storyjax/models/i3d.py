"""I3D on RGB frames (Carreira & Zisserman 2017, arXiv 1705.07750), Kinetics-400: what the Fréchet video distance looks with.

Inception-v1 with every kernel grown into time, TensorFlow's "SAME" padding throughout. Two published forms of its weights are read
(`weights/recognition.py`): i3d_torchscript.pt of StyleGAN-V, the network of TF-Hub that Unterthiner et al. (2018) define FVD by,
and rgb_imagenet.pt of pytorch-i3d, DeepMind's first release. clips (N, T, H, W, 3) in -1..1, T of at least 9 frames of 224x224.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.nn.conv_norm import ConvNorm, PlainConv, average_pool, max_pool

EPS = 1e-3
FEWEST_FRAMES, SMALLEST = 9, 193  # what leaves two frames and 7x7 pixels for the last pool

# Name -> channels of its branches: 1x1; 1x1 and 3x3; 1x1 and 3x3; 1x1 after the pool.
MIXED = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Before which block which pool: (size, stride) over time and over space.
POOLS = {"mixed_3b": ((1, 3, 3), (1, 2, 2)), "mixed_4b": ((3, 3, 3), (2, 2, 2)), "mixed_5b": ((2, 2, 2), (2, 2, 2))}


@dataclasses.dataclass(frozen=True)
class I3DConfig:
    """classes: of the logits, which FVD takes as features. shrink: every width divided by it, for tests."""

    classes: int = 400
    shrink: int = 1


def _unit(inputs: int, outputs: int, size: int, rngs: Any, stride: int = 1) -> ConvNorm:
    return ConvNorm(inputs, outputs, (size,) * 3, strides=(stride,) * 3, padding="SAME", eps=EPS, rngs=rngs)


class Mixed(nnx.Module):
    """Four branches side by side on x (N, T, H, W, C)."""

    def __init__(self, inputs: int, widths: tuple[int, ...], *, rngs: Any):
        b0, b1a, b1b, b2a, b2b, b3b = widths
        self.b0 = _unit(inputs, b0, 1, rngs)
        self.b1a, self.b1b = _unit(inputs, b1a, 1, rngs), _unit(b1a, b1b, 3, rngs)
        self.b2a, self.b2b = _unit(inputs, b2a, 1, rngs), _unit(b2a, b2b, 3, rngs)
        self.b3b = _unit(inputs, b3b, 1, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1), "SAME")
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled))
        return jnp.concatenate(branches, axis=-1)


class I3D(nnx.Module):
    """clips (N, T, H, W, 3) in -1..1 -> logits (N, 400), the mean over what is left of time."""

    def __init__(self, config: I3DConfig, *, rngs: Any):
        self.config = config

        def width(channels: int) -> int:
            return channels // config.shrink

        self.conv3d_1a_7x7 = _unit(3, width(64), 7, rngs, stride=2)
        self.conv3d_2b_1x1 = _unit(width(64), width(64), 1, rngs)
        self.conv3d_2c_3x3 = _unit(width(64), width(192), 3, rngs)
        self.blocks, inputs = nnx.Dict(), width(192)
        for name, channels in MIXED.items():
            widths = tuple(width(each) for each in channels)
            self.blocks[name] = Mixed(inputs, widths, rngs=rngs)
            inputs = widths[0] + widths[2] + widths[4] + widths[5]
        self.logits = PlainConv(inputs, config.classes, (1, 1, 1), rngs=rngs)

    def __call__(self, clips: jax.Array) -> jax.Array:
        if (
            clips.ndim != 5
            or clips.shape[-1] != 3
            or clips.shape[1] < FEWEST_FRAMES
            or min(clips.shape[2:4]) < SMALLEST
        ):
            raise StoryjaxError(
                f"I3D: expected clips (N, T, H, W, 3) of at least {FEWEST_FRAMES} frames of {SMALLEST} pixels (it was trained "
                f"at 224), got {tuple(clips.shape)}"
            )
        x = max_pool(self.conv3d_1a_7x7(clips), (1, 3, 3), (1, 2, 2), "SAME")
        x = self.conv3d_2c_3x3(self.conv3d_2b_1x1(x))
        for name in MIXED:
            if name in POOLS:
                x = max_pool(x, *POOLS[name], "SAME")
            x = self.blocks[name](x)
        x = average_pool(x, (2, 7, 7), (1, 1, 1))
        return self.logits(x).mean(axis=(1, 2, 3))
