"""What the forward and backward Pallas programs of attention share: the blocks they read and write."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from storyjax.kernels.cost import cost
from storyjax.kernels.lanes import LANES, SUBLANES, group_width, heads_of, round_up

PARAMS = pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "parallel", "arbitrary"))
LARGEST = 1 << 20  # bytes of a block of keys; a program holds a dozen such, and 16 MiB in all
HIDDEN = -1e30  # added to a score, leaves nothing of it, and stays finite


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Numbers of queries and of keys that a program holds; keys in multiples of 128."""

    queries: int = 256
    keys: int = 512

    def fitting(self, token: int) -> "Blocks":
        """These, or smaller ones where a token takes so many bytes that a program would not fit; 128 of each at least."""
        parts = next(parts for parts in (1, 2, 4) if parts == 4 or self.keys * token <= parts * LARGEST)
        return Blocks(*(max(size // parts, min(size, LANES)) for size in (self.queries, self.keys)))


BLOCKS = Blocks()


class Program:
    """Blocks of the arrays (B, L or M, C) and of the numbers of a query, for programs (story, group of heads, ...)."""

    def __init__(self, q: jax.Array, k: jax.Array, blocks: Blocks):
        self.batch, self.length, self.count, self.depth = q.shape
        self.keys, self.dtype = k.shape[1], q.dtype
        self.width = group_width(self.count, self.depth)
        blocks = blocks.fitting(self.width * self.dtype.itemsize)
        self.block = Blocks(_block(self.length, blocks.queries, SUBLANES), _block(self.keys, blocks.keys, LANES))
        self.rows = round_up(self.length, self.block.queries)
        self.key_rows = round_up(self.keys, self.block.keys)
        self.groups = self.count * self.depth // self.width
        self.heads = heads_of(self.width, self.depth)

    def tokens(self, x: jax.Array, rows: int) -> jax.Array:
        """(B, L, N, D) -> (B, rows, N D), padded with zeros."""
        x = x.reshape(*x.shape[:2], -1)
        return jnp.pad(x, [(0, 0), (0, rows - x.shape[1]), (0, 0)])

    def bias(self) -> jax.Array:
        """(rows of keys,): what is added to every score of a key; the padding is hidden."""
        return jnp.where(jnp.arange(self.key_rows) < self.keys, 0.0, HIDDEN).astype(jnp.float32)

    def query_grid(self) -> tuple[int, ...]:
        return self.batch, self.groups, self.rows // self.block.queries, self.key_rows // self.block.keys

    def cost(self, *, products: int, needed: int, queries: int, keys: int, keys_stay: bool = False) -> dict[str, Any]:
        """`cost.cost` of a program that reads or writes so many arrays of queries and of keys (or values).

        Keys pass by the queries of a block (with `keys_stay`, queries by keys) and are read anew for every such block, unless
        they are one block themselves.
        """
        sides = [(queries * self.length, self.rows // self.block.queries), (keys * self.keys, self.query_grid()[3])]
        (stay, stops), (passing, blocks) = reversed(sides) if keys_stay else sides
        tokens = stay + passing * (stops if blocks > 1 else 1)
        moved = self.batch * tokens * self.count * self.depth * self.dtype.itemsize
        scores = self.batch * self.count * self.length * self.keys
        return cost(scores=scores, depth=self.depth, products=products, needed=needed, moved=moved)

    def spec(self, size: int, axis: int) -> pl.BlockSpec:
        """Rows of (B, rows, C) that lie along one axis of the grid."""
        return pl.BlockSpec((1, size, self.width), lambda *at: (at[0], at[axis], at[1]))

    def statistic(self, axis: int) -> pl.BlockSpec:
        """One number of each query and head, (B, G, rows, N / G)."""
        return pl.BlockSpec((1, 1, self.block.queries, len(self.heads)), lambda *at: (at[0], at[1], at[axis], 0))


def _block(length: int, at_most: int, multiple: int) -> int:
    return min(at_most, round_up(length, multiple))
