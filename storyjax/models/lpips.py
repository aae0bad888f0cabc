"""LPIPS 0.1 (Zhang et al. 2018, arXiv 1801.03924): how different two pictures look, by three networks' features.

d(x, y) = sum_l mean_hw sum_c w_lc (x^_l - y^_l)^2, where x^_l are the features of layer l, of unit length in every place. The
trunks are torchvision's ImageNet networks (without their classifiers), the weights w are those published with LPIPS ("linear
heads"). Pictures in -1..1, (N, H, W, 3) -> distances (N,).
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.nn.conv_norm import PlainConv, ceil_pads, max_pool

Trunk = Literal["alex", "vgg", "squeeze"]
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of the published pictures in -1..1
EPS = 1e-10
SMALLEST = {"alex": 31, "vgg": 16, "squeeze": 25}  # pixels that leave one for the last layer

# The trunks as torchvision numbers their layers. ("conv", number, channels, kernel, stride, padding); ("fire", number, squeezed,
# expanded); ("pool", size, stride, whether the last, incomplete window counts); ("tap",): these features are compared.
Layer = tuple[Any, ...]
TAP: Layer = ("tap",)
ALEX: tuple[Layer, ...] = (
    *(("conv", 0, 64, 11, 4, 2), TAP, ("pool", 3, 2, False)),
    *(("conv", 3, 192, 5, 1, 2), TAP, ("pool", 3, 2, False)),
    *(("conv", 6, 384, 3, 1, 1), TAP, ("conv", 8, 256, 3, 1, 1), TAP, ("conv", 10, 256, 3, 1, 1), TAP),
)


def _vgg() -> tuple[Layer, ...]:
    layers: list[Layer] = []
    number = 0
    for stage, (channels, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        if stage:
            layers.append(("pool", 2, 2, False))
            number += 1
        for _ in range(count):
            layers.append(("conv", number, channels, 3, 1, 1))
            number += 2
        layers.append(TAP)
    return tuple(layers)


POOL: Layer = ("pool", 3, 2, True)
SQUEEZE: tuple[Layer, ...] = (
    *(("conv", 0, 64, 3, 2, 0), TAP, POOL, ("fire", 3, 16, 64), ("fire", 4, 16, 64), TAP),
    *(POOL, ("fire", 6, 32, 128), ("fire", 7, 32, 128), TAP),
    *(
        POOL,
        ("fire", 9, 48, 192),
        TAP,
        ("fire", 10, 48, 192),
        TAP,
        ("fire", 11, 64, 256),
        TAP,
        ("fire", 12, 64, 256),
        TAP,
    ),
)
TRUNKS: dict[str, tuple[Layer, ...]] = {"alex": ALEX, "vgg": _vgg(), "squeeze": SQUEEZE}


@dataclasses.dataclass(frozen=True)
class LPIPSConfig:
    """Which trunk."""

    trunk: Trunk = "alex"

    def __post_init__(self) -> None:
        if self.trunk not in TRUNKS:
            raise StoryjaxError(f"LPIPS has no trunk '{self.trunk}'; it has {', '.join(TRUNKS)}")


class Fire(nnx.Module):
    """SqueezeNet's block: 1x1 to few channels, then 1x1 and 3x3 side by side. x (N, H, W, C) -> (N, H, W, 2 expanded)."""

    def __init__(self, inputs: int, squeezed: int, expanded: int, *, rngs: Any):
        self.squeeze = PlainConv(inputs, squeezed, (1, 1), rngs=rngs)
        self.expand1x1 = PlainConv(squeezed, expanded, (1, 1), rngs=rngs)
        self.expand3x3 = PlainConv(squeezed, expanded, (3, 3), padding=(1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.squeeze(x))
        return jax.nn.relu(jnp.concatenate([self.expand1x1(x), self.expand3x3(x)], axis=-1))


class LPIPS(nnx.Module):
    """Two pictures (N, H, W, 3) in -1..1 each -> distances (N,), 0 for equal ones."""

    def __init__(self, config: LPIPSConfig, *, rngs: Any):
        self.config = config
        self.trunk, self.heads, width = nnx.Dict(), nnx.List(), 3
        for kind, *sizes in TRUNKS[config.trunk]:
            if kind == "conv":
                number, channels, kernel, stride, padding = sizes
                self.trunk[f"layer{number}"] = PlainConv(
                    width, channels, (kernel,) * 2, strides=(stride,) * 2, padding=(padding,) * 2, rngs=rngs
                )
                width = channels
            elif kind == "fire":
                number, squeezed, expanded = sizes
                self.trunk[f"layer{number}"] = Fire(width, squeezed, expanded, rngs=rngs)
                width = 2 * expanded
            elif kind == "tap":
                self.heads.append(PlainConv(width, 1, (1, 1), bias=False, rngs=rngs))

    def features(self, images: jax.Array) -> list[jax.Array]:
        """The maps that are compared, each (N, h, w, c) with vectors of unit length."""
        smallest = SMALLEST[self.config.trunk]
        if images.ndim != 4 or images.shape[-1] != 3 or min(images.shape[1:3]) < smallest:
            raise StoryjaxError(
                f"LPIPS: expected pictures (N, H, W, 3) of at least {smallest} pixels, got {tuple(images.shape)}"
            )
        x, found = (images - jnp.array(SHIFT)) / jnp.array(SCALE), []
        for kind, *sizes in TRUNKS[self.config.trunk]:
            if kind == "tap":
                found.append(x / (jnp.sqrt(jnp.square(x).sum(axis=-1, keepdims=True)) + EPS))
            elif kind == "pool":
                size, stride, ceil = sizes
                padding = ceil_pads(x.shape[1:3], size, stride) if ceil else ()
                x = max_pool(x, (size,) * 2, (stride,) * 2, padding)
            else:
                layer: Any = self.trunk[f"layer{sizes[0]}"]
                x = jax.nn.relu(layer(x)) if kind == "conv" else layer(x)
        return found

    def __call__(self, one: jax.Array, other: jax.Array) -> jax.Array:
        # One after the other by the same program: equal pictures then differ by nothing at all.
        both = jax.lax.map(self.features, jnp.stack([one, other]))
        total = jnp.zeros(len(one))
        for head, maps in zip(self.heads, both):
            total += head(jnp.square(maps[0] - maps[1])).mean(axis=(1, 2, 3))
        return total
