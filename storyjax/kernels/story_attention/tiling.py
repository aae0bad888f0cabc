"""How the TPU kernels cut a picture's rows into tiles, and which key every query of a tile sees how often.

A row of the picture is one sequence of tokens, column by column, each column its F frames: what a pixel sees in one row
is then one contiguous run of three columns. A tile is a run of whole columns; its queries meet, in each of three rows, the tile
itself and at least one column on either side (the halo). Products between columns that are not neighbours are computed and masked:
matrix units want large products, and a tile of few columns wastes few.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from storyjax.kernels.lanes import LANES, SUBLANES, group_width, round_up

HIDDEN = -1e30  # added to a score, leaves nothing of it, and stays finite
LARGEST = 400 * 400  # scores of a tile against one row, of which a program makes a dozen arrays
SCORES = 8  # arrays of scores that a program holds at one time, biases included
MEMORY = 16 << 20  # bytes that the compiler grants a program


@dataclasses.dataclass(frozen=True)
class Tiling:
    """frames: of a column, padded; row, tile, halo: numbers of tokens, the row padded; a halo of 0 means one tile a row."""

    frames: int
    row: int
    tile: int
    halo: int

    @property
    def tiles(self) -> int:
        return self.row // self.tile

    @property
    def window(self) -> int:
        """Tokens of one row that a tile meets."""
        return self.tile + 2 * self.halo


def tiling_of(q: jax.Array) -> Tiling | None:
    """The tiling of queries (B, F, H, W, N, D); None if none fits."""
    return choose_tiling(q.shape[1], q.shape[3], group_width(*q.shape[4:]), q.dtype.itemsize)


def choose_tiling(frames: int, width: int, channels: int = LANES, itemsize: int = 2) -> Tiling | None:
    """The cheapest cut of a row of `width` columns of `frames` tokens; None if none fits.

    The whole row at once, or tiles of whole columns, with frames as they are or padded so that more tiles start where the
    memory's tiles do. Cost counts passes of a matrix unit of 128 x 128. A program reads `channels` of a token, of `itemsize`
    bytes each.
    """
    row = round_up(frames * width, SUBLANES)
    choices = [Tiling(frames, row, row, 0)]
    for padded in sorted({frames, round_up(frames, SUBLANES)}):
        for tile in (padded * columns for columns in range(1, width) if width % columns == 0):
            halos = (size for size in range(SUBLANES, tile + 1, SUBLANES) if size >= padded and tile % size == 0)
            halo = next(halos, None) if tile % SUBLANES == 0 else None
            if halo:
                choices.append(Tiling(padded, padded * width, tile, halo))
    fitting = [
        choice
        for choice in choices
        if choice.tile * choice.window <= LARGEST and _held(choice, channels, itemsize) <= MEMORY
    ]
    return min(fitting, key=_cost, default=None)


def _held(tiling: Tiling, channels: int, itemsize: int) -> int:
    """Bytes that a program holds, about what the compiler of a v5e finds for the largest of the three.

    Twice what it reads and writes, at most four tiles and six windows; the six windows put together; sums; and arrays of
    scores, of which the smaller programs have more.
    """
    tile, window = channels * tiling.tile, channels * tiling.window
    blocks = itemsize * (2 * (4 * tile + 6 * window) + 6 * window)
    return blocks + 4 * (2 * tile + SCORES * tiling.tile * tiling.window)


def _cost(tiling: Tiling) -> int:
    return tiling.tiles * max(tiling.tile, LANES) * round_up(tiling.window, LANES)


def refusal(q: jax.Array) -> str | None:
    """Why the kernel cannot take queries of this shape and dtype; None if it can."""
    if q.dtype not in (jnp.bfloat16, jnp.float32):
        return f"takes bfloat16 and float32, got {q.dtype}"
    if tiling_of(q) is None:
        return f"finds no tile that fits on the chip for {q.shape[1]} frames and {q.shape[3]} columns"
    return None


def copies_of_keys(tiling: Tiling, frames: int, width: int) -> jax.Array:
    """(2, tiles, tile, window) integers: how often a query meets a key in another row of its window, and in its own row.

    At the picture's edges a key stands for the copies of itself that the edge was replicated to. The table is symmetric
    in queries and keys, so the same one serves the gradients of keys.
    """
    query = jnp.arange(tiling.row).reshape(tiling.tiles, tiling.tile, 1)
    key = (tiling.tile * jnp.arange(tiling.tiles) - tiling.halo)[:, None, None] + jnp.arange(tiling.window)
    (query_column, query_frame), (key_column, key_frame) = (jnp.divmod(x, tiling.frames) for x in (query, key))
    real = (query_frame < frames) & (query_column < width) & (key_frame < frames) & (key >= 0) & (key_column < width)
    same = query_column == key_column
    copies = jnp.where(same, 1 + (query_column == 0) + (query_column == width - 1), 0)
    copies = jnp.where(jnp.abs(query_column - key_column) == 1, 1, copies) * (real & (query_frame != key_frame))
    return jnp.stack([copies, copies + (real & same & (query_frame == key_frame))])


def bias(tiling: Tiling, frames: int, width: int) -> jax.Array:
    """log of `copies_of_keys`, float32: added to a score it counts the key that often."""
    copies = copies_of_keys(tiling, frames, width)
    return jnp.where(copies > 0, jnp.log(jnp.maximum(copies, 1).astype(jnp.float32)), HIDDEN)


def to_rows(x: jax.Array, tiling: Tiling) -> jax.Array:
    """(B, F, H, W, N, D) -> (B, H, row, N D)."""
    batch, frames, height, width, heads, depth = x.shape
    x = jnp.transpose(x, (0, 2, 3, 1, 4, 5)).reshape(batch, height, width, frames, heads * depth)
    x = jnp.pad(x, [(0, 0)] * 3 + [(0, tiling.frames - frames), (0, 0)])
    x = x.reshape(batch, height, width * tiling.frames, heads * depth)
    return jnp.pad(x, [(0, 0)] * 2 + [(0, tiling.row - x.shape[2]), (0, 0)])


def from_rows(x: jax.Array, shape: tuple[int, ...], tiling: Tiling) -> jax.Array:
    """The inverse of `to_rows`."""
    batch, frames, height, width, heads, depth = shape
    x = x[:, :, : width * tiling.frames].reshape(batch, height, width, tiling.frames, heads, depth)
    return jnp.transpose(x[:, :, :, :frames], (0, 3, 1, 2, 4, 5))


def windows(x: jax.Array, tiling: Tiling) -> jax.Array:
    """(..., row) -> (..., tiles, window): what each tile meets, zero outside the row. For small arrays only: it copies."""
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(tiling.halo, tiling.halo)])
    starts = range(0, tiling.row, tiling.tile)
    return jnp.stack([x[..., start : start + tiling.window] for start in starts], axis=-2)


@functools.cache
def pieces(tiling: Tiling) -> tuple[int, ...]:
    """Sizes of the blocks that make up one row's window: halo, tile, halo, or the whole row."""
    return (tiling.halo, tiling.tile, tiling.halo) if tiling.halo else (tiling.tile,)
