"""Attention at the shapes that the networks have: every implementation of storyjax that runs here, against PyTorch's fused one."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import torch_sides
from benchmarks.measure import Row, Setting, Side, compare
from benchmarks.sides import NAME, jax_side, normal
from storyjax.errors import StoryjaxError
from storyjax.nn.attention import IMPLEMENTATIONS, attention


class Shape(NamedTuple):
    """Queries (batch, queries, heads, depth), keys and values (batch, keys, heads, depth)."""

    name: str
    batch: int
    queries: int
    keys: int
    heads: int
    depth: int


FULL = (
    Shape("SD 2.1 at 512, finest level", 16, 4096, 4096, 5, 64),
    Shape("SD 2.1 at 512, second level", 16, 1024, 1024, 10, 64),
    Shape("SD 2.1 at 512, finest level, text", 16, 4096, 77, 5, 64),
    Shape("SD 1.5 at 512, finest level", 16, 4096, 4096, 8, 40),
    Shape("SDXL at 1024, second level", 8, 4096, 4096, 10, 64),
    Shape("SDXL at 1024, coarsest level", 8, 1024, 1024, 20, 64),
    Shape("story at 256, finest level, 6 stories", 30, 1024, 1024, 5, 64),
    Shape("story, frames of a pixel, 6 stories", 6 * 1024, 5, 5, 8, 40),
    Shape("storyline contextualizer, 6 stories", 6, 385, 385, 8, 128),
)
TINY = (Shape("toy", 2, 16, 16, 2, 8), Shape("toy, text", 2, 16, 7, 2, 8))


def run(setting: Setting) -> list[Row]:
    """Attention alone, forward and with gradients, at the shapes of the networks."""
    rows: list[Row] = []
    for shape in FULL if setting.full else TINY:
        batch = setting.batch or (max(1, shape.batch // 16) if jax.default_backend() == "cpu" else shape.batch)
        shape = shape._replace(batch=batch)
        for gradient in (False, True):
            sides = every_implementation(setting, attention, IMPLEMENTATIONS, _given(setting, shape), gradient)
            if setting.against:
                sides.append(_torch(setting, shape, gradient))
            conditions = {
                "batch": batch,
                "tokens": f"{shape.queries}x{shape.keys}",
                "heads": f"{shape.heads}x{shape.depth}",
            }
            work = f"{shape.name}, {'with gradients' if gradient else 'forward'}"
            rows += compare(work, sides, setting, conditions)
    return rows


def _given(setting: Setting, shape: Shape) -> list[jax.Array]:
    lengths = (shape.queries, shape.keys, shape.keys)
    return [
        normal(setting.dtype, shape.batch, length, shape.heads, shape.depth, seed=seed)
        for seed, length in enumerate(lengths)
    ]


def every_implementation(
    setting: Setting, entry: Callable[..., jax.Array], names: Sequence[str], given: Sequence[jax.Array], gradient: bool
) -> list[Side]:
    """Sides of `entry(q, k, v, implementation=...)`: the automatic choice first; of the named ones those that can run here."""
    found = []
    for implementation in (None, *names):
        function: Any = functools.partial(entry, implementation=implementation)
        if gradient:
            function = jax.grad(functools.partial(weighted, function), argnums=(0, 1, 2))
        try:
            found.append(jax_side(setting, function, *given, name=f"{NAME}, {implementation or 'chosen'}"))
        except StoryjaxError:  # it says that it cannot run on this device, or not with these shapes
            continue
    return found


def weighted(function: Any, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """A loss whose gradient is not the same everywhere."""
    return (function(q, k, v).astype(jnp.float32) * q.astype(jnp.float32)).sum()


def _torch(setting: Setting, shape: Shape, gradient: bool) -> Side:
    import torch
    from torch.nn import functional

    given = [
        torch_sides.tensor(x, setting.dtype).transpose(1, 2).requires_grad_(gradient) for x in _given(setting, shape)
    ]

    def start() -> Any:
        out = functional.scaled_dot_product_attention(*given)
        return torch.autograd.grad((out.float() * given[0].float()).sum(), given) if gradient else out

    return torch_sides.torch_side("PyTorch fused", start)
