"""Heads inside the lanes of a TPU: how a kernel reads one head of (tokens, channels) without moving any of them.

Channels are heads times head width, and a vector register is 128 lanes wide; head widths of 40, 80 or 160 do not align with
that. A head is therefore read as the aligned window of lanes that covers it. On one side of a product the other heads' lanes are
set to zero, so the sum over the window is the sum over the head; a result is put back by selecting the head's lanes. All heads
share one array, so nothing is padded to 128 lanes in memory and nothing is transposed.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Iterable

import jax
import jax.numpy as jnp

LANES = 128
SUBLANES = 16  # rows of a tile of bfloat16; those of float32 are 8


@dataclasses.dataclass(frozen=True)
class Head:
    """One head of width `depth` inside a group of channels: lanes [start, stop) cover it, [first, first + depth) are its own."""

    index: int
    first: int
    depth: int
    start: int
    stop: int

    def own(self, rows: int) -> jax.Array:
        """(rows, stop - start): which lanes of the window belong to the head."""
        lane = self.start + jax.lax.broadcasted_iota(jnp.int32, (rows, self.stop - self.start), 1)
        return (lane >= self.first) & (lane < self.first + self.depth)

    @property
    def lanes(self) -> slice:
        """The window."""
        return slice(self.start, self.stop)

    def only(self, window: jax.Array) -> jax.Array:
        """(rows, stop - start) of all heads there -> zero where it belongs to others."""
        # in float32: the older chips select no narrower numbers
        return jnp.where(self.own(window.shape[0]), window.astype(jnp.float32), 0.0).astype(window.dtype)


def group_width(heads: int, depth: int) -> int:
    """Channels that one program reads: the fewest heads that end where a register ends, or else all of them."""
    width = math.lcm(depth, LANES)
    return width if heads * depth % width == 0 else heads * depth


def heads_of(width: int, depth: int) -> list[Head]:
    """The heads inside a group of `width` channels."""
    return [
        Head(
            index=index,
            first=index * depth,
            depth=depth,
            start=index * depth // LANES * LANES,
            stop=min(width, -(-(index + 1) * depth // LANES) * LANES),
        )
        for index in range(width // depth)
    ]


def rows_times_rows(a: jax.Array, b: jax.Array) -> jax.Array:
    """a b^T of (m, c) and (n, c), summed in float32."""
    return jax.lax.dot_general(a, b, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)


def times(a: jax.Array, b: jax.Array) -> jax.Array:
    """a b of (m, n) and (n, c), a brought to b's dtype, summed in float32."""
    return jax.lax.dot_general(a.astype(b.dtype), b, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def added(parts: Iterable[jax.Array]) -> jax.Array:
    """The sum of arrays of one shape."""
    return functools.reduce(operator.add, parts)


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def column(x: jax.Array, index: int) -> jax.Array:
    """(rows, columns) -> one of the columns, (rows, 1): by a masked sum, which needs no move between lanes."""
    return jnp.where(_columns(x) == index, x, 0.0).sum(axis=1, keepdims=True)


def with_column(x: jax.Array, index: int, values: jax.Array) -> jax.Array:
    """x (rows, columns) with values (rows, 1) in one of its columns."""
    return jnp.where(_columns(x) == index, values, x)


def _columns(x: jax.Array) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
