"""SETA: every backend gives the same values and gradients, and sees what the paper says; the Pallas form is interpreted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.kernels.story_attention import api, reference, story_attention, tpu, xla
from storyjax.kernels.story_attention.tiling import Tiling

RANDOM = np.random.default_rng(5)


def interpreted(q, k, v, scale):
    """The TPU program on a CPU."""
    return tpu.story_attention(q, k, v, scale, TILINGS.get(q.shape[1:4]), True)


BACKENDS = {"gathered": reference.story_attention, "xla": xla.story_attention, "tpu": interpreted}
# (B, F, H, W, N, D): the paper's five frames, one frame, one pixel, more frames than pixels, a row of two tiles
SHAPES = [(2, 5, 4, 3, 2, 8), (1, 1, 3, 2, 1, 4), (1, 3, 1, 1, 2, 4), (1, 16, 2, 4, 3, 4), (1, 5, 2, 32, 1, 4)]
TILINGS = {(16, 2, 4): Tiling(16, 64, 32, 16)}  # two tiles of two columns, where the whole row would be chosen
# Programs compile for longer than they run here: less work on machine code halves that.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def inputs(shape):
    return tuple(normal(*shape) for _ in range(3))


def by_hand(q, k, v, scale):
    """The definition, one pixel and one frame at a time, in float64."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    _, frames, height, width, _, _ = q.shape
    out = np.zeros_like(q)
    for t, y, x in np.ndindex(frames, height, width):
        window = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        seen = [(u, i, j) for u in range(frames) for i, j in window if u != t or (i, j) == (0, 0)]
        places = [(u, np.clip(y + i, 0, height - 1), np.clip(x + j, 0, width - 1)) for u, i, j in seen]
        keys, values = (np.stack([a[:, u, r, c] for u, r, c in places], axis=-2) for a in (k, v))  # (B, N, keys, D)
        scores = scale * np.einsum("bnd,bnmd->bnm", q[:, t, y, x], keys)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, t, y, x] = np.einsum("bnm,bnmd->bnd", weights / weights.sum(-1, keepdims=True), values)
    return out


@functools.cache
def jitted(name):
    return quick_jit(BACKENDS[name], static_argnums=3)


@functools.cache
def jitted_gradients(name):
    def loss(q, k, v, weight, scale):
        return (BACKENDS[name](q, k, v, scale).astype(jnp.float32) * weight).sum()

    return quick_jit(jax.grad(loss, argnums=(0, 1, 2)), static_argnums=4)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_backend_equals_the_definition(name, shape):
    q, k, v = inputs(shape)
    np.testing.assert_allclose(jitted(name)(q, k, v, 0.4), by_hand(q, k, v, 0.4), atol=3e-6)


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "gathered"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_equal_those_of_the_reference(name, shape):
    q, k, v = inputs(shape)
    weight = normal(*shape)
    found = jitted_gradients(name)(q, k, v, weight, 0.4)
    expected = jitted_gradients("gathered")(q, k, v, weight, 0.4)
    for letter, one, other in zip("qkv", found, expected):
        np.testing.assert_allclose(one, other, atol=1e-5, err_msg=letter)
    assert np.abs(expected[2]).max() > 0.1


@pytest.mark.parametrize("name", BACKENDS)
def test_gradients_equal_differences(name):
    """Along one random direction of all inputs, edges included; central differences of the float64 definition."""
    shape = (1, 3, 3, 2, 2, 4)
    x, direction, weight = inputs(shape), inputs(shape), normal(*shape)
    step = 1e-5
    ends = ([a.astype(np.float64) + sign * step * d for a, d in zip(x, direction)] for sign in (1, -1))
    ahead, behind = (by_hand(*end, 0.5) for end in ends)
    expected = ((ahead - behind) * weight).sum() / (2 * step)
    found = sum((g * d).sum() for g, d in zip(jitted_gradients(name)(*x, weight, 0.5), direction))
    assert abs(found - expected) < 2e-3 * abs(expected) + 1e-3


@pytest.mark.parametrize("name", BACKENDS)
def test_large_scores_do_not_overflow(name):
    q, k, v = inputs((1, 3, 2, 2, 1, 4))
    out = jitted(name)(300 * q, 300 * k, v, 0.5)
    np.testing.assert_allclose(out, by_hand(300 * q, 300 * k, v, 0.5), atol=1e-4)
    for grad in jitted_gradients(name)(300 * q, 300 * k, v, np.ones_like(v), 0.5):
        assert np.isfinite(grad).all()


@pytest.mark.parametrize("name", BACKENDS)
def test_bfloat16_stays_bfloat16_with_the_softmax_in_float32(name):
    half = [jnp.asarray(x, jnp.bfloat16) for x in inputs((1, 5, 3, 3, 2, 8))]
    out = jitted(name)(*half, 0.3)
    assert out.dtype == jnp.bfloat16
    exact = [np.asarray(x, np.float32) for x in half]
    assert np.abs(np.asarray(out, np.float32) - by_hand(*exact, 0.3)).max() < 0.02
    weight = np.ones(out.shape, np.float32)
    expected = jitted_gradients("gathered")(*exact, weight, 0.3)
    for grad, other in zip(jitted_gradients(name)(*half, weight, 0.3), expected):
        assert grad.dtype == jnp.bfloat16
        assert np.abs(np.asarray(grad, np.float32) - other).max() < 0.03 * max(1, np.abs(other).max())


def test_the_plain_form_never_holds_the_window():
    """Nine copies of keys and values are what the reference holds, and what the plain form must not."""
    shape = jax.ShapeDtypeStruct((1, 5, 16, 16, 2, 64), jnp.float32)

    def scratch(name):
        analysis = jax.jit(BACKENDS[name], static_argnums=3).lower(shape, shape, shape, 0.3).compile().memory_analysis()
        return analysis.temp_size_in_bytes / (4 * np.prod(shape.shape))

    assert scratch("gathered") > 18
    assert scratch("xla") < 14


def test_the_scale_is_one_over_the_root_of_the_head_width():
    q, k, v = inputs((1, 2, 2, 2, 1, 4))
    np.testing.assert_allclose(jax.jit(story_attention)(q, k, v), by_hand(q, k, v, 0.5), atol=3e-6)


@pytest.mark.parametrize("implementation", ["xla", "gathered"])
def test_a_named_implementation_is_the_one_that_runs(implementation, monkeypatch):
    q, k, v = inputs((1, 2, 2, 2, 1, 4))
    for name, module in (("xla", api.xla), ("gathered", api.reference)):
        monkeypatch.setattr(module, "story_attention", lambda q, k, v, scale, name=name: name)
    assert story_attention(q, k, v, implementation=implementation) == implementation


def test_an_unknown_implementation_names_the_nearest():
    with pytest.raises(StoryjaxError, match="story_attention has no implementation 'gather'; did you mean 'gathered'"):
        story_attention(*inputs((1, 2, 2, 2, 1, 4)), implementation="gather")


def test_other_shapes_and_mixed_dtypes_are_refused():
    q, k, v = inputs((1, 2, 2, 2, 1, 4))
    with pytest.raises(
        StoryjaxError, match=r"one shape \(B, F, H, W, N, D\), got \(1, 2, 2, 2, 1, 4\), \(1, 2, 2, 2, 4\)"
    ):
        story_attention(q, k[..., 0, :], v)
    with pytest.raises(StoryjaxError, match="one dtype, got float32, bfloat16, float32"):
        story_attention(q, jnp.asarray(k, jnp.bfloat16), v)
