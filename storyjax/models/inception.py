"""Inception-v3 (Szegedy et al. 2016, arXiv 1512.00567): what FID, the inception score and the character classifier look with.

Two variants with one set of names:

    fid()           pt_inception-2015-12-05-6726825d.pth, TensorFlow's network of December 2015, which published FIDs use: average
                    pools do not count padding, the last block takes a maximum, 1008 classes, no auxiliary head
    torchvision()   inception_v3_google-0cc3c7bd.pth: average pools count padding, 1000 classes, an auxiliary head

Both look at pictures in -1..1 of 299x299 pixels; any size from 75 on works. Parts are named as in the TensorFlow graph.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.nn.conv_norm import ConvNorm, average_pool, convolve, max_pool
from storyjax.nn.layers import Linear

Unit = tuple[str, int, int | tuple[int, int], int, int | tuple[int, int]]  # name, channels, kernel, stride, padding
Pool = Literal["average", "max", "reduce"]
# A branch: an optional pool, then units one after the other; a list in the place of a unit: units side by side on the same input.
Branch = tuple[Pool | None, Sequence[Unit | Sequence[Unit]]]
EPS = 1e-3
FEATURES = 2048
SMALLEST = 75  # pixels: the last blocks are then one pixel wide


@dataclasses.dataclass(frozen=True)
class InceptionConfig:
    """Which variant, how many classes. shrink: every width divided by it, for tests."""

    variant: Literal["fid", "torchvision"] = "fid"
    classes: int = 1008
    auxiliary: bool = False
    shrink: int = 1

    @classmethod
    def fid(cls) -> "InceptionConfig":
        """TensorFlow's network of December 2015: 23,885,392 numbers of which the classes take 2,065,392."""
        return cls()

    @classmethod
    def torchvision(cls, classes: int = 1000) -> "InceptionConfig":
        """torchvision's, with its auxiliary head."""
        return cls("torchvision", classes, auxiliary=True)

    @property
    def features(self) -> int:
        """D, the width of the pooled features."""
        return FEATURES // self.shrink


STEM: tuple[Unit, ...] = (
    ("Conv2d_1a_3x3", 32, 3, 2, 0),
    ("Conv2d_2a_3x3", 32, 3, 1, 0),
    ("Conv2d_2b_3x3", 64, 3, 1, 1),
    ("Conv2d_3b_1x1", 80, 1, 1, 0),
    ("Conv2d_4a_3x3", 192, 3, 1, 0),
)
POOLS_AFTER = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")


def _a(pooled: int) -> list[Branch]:
    return [
        (None, [("branch1x1", 64, 1, 1, 0)]),
        (None, [("branch5x5_1", 48, 1, 1, 0), ("branch5x5_2", 64, 5, 1, 2)]),
        (None, [("branch3x3dbl_1", 64, 1, 1, 0), ("branch3x3dbl_2", 96, 3, 1, 1), ("branch3x3dbl_3", 96, 3, 1, 1)]),
        ("average", [("branch_pool", pooled, 1, 1, 0)]),
    ]


def _b() -> list[Branch]:
    return [
        (None, [("branch3x3", 384, 3, 2, 0)]),
        (None, [("branch3x3dbl_1", 64, 1, 1, 0), ("branch3x3dbl_2", 96, 3, 1, 1), ("branch3x3dbl_3", 96, 3, 2, 0)]),
        ("reduce", []),
    ]


def _c(width: int) -> list[Branch]:
    row, column = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
    return [
        (None, [("branch1x1", 192, 1, 1, 0)]),
        (None, [("branch7x7_1", width, 1, 1, 0), ("branch7x7_2", width, *row), ("branch7x7_3", 192, *column)]),
        (
            None,
            [
                ("branch7x7dbl_1", width, 1, 1, 0),
                ("branch7x7dbl_2", width, *column),
                ("branch7x7dbl_3", width, *row),
                ("branch7x7dbl_4", width, *column),
                ("branch7x7dbl_5", 192, *row),
            ],
        ),
        ("average", [("branch_pool", 192, 1, 1, 0)]),
    ]


def _d() -> list[Branch]:
    return [
        (None, [("branch3x3_1", 192, 1, 1, 0), ("branch3x3_2", 320, 3, 2, 0)]),
        (
            None,
            [
                ("branch7x7x3_1", 192, 1, 1, 0),
                ("branch7x7x3_2", 192, (1, 7), 1, (0, 3)),
                ("branch7x7x3_3", 192, (7, 1), 1, (3, 0)),
                ("branch7x7x3_4", 192, 3, 2, 0),
            ],
        ),
        ("reduce", []),
    ]


def _e(pool: Pool) -> list[Branch]:
    def fork(name: str) -> list[Unit]:
        return [(f"{name}a", 384, (1, 3), 1, (0, 1)), (f"{name}b", 384, (3, 1), 1, (1, 0))]

    return [
        (None, [("branch1x1", 320, 1, 1, 0)]),
        (None, [("branch3x3_1", 384, 1, 1, 0), fork("branch3x3_2")]),
        (None, [("branch3x3dbl_1", 448, 1, 1, 0), ("branch3x3dbl_2", 384, 3, 1, 1), fork("branch3x3dbl_3")]),
        (pool, [("branch_pool", 192, 1, 1, 0)]),
    ]


def blocks(variant: str) -> dict[str, list[Branch]]:
    """Name -> branches, in order. The FID network takes a maximum in its last block, against the paper and on purpose here."""
    return {
        "Mixed_5b": _a(32),
        "Mixed_5c": _a(64),
        "Mixed_5d": _a(64),
        "Mixed_6a": _b(),
        "Mixed_6b": _c(128),
        "Mixed_6c": _c(160),
        "Mixed_6d": _c(160),
        "Mixed_6e": _c(192),
        "Mixed_7a": _d(),
        "Mixed_7b": _e("average"),
        "Mixed_7c": _e("max" if variant == "fid" else "average"),
    }


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _unit(inputs: int, unit: Unit, shrink: int, rngs: Any) -> ConvNorm:
    _, outputs, kernel, stride, padding = unit
    return ConvNorm(
        inputs,
        outputs // shrink,
        _pair(kernel),
        strides=(stride, stride),
        padding=_pair(padding),
        eps=EPS,
        rngs=rngs,
    )


class InceptionBlock(nnx.Module):
    """Branches side by side on the same x (N, H, W, C), their channels put together."""

    def __init__(self, inputs: int, branches: list[Branch], *, count_padding: bool, shrink: int, rngs: Any):
        self.branches, self.count_padding = _frozen(branches), count_padding
        self.units, self.outputs = nnx.Dict(), 0
        for _, steps in branches:
            width = inputs
            for step in steps:
                side_by_side: Any = [step] if isinstance(step, tuple) else step
                for unit in side_by_side:
                    self.units[unit[0]] = _unit(width, unit, shrink, rngs)
                width = sum(unit[1] for unit in side_by_side) // shrink
            self.outputs += width

    def __call__(self, x: jax.Array) -> jax.Array:
        first = self._first(x)
        found = []
        for pool, steps in self.branches:
            y = x if pool is None else self._pooled(x, pool)
            for number, step in enumerate(steps):
                if number == 0 and pool is None and step[0] in first:
                    y = first[step[0]]
                elif isinstance(step[0], str):
                    y = self.units[step[0]](y)
                else:
                    y = jnp.concatenate([self.units[unit[0]](y) for unit in step], axis=-1)
            found.append(y)
        return jnp.concatenate(found, axis=-1)

    def _first(self, x: jax.Array) -> dict[str, jax.Array]:
        """The 1x1 convolutions that look at x itself, as one: x is read once and the product is wide."""
        names = [steps[0][0] for pool, steps in self.branches if pool is None and steps[0][2] == 1]
        if len(names) < 2:
            return {}
        folded = [self.units[name].folded() for name in names]
        kernel = jnp.concatenate([kernel for kernel, _ in folded], axis=-1)
        bias = jnp.concatenate([bias for _, bias in folded])
        y = jax.nn.relu(convolve(x, kernel, (1, 1), ((0, 0), (0, 0))) + bias)
        ends = [sum(len(bias) for _, bias in folded[: i + 1]) for i in range(len(folded))]
        return dict(zip(names, jnp.split(y, ends[:-1], axis=-1)))

    def _pooled(self, x: jax.Array, pool: str) -> jax.Array:
        border = ((1, 1), (1, 1))
        if pool == "reduce":
            return max_pool(x, (3, 3), (2, 2))
        if pool == "max":
            return max_pool(x, (3, 3), (1, 1), border)
        return average_pool(x, (3, 3), (1, 1), border, count_padding=self.count_padding)


def _frozen(value: Any) -> Any:
    """Lists as tuples, so that the module's structure can be compared and hashed."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


class AuxiliaryHead(nnx.Module):
    """The second classifier on the map before `Mixed_7a`; it matters in training only. x (N, H, W, C) -> logits (N, K)."""

    def __init__(self, inputs: int, classes: int, *, shrink: int, rngs: Any):
        self.conv0 = _unit(inputs, ("conv0", 128, 1, 1, 0), shrink, rngs)
        self.conv1 = _unit(128 // shrink, ("conv1", 768, 5, 1, 0), shrink, rngs)
        self.fc = Linear(768 // shrink, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv1(self.conv0(average_pool(x, (5, 5), (3, 3))))
        return self.fc(x.mean(axis=(1, 2)))


class Inception(nnx.Module):
    """images (N, H, W, 3) in -1..1 -> logits (N, K); `features` gives the pooled 2048 numbers before them."""

    def __init__(self, config: InceptionConfig, *, rngs: Any):
        self.config, shrink = config, config.shrink
        self.stem, width = nnx.Dict(), 3
        for unit in STEM:
            self.stem[unit[0]] = _unit(width, unit, shrink, rngs)
            width = unit[1] // shrink
        self.blocks = nnx.Dict()
        for name, branches in blocks(config.variant).items():
            block = InceptionBlock(width, branches, count_padding=config.variant != "fid", shrink=shrink, rngs=rngs)
            self.blocks[name], width = block, block.outputs
            if name == "Mixed_6e":
                self.auxiliary = (
                    AuxiliaryHead(width, config.classes, shrink=shrink, rngs=rngs) if config.auxiliary else None
                )
        self.fc = Linear(width, config.classes, rngs=rngs)

    def maps(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The last map (N, h, w, 2048), and the one that the auxiliary head looks at (N, h', w', 768)."""
        if images.ndim != 4 or images.shape[-1] != 3 or min(images.shape[1:3]) < SMALLEST:
            raise StoryjaxError(
                f"Inception-v3: expected pictures (N, H, W, 3) of at least {SMALLEST} pixels, got {tuple(images.shape)}; "
                "resize them first (it was trained at 299)"
            )
        x = images
        for unit in STEM:
            x = self.stem[unit[0]](x)
            if unit[0] in POOLS_AFTER:
                x = max_pool(x, (3, 3), (2, 2))
        middle = x
        for name in blocks(self.config.variant):
            x = self.blocks[name](x)
            middle = x if name == "Mixed_6e" else middle
        return x, middle

    def features(self, images: jax.Array) -> jax.Array:
        """(N, 2048): the mean over the last map, what FID calls pool3."""
        return self.maps(images)[0].mean(axis=(1, 2))

    def logits(self, features: jax.Array, *, bias: bool = True) -> jax.Array:
        """(N, K) from pooled features. bias: the original inception score leaves it out."""
        return self.fc(features) if bias else features @ self.fc.kernel[...]

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.logits(self.features(images))
