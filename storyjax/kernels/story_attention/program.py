"""What the forward and backward Pallas programs of SETA share: the blocks they read and write, and their scores."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from storyjax.kernels.cost import cost
from storyjax.kernels.lanes import group_width, heads_of, rows_times_rows
from storyjax.kernels.story_attention.tiling import Tiling, pieces

ROWS = (0, 1, 0)  # which of the two biases the row above, the own and the row below take


def collect(parts: Sequence[Any], rows: Any) -> None:
    """Puts the blocks of three rows side by side into `rows` (3, window, channels)."""
    count = len(parts) // 3
    for index, part in enumerate(parts):
        before = sum(other.shape[2] for other in parts[index // count * count : index])
        rows[index // count, before : before + part.shape[2]] = part[0, 0]


def scores_of(q: jax.Array, k_rows: Any, lanes: slice, bias_ref: Any, scale: float) -> list[jax.Array]:
    """(tile, window) for each of three rows."""
    return [rows_times_rows(q, k_rows[row, :, lanes]) * scale + bias_ref[ROWS[row], 0] for row in range(3)]


def exponentials(scores: Sequence[jax.Array]) -> tuple[list[jax.Array], jax.Array]:
    """e^(scores - largest) for each row of the picture, and the largest (tile, 1) over all three."""
    largest = functools.reduce(jnp.maximum, (s.max(axis=1, keepdims=True) for s in scores))
    return [jnp.exp(s - largest) for s in scores], largest


class Program:
    """Blocks of the arrays (B, H, row, C) that a program (tile, story, group of heads, row of the picture) reads and writes."""

    def __init__(self, shape: tuple[int, ...], tiling: Tiling, dtype: Any, interpret: bool):
        self.shape, self.dtype = shape, jnp.dtype(dtype)
        self.batch, self.height, self.tiling, self.interpret = shape[0], shape[2], tiling, interpret
        self.width = group_width(*shape[4:])
        self.groups = shape[4] * shape[5] // self.width
        self.heads = heads_of(self.width, shape[5])
        self.bias = pl.BlockSpec((2, 1, tiling.tile, tiling.window), lambda tile, b, g, h: (0, tile, 0, 0))
        self.tile = pl.BlockSpec((1, 1, tiling.tile, self.width), lambda tile, b, g, h: (b, h, tile, g))
        self.window_scratch = pltpu.VMEM((3, tiling.window, self.width), dtype)
        self.tile_scratch = pltpu.VMEM((tiling.tile, self.width), jnp.float32)

    @property
    def three_rows(self) -> list[pl.BlockSpec]:
        """The window of a tile in the row above, its own and the row below, piece by piece."""
        sizes = pieces(self.tiling)
        places = (-1, 0, 1) if len(sizes) == 3 else (0,)
        return [self._piece(row, place, size) for row in (-1, 0, 1) for place, size in zip(places, sizes)]

    def _piece(self, row: int, place: int, size: int) -> pl.BlockSpec:
        steps, blocks = self.tiling.tile // size, self.tiling.row // size

        def where(tile: Any, b: Any, g: Any, h: Any) -> tuple[Any, ...]:
            block = tile * steps + (steps if place > 0 else place)
            return b, self.neighbour(h, row), jnp.clip(block, 0, blocks - 1), g

        return pl.BlockSpec((1, 1, size, self.width), where)

    def neighbour(self, h: Any, row: int) -> Any:
        """Index of the row above or below; the picture's edge is its own neighbour."""
        return jnp.clip(h + row, 0, self.height - 1) if row else h

    def repeat(self, x: jax.Array) -> list[jax.Array]:
        """The operand of `three_rows`: one array, read at several places."""
        return [x] * (3 * len(pieces(self.tiling)))

    def cost(self, *, products: int, needed: int, tiles: int) -> dict[str, Any]:
        """`cost.cost` of a program that reads or writes so many arrays tile by tile, and two by the windows of three rows."""
        batch, frames, height, width, count, depth = self.shape
        scores = (
            batch * count * height * width * frames * (9 * frames - 8)
        )  # a pixel sees its neighbours in other frames only
        tokens = self.tiling.tiles * (tiles * self.tiling.tile + 2 * 3 * self.tiling.window)
        moved = batch * height * count * depth * tokens * self.dtype.itemsize
        return cost(scores=scores, depth=depth, products=products, needed=needed, moved=moved)

    def __call__(
        self, kernel: Callable, *, in_specs: Any, out_specs: Any, out_shape: Any, scratch: Any, cost: dict[str, Any]
    ) -> Callable:
        return pl.pallas_call(
            kernel,
            grid=(self.tiling.tiles, self.batch, self.groups, self.height),
            in_specs=in_specs,
            out_specs=out_specs,
            out_shape=out_shape,
            scratch_shapes=scratch,
            compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",) * 4),
            interpret=self.interpret,
            **cost,
        )
