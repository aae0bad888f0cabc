"""What an NVIDIA GPU is given, lowered for one that is not there: cuDNN's attention where it is chosen, plain XLA elsewhere.

Two answers are made up, the version of cuDNN and the age of the GPU, because JAX asks the machine for them. Not lowered here are
`tokamax`, which refuses where there is no GPU, and what cuDNN itself would refuse: it looks at a call when it is compiled.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.kernels.flash_attention import flash_attention, reference
from storyjax.kernels.flash_attention import shapes as flash_shapes
from storyjax.kernels.story_attention import shapes as story_shapes
from storyjax.kernels.story_attention import story_attention
from storyjax.nn.attention import attention
from tests.kernels.lowered import as_if_cudnn_were_here, lowered_for_cuda, there_and_back

PLAIN = ("SD 1.5 at 1024, 32 x 32, self, heads of 160", "picture codec at 512, one head")
RANDOM = np.random.default_rng(31)
# Programs compile for longer than they run here: less work on machine code halves that.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture
def gpu(monkeypatch):
    as_if_cudnn_were_here(monkeypatch)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


@pytest.mark.parametrize("name", story_shapes.SHAPES)
@pytest.mark.usefixtures("gpu")
def test_attention_over_stories_is_plain_xla(name):
    x = jax.ShapeDtypeStruct(story_shapes.SHAPES[name], jnp.bfloat16)
    text = lowered_for_cuda(there_and_back(story_attention), x, x, x, x)
    assert "custom_call" not in text
    assert text.count("stablehlo.dot_general") == 7  # two forward, five backward, in loops over the window
    assert text.count("stablehlo.while") == 2


@pytest.mark.parametrize("entry", [attention, flash_attention])
@pytest.mark.parametrize("name", flash_shapes.SHAPES)
@pytest.mark.usefixtures("gpu")
def test_attention_over_tokens_is_cudnns_there_and_back(name, entry):
    shape, keys = flash_shapes.SHAPES[name]
    q, k = (jax.ShapeDtypeStruct((shape[0], length, *shape[2:]), jnp.bfloat16) for length in (shape[1], keys))
    text = lowered_for_cuda(there_and_back(entry), q, k, k, q)
    for call in ("@__cudnn$fmhaSoftmax(", "@__cudnn$fmhaSoftmaxBackward("):
        assert text.count(call) == (0 if name in PLAIN else 1)


def test_without_the_made_up_answers_jax_refuses(monkeypatch):
    """If this fails, JAX lowers for a GPU by itself now, and the answers can go."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x = jax.ShapeDtypeStruct((2, 16, 4, 64), jnp.bfloat16)
    with pytest.raises(RuntimeError, match="cuDNN is not detected"):
        lowered_for_cuda(attention, x, x, x)


@pytest.mark.parametrize(("queries", "keys"), [(16, 77), (5, 5), (7, 16)])
def test_odd_numbers_of_tokens_are_made_even_and_change_nothing(queries, keys, gpu, monkeypatch):
    plain, sizes = jax.nn.dot_product_attention, []

    def run(q, k, v, *, implementation, **more):
        sizes.append((implementation, q.shape[1] % 2, k.shape[1] % 2))
        return plain(q, k, v, implementation="xla", **more)

    monkeypatch.setattr(jax.nn, "dot_product_attention", run)
    q, k, v, d_out = (
        jnp.asarray(RANDOM.standard_normal((2, n, 3, 8)), jnp.bfloat16) for n in (queries, keys, keys, queries)
    )
    found = quick_jit(there_and_back(functools.partial(flash_attention, implementation="cudnn")))(q, k, v, d_out)
    exact = [x.astype(jnp.float32) for x in (q, k, v, d_out)]
    expected = quick_jit(there_and_back(lambda q, k, v: reference.flash_attention(q, k, v, 8**-0.5)))(*exact)
    assert sizes == [("cudnn", 0, 0)]
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        assert one.shape == other.shape
        np.testing.assert_allclose(one.astype(jnp.float32), other, atol=0.03)


@pytest.mark.usefixtures("gpu")
def test_odd_numbers_under_a_mask_are_refused_by_name():
    q, k = (jax.ShapeDtypeStruct((2, n, 3, 8), jnp.bfloat16) for n in (16, 77))
    message = "'cudnn' needs even numbers of queries and keys where there is a mask, got 16 and 77; use 'xla'"
    with pytest.raises(StoryjaxError, match=message):
        attention(q, k, k, mask=np.ones((16, 77), bool), implementation="cudnn")
