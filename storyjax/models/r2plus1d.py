"""R(2+1)D-18 (Tran et al. 2018, arXiv 1711.11248) of torchvision, Kinetics-400: what the Fréchet story distance looks with.

Every 3D convolution is one over height and width, batch norm, ReLU and one over time. The width between the two keeps the number of
weights of the 3D convolution. clips (N, T, H, W, 3) -> features (N, 512).
"""

import dataclasses
from typing import Any

import jax
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.nn.conv_norm import ConvNorm
from storyjax.nn.layers import Linear

EPS = 1e-5
WIDTHS = (64, 128, 256, 512)
# Of the Kinetics-400 clips in 0..1 that the published weights were trained on, red, green, blue.
MEAN, DEVIATION = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


@dataclasses.dataclass(frozen=True)
class R2Plus1DConfig:
    """classes: of the head, which features do not use. shrink: every width divided by it, for tests."""

    classes: int = 400
    shrink: int = 1


def _between(inputs: int, outputs: int) -> int:
    """Channels between the two halves of a 3x3x3 convolution: as many weights as it would have."""
    return (inputs * outputs * 27) // (inputs * 9 + 3 * outputs)


class SplitConv(nnx.Module):
    """(1, 3, 3) to `between` channels, norm, ReLU, (3, 1, 1) to `outputs`; then norm and, unless told otherwise, ReLU."""

    def __init__(self, inputs: int, outputs: int, between: int, *, stride: int, relu: bool, rngs: Any):
        self.space = ConvNorm(
            inputs, between, (1, 3, 3), strides=(1, stride, stride), padding=(0, 1, 1), eps=EPS, rngs=rngs
        )
        self.time = ConvNorm(
            between, outputs, (3, 1, 1), strides=(stride, 1, 1), padding=(1, 0, 0), eps=EPS, relu=relu, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.time(self.space(x))


class Block(nnx.Module):
    """ReLU(shortcut(x) + two split convolutions). The first stride, in all three axes, also shortens the shortcut."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, rngs: Any):
        between = _between(inputs, outputs)
        self.conv1 = SplitConv(inputs, outputs, between, stride=stride, relu=True, rngs=rngs)
        self.conv2 = SplitConv(outputs, outputs, between, stride=1, relu=False, rngs=rngs)
        narrow = inputs == outputs and stride == 1
        self.shortcut = (
            None
            if narrow
            else ConvNorm(inputs, outputs, (1, 1, 1), strides=(stride,) * 3, eps=EPS, relu=False, rngs=rngs)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return jax.nn.relu(shortcut + self.conv2(self.conv1(x)))


class R2Plus1D(nnx.Module):
    """clips (N, T, H, W, 3) -> logits (N, K); `features` gives the pooled 512 numbers before them. Any T, H, W from 1 on."""

    def __init__(self, config: R2Plus1DConfig, *, rngs: Any):
        self.config = config
        first, widths = 45 // config.shrink, [width // config.shrink for width in WIDTHS]
        self.stem_space = ConvNorm(3, first, (1, 7, 7), strides=(1, 2, 2), padding=(0, 3, 3), eps=EPS, rngs=rngs)
        self.stem_time = ConvNorm(first, widths[0], (3, 1, 1), padding=(1, 0, 0), eps=EPS, rngs=rngs)
        self.layers, width = nnx.List(), widths[0]
        for number, outputs in enumerate(widths):
            stride = 1 if number == 0 else 2
            pair = [Block(width, outputs, stride=stride, rngs=rngs), Block(outputs, outputs, stride=1, rngs=rngs)]
            self.layers.append(nnx.List(pair))
            width = outputs
        self.fc = Linear(width, config.classes, rngs=rngs)

    def features(self, clips: jax.Array) -> jax.Array:
        """(N, 512): the mean of the last map over time and space."""
        if clips.ndim != 5 or clips.shape[-1] != 3:
            raise StoryjaxError(f"R(2+1)D: expected clips (N, T, H, W, 3), got {tuple(clips.shape)}")
        x = self.stem_time(self.stem_space(clips))
        for pair in self.layers:
            for block in pair:
                x = block(x)
        return x.mean(axis=(1, 2, 3))

    def __call__(self, clips: jax.Array) -> jax.Array:
        return self.fc(self.features(clips))
