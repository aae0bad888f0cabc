"""The TPU form of SETA: its cut of a row, who sees whom, and its lowering for every chip; no TPU is needed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyjax.errors import StoryjaxError
from storyjax.kernels.lanes import group_width, heads_of
from storyjax.kernels.story_attention import api, story_attention, tpu
from storyjax.kernels.story_attention.shapes import SHAPES
from storyjax.kernels.story_attention.tiling import Tiling, choose_tiling, copies_of_keys, from_rows, tiling_of, to_rows
from tests.kernels.lowered import every_shape_and_every_tpu, lowered_for_tpu


@given(frames=st.integers(1, 64), width=st.integers(1, 64))
@settings(max_examples=200, deadline=None)
def test_a_chosen_tiling_covers_the_row_and_starts_at_tiles_of_memory(frames, width):
    tiling = choose_tiling(frames, width)
    assert tiling is not None
    assert tiling.row >= frames * width
    assert tiling.row % tiling.tile == 0
    assert tiling.tile % 16 == tiling.halo % 16 == 0
    assert tiling.tile * tiling.window <= 400 * 400
    if tiling.halo:
        assert tiling.halo >= tiling.frames >= frames  # a whole column on either side
        assert tiling.tile % tiling.halo == 0
    else:
        assert tiling.tiles == 1


def test_wider_tokens_take_smaller_tiles():
    """A row of 336 tokens fits whole in bfloat16; in float32 its keys and values alone would fill a core's memory."""
    assert choose_tiling(42, 8, 640, 2) == choose_tiling(42, 8) == Tiling(42, 336, 336, 0)
    assert choose_tiling(42, 8, 640, 4) == Tiling(48, 384, 96, 48)
    assert choose_tiling(100, 16, 640, 4) is None
    q = jax.ShapeDtypeStruct((1, 42, 2, 8, 8, 160), jnp.float32)
    assert tiling_of(q) == Tiling(48, 384, 96, 48)


def counted(frames, width):
    """{(query column, frame, key column, frame): times seen} in another row and in the own one, by walking the window."""
    other, own = np.zeros((2, width, frames, width, frames), int)
    for w, t, u in np.ndindex(width, frames, frames):
        for step in (-1, 0, 1):
            column = np.clip(w + step, 0, width - 1)
            other[w, t, column, u] += u != t
            own[w, t, column, u] += u != t or step == 0
    return other, own


@pytest.mark.parametrize(
    ("tiling", "frames", "width"),
    [(None, 3, 4), (None, 2, 1), (Tiling(4, 24, 8, 4), 3, 6), (Tiling(3, 18, 9, 4), 3, 6)],
)
def test_the_table_counts_how_often_a_key_is_seen(tiling, frames, width):
    tiling = tiling or choose_tiling(frames, width)
    for table, expected in zip(np.asarray(copies_of_keys(tiling, frames, width)), counted(frames, width)):
        whole = np.zeros((tiling.row, tiling.row + 2 * tiling.halo), int)  # a halo on either side of the row
        for tile in range(tiling.tiles):
            first = tile * tiling.tile
            whole[first : first + tiling.tile, first : first + tiling.window] = table[tile]
        inner = whole[:, tiling.halo : tiling.halo + tiling.row]
        assert inner.sum() == whole.sum()  # nothing outside the row
        np.testing.assert_array_equal(inner, inner.T)
        tokens = [w * tiling.frames + t for w in range(width) for t in range(frames)]
        np.testing.assert_array_equal(inner[np.ix_(tokens, tokens)], expected.reshape(len(tokens), -1))
        assert inner.sum() == expected.sum()  # nothing of the padding


@pytest.mark.parametrize("tiling", [choose_tiling(3, 4), Tiling(16, 64, 32, 16)])
def test_rows_of_tokens_come_back_as_pictures(tiling):
    x = np.arange(2 * 3 * 2 * 4 * 2 * 5, dtype=np.float32).reshape(2, 3, 2, 4, 2, 5)
    rows = to_rows(x, tiling)
    assert rows.shape == (2, 2, tiling.row, 10)
    np.testing.assert_array_equal(rows[1, 0, tiling.frames * 2 + 1], x[1, 1, 0, 2].reshape(-1))  # column 2, frame 1
    np.testing.assert_array_equal(from_rows(rows, x.shape, tiling), x)


@pytest.mark.parametrize(("heads", "depth"), [(8, 40), (8, 80), (8, 160), (5, 64), (3, 4)])
def test_the_windows_of_the_heads_cover_them(heads, depth):
    width = group_width(heads, depth)
    assert heads * depth % width == 0
    for head in heads_of(width, depth):
        assert head.start % 128 == 0
        assert head.stop % 128 == 0 or head.stop == width
        own = np.asarray(head.own(2))
        assert own.shape == (2, head.stop - head.start)
        assert own.sum() == 2 * depth
        assert own[0].argmax() == head.first - head.start


@pytest.mark.parametrize(("name", "kind"), every_shape_and_every_tpu(SHAPES))
def test_lowers_for_every_tpu(name, kind):
    x = jax.ShapeDtypeStruct(SHAPES[name], jnp.bfloat16)

    def there_and_back(q, k, v, d_out):
        out, back = jax.vjp(lambda *qkv: tpu.story_attention(*qkv, 0.1), q, k, v)
        return out, back(d_out)

    assert lowered_for_tpu(there_and_back, x, x, x, x, kind=kind).count("tpu_custom_call") == 3


def test_a_tpu_is_what_the_named_implementation_asks_for():
    x = np.zeros((1, 2, 2, 2, 1, 4), np.float32)
    with pytest.raises(StoryjaxError, match="story_attention 'tpu' needs a TPU, this is 'cpu'; use 'xla'"):
        story_attention(x, x, x, implementation="tpu")


def test_a_tpu_takes_the_kernel_where_it_fits_and_the_plain_form_elsewhere(monkeypatch):
    fits = jax.ShapeDtypeStruct((1, 5, 32, 32, 8, 40), jnp.bfloat16)
    assert api.choose(fits, "tpu") == "tpu"
    assert api.choose(jax.ShapeDtypeStruct(fits.shape, jnp.float16), "tpu") == "xla"
    assert api.choose(fits, "gpu") == api.choose(fits, "cpu") == "xla"
    monkeypatch.setattr(api, "platform", lambda: "tpu")
    half = np.zeros((1, 2, 2, 2, 1, 4), np.float16)
    with pytest.raises(StoryjaxError, match="'tpu' takes bfloat16 and float32, got float16; use 'xla'"):
        story_attention(half, half, half, implementation="tpu")
    long = np.zeros((1, 240, 1, 2, 1, 1), np.float32)
    with pytest.raises(StoryjaxError, match="'tpu' finds no tile that fits on the chip for 240 frames and 2 columns"):
        story_attention(long, long, long, implementation="tpu")
