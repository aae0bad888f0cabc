"""Fused attention: our TPU program (interpreted) equals the formula, forward and backward, and each platform takes its own."""

import functools
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.kernels.flash_attention import api, choose, flash, flash_attention, reference, splash, tpu
from storyjax.kernels.flash_attention.program import BLOCKS, Blocks
from storyjax.kernels.flash_attention.shapes import SHAPES
from tests.kernels.lowered import every_shape_and_every_tpu, lowered_for_tpu

RANDOM = np.random.default_rng(23)
# One block of queries and keys, and several: 300 keys in blocks of 128 leave 84 rows of padding, 40 queries in 16 leave 8.
BACKENDS = {
    "reference": reference.flash_attention,
    "tpu, one block": lambda q, k, v, scale: tpu.flash_attention(q, k, v, scale, BLOCKS, True),
    "tpu, blocks": lambda q, k, v, scale: tpu.flash_attention(q, k, v, scale, Blocks(16, 128), True),
}
# (B, L, N, D), M: text, several blocks, heads that cross the registers of 128 lanes, a group of heads for each register
CASES = [((2, 40, 2, 8), 77), ((1, 20, 1, 4), 300), ((1, 40, 4, 40), 24), ((1, 16, 4, 64), 16), ((1, 1, 1, 8), 1)]
# Programs compile for longer than they run here: less work on machine code halves that.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def inputs(shape, keys):
    batch, _, heads, depth = shape
    return normal(*shape), normal(batch, keys, heads, depth), normal(batch, keys, heads, depth)


def formula(q, k, v, scale):
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = scale * np.einsum("blnd,bmnd->bnlm", q, k)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bnlm,bmnd->blnd", weights / weights.sum(-1, keepdims=True), v)


@functools.cache
def jitted(name):
    return quick_jit(BACKENDS[name], static_argnums=3)


@functools.cache
def jitted_gradients(name):
    def loss(q, k, v, weight):
        return (BACKENDS[name](q, k, v, 0.4).astype(jnp.float32) * weight).sum()

    return quick_jit(jax.grad(loss, argnums=(0, 1, 2)))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_backend_equals_the_formula(name, case):
    q, k, v = inputs(*case)
    np.testing.assert_allclose(jitted(name)(q, k, v, 0.4), formula(q, k, v, 0.4), atol=3e-6)


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "reference"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_equal_those_of_the_reference(name, case):
    q, k, v = inputs(*case)
    weight = normal(*q.shape)
    found, expected = (jitted_gradients(one)(q, k, v, weight) for one in (name, "reference"))
    for letter, one, other in zip("qkv", found, expected):
        np.testing.assert_allclose(one, other, atol=3e-5, err_msg=letter)
    assert np.abs(expected[2]).max() > 0.02


@pytest.mark.parametrize("name", BACKENDS)
def test_large_scores_do_not_overflow(name):
    q, k, v = inputs((1, 20, 1, 4), 300)
    np.testing.assert_allclose(jitted(name)(300 * q, 300 * k, v, 0.5), formula(300 * q, 300 * k, v, 0.5), atol=1e-4)
    for grad in jitted_gradients(name)(300 * q, 300 * k, v, np.ones_like(q)):
        assert np.isfinite(grad).all()


@pytest.mark.parametrize("name", BACKENDS)
def test_bfloat16_stays_bfloat16_with_the_softmax_in_float32(name):
    half = [jnp.asarray(x, jnp.bfloat16) for x in inputs((1, 40, 2, 8), 77)]
    out = jitted(name)(*half, 0.4)
    assert out.dtype == jnp.bfloat16
    exact = [np.asarray(x, np.float32) for x in half]
    assert np.abs(np.asarray(out, np.float32) - formula(*exact, 0.4)).max() < 0.02
    weight = np.ones(out.shape, np.float32)
    for grad, other in zip(jitted_gradients(name)(*half, weight), jitted_gradients("reference")(*exact, weight)):
        assert grad.dtype == jnp.bfloat16
        assert np.abs(np.asarray(grad, np.float32) - other).max() < 0.03 * max(1, np.abs(other).max())


def test_blocks_of_wide_tokens_are_smaller():
    """512 keys of 640 channels in float32, twice each with their gradients, would fill a core's memory."""
    assert BLOCKS.fitting(4 * 512) == BLOCKS.fitting(2 * 1024) == BLOCKS
    assert BLOCKS.fitting(4 * 640) == Blocks(128, 256)
    assert BLOCKS.fitting(4 * 1664) == Blocks(128, 128)
    assert Blocks(16, 128).fitting(4 * 1664) == Blocks(16, 128)


def abstract_inputs(name, dtype=jnp.bfloat16):
    shape, keys = SHAPES[name]
    other = jax.ShapeDtypeStruct((shape[0], keys, *shape[2:]), dtype)
    return jax.ShapeDtypeStruct(shape, dtype), other, other


@pytest.mark.parametrize(("name", "kind"), every_shape_and_every_tpu(SHAPES))
def test_lowers_for_every_tpu(name, kind):
    q, k, v = abstract_inputs(name)

    def there_and_back(q, k, v, d_out):
        out, back = jax.vjp(lambda *qkv: tpu.flash_attention(*qkv, 0.1), q, k, v)
        return out, back(d_out)

    assert lowered_for_tpu(there_and_back, q, k, v, q, kind=kind).count("tpu_custom_call") == 3


def test_the_kernel_of_the_library_lowers_where_it_is_chosen(monkeypatch):
    monkeypatch.setattr(flash, "platform", lambda: "tpu")
    monkeypatch.setattr(api, "platform", lambda: "tpu")
    q, k, v = abstract_inputs("SD 2.1 at 256, 32 x 32, self")
    assert choose(q, k) == "splash"
    assert "tpu_custom_call" in lowered_for_tpu(lambda q, k, v: splash.attend(q, k, v, None, 0.1), q, k, v)


def on(monkeypatch, name):
    monkeypatch.setattr(jax, "default_backend", lambda: name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SD 1.5 at 512, 64 x 64, self", "splash"),
        ("SD 1.5 at 1024, 32 x 32, self, heads of 160", "splash"),
        ("SD 1.5 at 512, 64 x 64, text", "flash"),  # 77 keys
        ("SD 2.1 at 256, 32 x 32, text", "flash"),
    ],
)
def test_a_tpu_takes_the_librarys_kernel_and_ours_where_that_refuses(name, expected, monkeypatch):
    q, k, _ = abstract_inputs(name)
    assert choose(q, k) is None  # this is a CPU
    on(monkeypatch, "tpu")
    assert choose(q, k) == expected
    assert choose(q, k, np.ones((1, 1), bool)) is None
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    assert choose(q, k) == "flash"  # the only one that a mesh can cut


def test_a_tpu_computes_short_sequences_plainly(monkeypatch):
    on(monkeypatch, "tpu")
    q = jax.ShapeDtypeStruct((5, 256, 10, 64), jnp.bfloat16)
    assert choose(q, q) is None


def test_a_gpu_takes_cudnn_for_any_length_of_text_and_plain_products_for_wide_heads(monkeypatch):
    on(monkeypatch, "gpu")
    q, k, _ = abstract_inputs("SD 1.5 at 512, 64 x 64, text")
    assert choose(q, k) == "cudnn"
    assert choose(*abstract_inputs("SD 1.5 at 1024, 32 x 32, self, heads of 160")[:2]) is None
    assert choose(*abstract_inputs("SD 1.5 at 512, 64 x 64, text", jnp.float32)[:2]) is None


def test_an_installed_tokamax_comes_first(monkeypatch):
    q, k, v = abstract_inputs("SD 2.1 at 256, 32 x 32, self")
    with pytest.raises(
        StoryjaxError, match="'tokamax' needs the package tokamax, which is not installed; use 'reference'"
    ):
        flash_attention(q, k, v, implementation="tokamax")
    library = types.ModuleType("tokamax")
    library.__spec__ = types.SimpleNamespace(name="tokamax")
    library.dot_product_attention = lambda q, k, v, scale: ("tokamax", scale)
    monkeypatch.setitem(sys.modules, "tokamax", library)
    on(monkeypatch, "tpu")
    assert choose(q, k) == "tokamax"
    assert flash_attention(q, k, v) == ("tokamax", 0.125)


@pytest.mark.parametrize(
    ("name", "platform", "dtype", "message"),
    [
        ("flash", "cpu", jnp.bfloat16, "flash_attention 'flash' needs a TPU, this is 'cpu'; use 'reference'"),
        ("splash", "gpu", jnp.bfloat16, "flash_attention 'splash' needs a TPU, this is 'gpu'; use 'cudnn'"),
        (
            "splash",
            "tpu",
            jnp.bfloat16,
            "'splash' needs multiples of 128 queries and keys, got 1024 and 77; use 'flash'",
        ),
        ("flash", "tpu", jnp.float16, "'flash' needs bfloat16 or float32 of shape .* got float16 .*; use 'reference'"),
        ("cudnn", "tpu", jnp.bfloat16, "'cudnn' needs an NVIDIA GPU, this is 'tpu'; use 'flash'"),
        ("flsh", "cpu", jnp.bfloat16, "flash_attention has no implementation 'flsh'; did you mean 'flash'"),
    ],
)
def test_a_named_kernel_says_what_it_needs_and_what_would_run(name, platform, dtype, message, monkeypatch):
    on(monkeypatch, platform)
    with pytest.raises(StoryjaxError, match=message):
        flash_attention(*abstract_inputs("SD 2.1 at 256, 32 x 32, text", dtype), implementation=name)


def test_the_plain_form_takes_a_mask_and_the_default_scale():
    q, k, v = inputs((1, 4, 2, 16), 3)
    seen = np.array([[True, True, False]] * 4)
    out = flash_attention(q, k, v, mask=seen)
    np.testing.assert_allclose(out, formula(q, k[:, :2], v[:, :2], 0.25), atol=3e-6)


def test_other_shapes_are_refused():
    q, k, v = inputs((1, 4, 2, 16), 3)
    with pytest.raises(StoryjaxError, match=r"k and v \(B, M, N, D\), got \(1, 4, 2, 16\), \(1, 3, 1, 16\)"):
        flash_attention(q, k[:, :, :1], v[:, :, :1])
