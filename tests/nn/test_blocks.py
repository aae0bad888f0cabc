"""Blocks of the UNet: what the goldens of the official code do not reach."""

import math

import jax
import numpy as np
import pytest

from storyjax.nn.blocks import Downsample, FeedForward, ResnetBlock, TransformerBlock, Upsample, nearest_resize
from storyjax.nn.build import InitKeys

RANDOM = np.random.default_rng(13)
KEYS = InitKeys(jax.random.key(1))


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (3, 4), (2, 3), (9, 1)])
def test_nearest_resize_takes_pytorchs_pixels(size):
    x = normal(2, 3, 4, 2)
    rows, columns = ([math.floor(i * n / out) for i in range(out)] for n, out in zip((3, 4), size))
    np.testing.assert_array_equal(nearest_resize(x, size), x[:, rows][:, :, columns])


def test_the_feed_forward_gate_is_the_exact_gelu():
    layer, x = FeedForward(4, rngs=KEYS), 2 * normal(6, 4)
    hidden = x @ np.asarray(layer.proj_in.kernel[...]) + np.asarray(layer.proj_in.bias[...])
    value, gate = np.split(hidden.astype(np.float64), 2, axis=-1)
    assert value.shape == (6, 16)
    exact = 0.5 * gate * (1 + np.vectorize(math.erf)(gate / math.sqrt(2)))
    tanh = 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
    kernel, bias = np.asarray(layer.proj_out.kernel[...]), np.asarray(layer.proj_out.bias[...])
    out = np.asarray(jax.jit(lambda m, x: m(x))(layer, x))
    np.testing.assert_allclose(out, (value * exact) @ kernel + bias, atol=2e-6)
    assert np.abs(out - ((value * tanh) @ kernel + bias)).max() > 2e-5


def test_a_residual_block_projects_its_shortcut_only_where_widths_differ():
    settings = {"temb": None, "groups": 2, "eps": 1e-5, "rngs": KEYS}
    assert ResnetBlock(4, 4, **settings).conv_shortcut is None
    block = ResnetBlock(4, 6, **settings)
    assert block.conv_shortcut.kernel.shape == (1, 1, 4, 6)
    assert block.time_emb_proj is None
    assert jax.eval_shape(block, normal(2, 5, 3, 4)).shape == (2, 5, 3, 6)


def test_the_time_embedding_moves_a_residual_block():
    block, x = ResnetBlock(4, 4, temb=3, groups=2, eps=1e-5, rngs=KEYS), normal(2, 4, 4, 4)
    run = jax.jit(lambda m, x, t: m(x, t))
    same, one = normal(3), normal(3)
    before, after = run(block, x, np.stack([same, same])), run(block, x, np.stack([same, one]))
    np.testing.assert_array_equal(before[0], after[0])
    assert np.abs(before[1] - after[1]).max() > 1e-3


def test_sampling_layers_halve_and_double_and_reach_odd_sizes():
    x = normal(1, 5, 7, 4)
    assert jax.eval_shape(Downsample(4, rngs=KEYS), x).shape == (1, 3, 4, 4)
    assert jax.eval_shape(Downsample(4, padding=(0, 1), rngs=KEYS), x[:, :4, :6]).shape == (1, 2, 3, 4)
    assert jax.eval_shape(Upsample(4, rngs=KEYS), x).shape == (1, 10, 14, 4)
    up = Upsample(4, rngs=KEYS)
    assert jax.eval_shape(lambda x: up(x, (9, 13)), x).shape == (1, 9, 13, 4)


def test_a_slot_chooses_what_self_attention_looks_at():
    seen = []

    def only_the_first(tokens, slot_context):
        seen.append((np.asarray(tokens), slot_context))
        return tokens[:, :1]

    block = TransformerBlock(4, 2, context=3, key_tokens=only_the_first, rngs=KEYS)
    y, context = normal(1, 5, 4), normal(1, 2, 3)
    out = block(y, context, "call")
    tokens, slot_context = seen[0]
    assert slot_context == "call"
    np.testing.assert_allclose(tokens.mean(-1), 0, atol=1e-6)  # already normalised
    moved = np.concatenate([y[:, :1], y[:, 1:] + normal(1, 4, 4)], axis=1)
    block.key_tokens = None
    assert np.abs(block(y, context) - out).max() > 1e-3
    block.key_tokens = only_the_first
    np.testing.assert_allclose(block(moved, context)[:, 0], out[:, 0], atol=1e-6)  # the other tokens are not looked at
