"""The one attention entry: its implementations give the same numbers, and a named one never falls back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.nn import attention as room
from storyjax.nn.attention import Attention, attention
from storyjax.nn.build import InitKeys

RANDOM = np.random.default_rng(11)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def inputs(lead=(2,), queries=5, keys=7, heads=3, depth=4):
    return normal(*lead, queries, heads, depth), normal(*lead, keys, heads, depth), normal(*lead, keys, heads, depth)


def reference(q, k, v, mask=None, scale=None):
    """softmax(q k^T * scale) v in float64."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = np.einsum("...lnd,...mnd->...nlm", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = scores if mask is None else np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("...nlm,...mnd->...lnd", weights / weights.sum(-1, keepdims=True), v)


@functools.partial(jax.jit, static_argnames=("implementation", "scale"))
def run(q, k, v, mask=None, **settings):
    return attention(q, k, v, mask=mask, **settings)


MASKS = {
    "none": None,
    "shared": np.tri(5, 7, 2, dtype=bool),
    "per head": np.arange(7) <= np.arange(5)[:, None] + np.arange(3)[:, None, None],
}


@pytest.mark.parametrize("implementation", ["xla", "mapped", None])
@pytest.mark.parametrize("mask", MASKS)
def test_every_implementation_equals_the_formula(implementation, mask):
    q, k, v = inputs()
    out = run(q, k, v, MASKS[mask], implementation=implementation)
    np.testing.assert_allclose(out, reference(q, k, v, MASKS[mask]), atol=2e-6)


@pytest.mark.parametrize("implementation", ["xla", "mapped"])
def test_any_leading_axes_and_another_scale(implementation):
    q, k, v = inputs(lead=(2, 1, 3))
    mask = np.stack([MASKS["shared"], ~MASKS["shared"] | (np.arange(7) == 0)])[:, None, None, None]
    out = run(q, k, v, mask, implementation=implementation, scale=0.3)
    assert out.shape == q.shape
    np.testing.assert_allclose(out, reference(q, k, v, mask, 0.3), atol=2e-6)


def test_gradients_of_the_implementations_agree():
    q, k, v = inputs(lead=())

    def loss(implementation, *qkv):
        return jnp.square(attention(*qkv, mask=MASKS["shared"], implementation=implementation)).sum()

    found = [jax.jit(jax.grad(functools.partial(loss, name), argnums=(0, 1, 2)))(q, k, v) for name in ("xla", "mapped")]
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, atol=5e-6)
        assert np.abs(one).max() > 0.1


@pytest.mark.parametrize("implementation", ["xla", "mapped"])
def test_large_scores_do_not_overflow(implementation):
    q, k, v = inputs(lead=())
    out = run(1e3 * q, 1e3 * k, v, implementation=implementation)
    np.testing.assert_allclose(out, reference(1e3 * q, 1e3 * k, v), atol=1e-5)


@pytest.mark.parametrize("implementation", ["xla", "mapped"])
def test_bfloat16_stays_bfloat16_with_scores_in_float32(implementation):
    half = [jnp.asarray(x, jnp.bfloat16) for x in inputs()]
    out = run(*half, implementation=implementation)
    assert out.dtype == jnp.bfloat16
    exact = reference(*(np.asarray(x, np.float32) for x in half))
    assert np.abs(np.asarray(out, np.float32) - exact).max() < 0.02


def test_long_sequences_go_head_by_head_on_a_cpu(monkeypatch):
    q = jax.ShapeDtypeStruct((1, 512, 2, 8), jnp.float32)
    assert room._choose(q, q, None) == "mapped"
    assert room._choose(q, q, np.ones((512, 512), bool)) == "xla"
    assert room._choose(jax.ShapeDtypeStruct((1, 511, 2, 8), jnp.float32), q, None) == "xla"


def test_an_unknown_implementation_names_the_nearest():
    with pytest.raises(StoryjaxError, match="attention has no implementation 'cudn'; did you mean 'cudnn'"):
        attention(*inputs(), implementation="cudn")


def test_a_named_implementation_says_why_it_cannot_run(monkeypatch):
    with pytest.raises(StoryjaxError, match="'cudnn' needs an NVIDIA GPU, this is 'cpu'; use 'xla'"):
        attention(*inputs(), implementation="cudnn")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(StoryjaxError, match=r"needs bfloat16 or float16 of shape \(B, L, N, D\), got float32"):
        attention(*inputs(), implementation="cudnn")


def test_the_module_projects_without_bias_and_reads_another_context():
    module = Attention(8, 2, context=6, rngs=InitKeys(jax.random.key(0)))
    assert module.to_q.bias is None
    assert module.to_k.bias is None
    assert module.to_out.bias is not None
    x, context = normal(2, 5, 8), normal(2, 3, 6)
    q, k, v = (
        a @ np.asarray(p.kernel[...]) for a, p in ((x, module.to_q), (context, module.to_k), (context, module.to_v))
    )
    mixed = reference(*(a.reshape(2, -1, 2, 4) for a in (q, k, v))).reshape(2, 5, 8)
    expected = mixed @ np.asarray(module.to_out.kernel[...]) + np.asarray(module.to_out.bias[...])
    np.testing.assert_allclose(jax.jit(lambda m, *a: m(*a))(module, x, context), expected, atol=2e-6)


def test_heads_must_divide_the_channels():
    with pytest.raises(StoryjaxError, match="10 channels do not divide into 4 heads"):
        Attention(10, 4, rngs=InitKeys(jax.random.key(0)))
