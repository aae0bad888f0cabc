"""Operation counts: every rule against its formula, whole networks against goldens, and what a log makes of them."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from storyjax.models.unet import UNet, UNetConfig
from storyjax.models.vae import AutoencoderKL, VAEConfig
from storyjax.nn.attention import attention
from storyjax.nn.build import abstract, bind
from storyjax.nn.flops import Flops, count_flops, peak_flops, speed_row, utilisation
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.model import ContextualStory
from tests import tiny
from tests.kernels.lowered import as_if_cudnn_were_here


def shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def convolve(x, kernel, stride: int = 1, groups: int = 1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=numbers, feature_group_count=groups
    )


# ----- rules ---------------------------------------------------------------------------------------------------------


def test_a_matrix_product():
    assert count_flops(jnp.matmul, shape(3, 5), shape(5, 7)) == Flops(matmul=2 * 3 * 5 * 7)


def test_a_batched_product():
    assert count_flops(jnp.matmul, shape(4, 2, 3, 5), shape(4, 2, 5, 7)).total == 4 * 2 * 2 * 3 * 5 * 7


def test_a_convolution():
    assert count_flops(convolve, shape(2, 8, 6, 4), shape(3, 3, 4, 10)) == Flops(conv=2 * 2 * 8 * 6 * 10 * 9 * 4)


def test_a_strided_convolution_is_counted_by_its_output():
    strided = functools.partial(convolve, stride=2)
    assert count_flops(strided, shape(2, 8, 6, 4), shape(3, 3, 4, 10)).total == 2 * 2 * 4 * 3 * 10 * 9 * 4


def test_groups_see_their_own_channels_only():
    grouped = functools.partial(convolve, groups=2)
    assert count_flops(grouped, shape(1, 8, 8, 4), shape(3, 3, 2, 6)).total == 2 * 64 * 6 * 9 * 2


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolutions_gradient_costs_twice_its_forward_pass(stride):
    def loss(x, kernel):
        return convolve(x, kernel, stride).sum()

    once = count_flops(loss, shape(2, 8, 8, 4), shape(3, 3, 4, 10)).total
    both = count_flops(jax.value_and_grad(loss, (0, 1)), shape(2, 8, 8, 4), shape(3, 3, 4, 10)).total
    assert both == 3 * once


def test_a_scan_counts_every_round():
    def rounds(x, weights):
        return jax.lax.scan(lambda carry, w: (carry @ w, None), x, weights)[0]

    assert count_flops(rounds, shape(3, 5), shape(11, 5, 5)).total == 11 * 2 * 3 * 5 * 5


def test_of_branches_the_largest_counts():
    def branch(x, w, flag):
        return jax.lax.cond(flag, lambda: x @ w @ w, lambda: x @ w)

    assert count_flops(branch, shape(3, 5), shape(5, 5), True).total == 2 * 2 * 3 * 5 * 5


def test_a_while_loop_is_one_round_and_says_so():
    def until(x, w):
        return jax.lax.while_loop(lambda x: x.sum() < 1, lambda x: x @ w, x)

    found = count_flops(until, shape(3, 5), shape(5, 5))
    assert found.total == 2 * 3 * 5 * 5
    assert "while loop of unknown length" in str(found)


def test_calls_checkpoints_and_custom_derivatives_are_looked_into():
    @jax.custom_vjp
    def product(x, w):
        return x @ w

    product.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))
    inside = jax.checkpoint(jax.jit(product))
    assert count_flops(inside, shape(3, 5), shape(5, 5)) == Flops(matmul=150)


def test_what_a_checkpoint_computes_again_is_counted_and_told():
    def loss(w, x, keep: bool):
        layer = (lambda w, x: jnp.tanh(x @ w) @ w) if keep else jax.checkpoint(lambda w, x: jnp.tanh(x @ w) @ w)
        return layer(w, x).sum()

    kept = count_flops(jax.grad(functools.partial(loss, keep=True)), shape(5, 5), shape(3, 5))
    again = count_flops(jax.grad(functools.partial(loss, keep=False)), shape(5, 5), shape(3, 5))
    assert (kept.recomputes, again.recomputes) == (False, True)
    assert again.total > kept.total


def test_each_device_of_a_mesh_adds_its_share():
    mesh = AbstractMesh((4,), ("data",))
    parted = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"))
    assert count_flops(parted, shape(8, 5), shape(5, 7)).total == 2 * 8 * 5 * 7


def test_axes_that_the_compiler_divides_do_not_multiply():
    mesh = AbstractMesh((4, 2), ("data", "tensor"))
    specs = {"in_specs": (P("data"), P()), "out_specs": P("data")}
    parted = jax.shard_map(jnp.matmul, mesh=mesh, axis_names={"data"}, **specs)
    assert count_flops(parted, shape(8, 5), shape(5, 7)).total == 2 * 8 * 5 * 7


@pytest.mark.parametrize("estimate", [None, pl.CostEstimate(flops=1234, transcendentals=0, bytes_accessed=0)])
def test_a_kernel_counts_what_it_says_or_what_its_body_does(estimate):
    def kernel(x, w, out):
        out[...] = x[...] @ w[...]

    def call(x, w):
        return pl.pallas_call(
            kernel,
            grid=(4,),
            in_specs=[pl.BlockSpec((2, 5), lambda i: (i, 0)), pl.BlockSpec((5, 7), lambda i: (0, 0))],
            out_specs=pl.BlockSpec((2, 7), lambda i: (i, 0)),
            out_shape=jax.ShapeDtypeStruct((8, 7), jnp.float32),
            cost_estimate=estimate,
        )(x, w)

    found = count_flops(call, shape(8, 5), shape(5, 7))
    assert found.kernel == found.total == (2 * 8 * 5 * 7 if estimate is None else 1234)
    assert bool(found.notes) == (estimate is None)


@pytest.mark.parametrize("implementation", ["xla", "mapped"])
def test_attention_counts_the_same_by_any_way(implementation):
    run = functools.partial(attention, implementation=implementation)
    q, k = shape(2, 16, 4, 8), shape(2, 24, 4, 8)
    assert count_flops(run, q, k, k).total == 4 * 2 * 4 * 16 * 24 * 8


def test_the_fused_attention_of_a_gpu_counts_like_the_plain_one(monkeypatch):
    """Traced as on such a machine, never run."""
    as_if_cudnn_were_here(monkeypatch)
    q, k = (jax.ShapeDtypeStruct((2, length, 4, 64), jnp.bfloat16) for length in (16, 24))

    def count(function) -> Flops:
        def loss(q, k):
            return function(q, k, k).astype(jnp.float32).sum()

        return count_flops(jax.value_and_grad(loss, (0, 1)), q, k)

    cudnn = count(functools.partial(jax.nn.dot_product_attention, implementation="cudnn"))
    assert cudnn.kernel == cudnn.total == count(functools.partial(attention, implementation="xla")).total


# ----- goldens -------------------------------------------------------------------------------------------------------


@functools.cache
def unet(name: str):
    config = getattr(UNetConfig, name)()
    return config, *abstract(lambda rngs: UNet(config, rngs=rngs))


@pytest.mark.parametrize(
    ("name", "pixels", "tera"),
    [
        ("sd15", 512, 0.803),
        ("sd21_base", 256, 0.181),
        ("sd21_base", 512, 0.804),
        ("sd21_base", 768, 2.149),
        ("sdxl", 512, 1.589),
        ("sdxl", 1024, 6.761),
    ],
)
def test_a_unets_forward_pass_of_one_picture(name, pixels, tera):
    config, graphdef, params = unet(name)
    more = {"pooled_text": shape(1, 1280), "time_ids": shape(1, 6)} if config.addition else {}
    found = count_flops(
        lambda params, *given, **more: bind(graphdef, params)(*given, **more),
        params,
        shape(1, pixels // 8, pixels // 8, 4),
        shape(),
        shape(1, 77, config.cross_attention_dim),
        **more,
    )
    assert found.total / 1e12 == pytest.approx(tera, abs=0.0005)
    assert not found.notes


def test_the_codec_at_512_pixels():
    graphdef, params = abstract(lambda rngs: AutoencoderKL(VAEConfig(), rngs=rngs))
    decode = count_flops(lambda params, x: bind(graphdef, params).decode(x), params, shape(1, 64, 64, 4))
    encode = count_flops(lambda params, x: bind(graphdef, params).encode(x), params, shape(1, 512, 512, 3))
    assert decode.total / 1e12 == pytest.approx(2.515, abs=0.0005)
    assert encode.total / 1e12 == pytest.approx(1.117, abs=0.0005)


def test_a_five_frame_story_of_contextual_story():
    """1.366 + 0.106 by hand, each rounded; unrounded they are 1.3655 + 0.1058 = 1.4713.

    How the 45 (or, seen ones only, 37) neighbouring keys are reached may change 8/45 of 0.0026, less than the tolerance.
    """
    graphdef, params = abstract(lambda rngs: ContextualStory(ContextualStoryConfig(), rngs=rngs))

    def forward(params, latents, time, text, motion):
        model = bind(graphdef, params)
        return model(latents, time, model.contextualize(text), motion)

    given = shape(1, 5, 32, 32, 4), shape(), shape(1, 5, 77, 1024), shape(1, 4)
    contextualizer = count_flops(lambda params, text: bind(graphdef, params).contextualize(text), params, given[2])
    whole = count_flops(forward, params, *given)
    assert contextualizer.total / 1e12 == pytest.approx(0.1058, abs=0.00005)
    assert whole.total / 1e12 == pytest.approx(1.4713, abs=0.0006)
    assert whole.total / 1e12 == pytest.approx(1.472, rel=0.001)


def test_training_a_story_costs_three_forward_passes():
    """Less what no gradient asks for (latents, text, motion), more where a kernel computes its scores again."""
    graphdef, params = abstract(lambda rngs: ContextualStory(tiny.VISUALIZATION, rngs=rngs))

    def loss(params, latents, time, text, motion):
        model = bind(graphdef, params)
        return model(latents, time, model.contextualize(text), motion).sum()

    given = shape(2, 3, 8, 8, 4), shape(), shape(2, 3, 12, 8), shape(1, 2)
    once = count_flops(loss, params, *given).total
    assert 2.8 * once < count_flops(jax.value_and_grad(loss), params, *given).total < 3.1 * once


# ----- utilisation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "tera"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5e", 197),
        ("TPU v5p", 459),
        ("TPU v5", 459),
        ("TPU v6 lite", 918),
        ("TPU v6e", 918),
    ],
)
def test_known_devices_have_the_peak_of_their_data_sheet(kind, tera):
    assert peak_flops(kind) == tera * 1e12


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA GeForce RTX 3090", "TPU v4 lite", "TPU7x"])
def test_of_other_devices_no_peak_is_claimed(kind):
    assert peak_flops(kind) is None
    assert utilisation(Flops(matmul=10**12), 1.0, device_kind=kind) is None
    assert speed_row(Flops(matmul=10**12), 1.0, device_kind=kind) == {"tflop_per_step": 1.0}


def test_utilisation_is_the_share_of_all_devices_peaks():
    step = Flops(matmul=989 * 10**12)
    assert utilisation(step, 0.5, 8, "NVIDIA H200") == pytest.approx(0.25)
    assert speed_row(step, 2.0, 1, "NVIDIA H200") == {"tflop_per_step": 989, "mfu": 0.5}


def test_computing_twice_is_not_called_model_utilisation():
    step = Flops(matmul=989 * 10**12, recomputes=True)
    assert speed_row(step, 2.0, 1, "NVIDIA H200") == {"tflop_per_step": 989, "hfu": 0.5}
