"""The picture codec: sizes, shapes, patches, the posterior's limits, bytes."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from storyjax.models.vae import AutoencoderKL, VAEConfig, to_bytes, to_unit
from storyjax.nn.build import abstract, bind, count
from tests.tiny import CODEC, network, quick_jit


def maker(config):
    return lambda rngs: AutoencoderKL(config, rngs=rngs)


def test_the_preset_has_as_many_parameters_as_the_released_codec():
    assert count(abstract(maker(VAEConfig.stable_diffusion()))[1]) == 83_653_863


@pytest.mark.parametrize(
    ("widths", "patch", "factor"), [((8,), 1, 1), ((8, 16), 1, 2), ((8,), 8, 8), ((8, 16, 16), 2, 8), ((8, 16), 8, 16)]
)
def test_pictures_become_latents_and_pictures_again(widths, patch, factor):
    config = VAEConfig(block_out_channels=widths, layers_per_block=1, latent_channels=5, norm_groups=2, patch=patch)
    assert config.factor == factor
    graphdef, shapes = abstract(maker(config))
    images = jax.ShapeDtypeStruct((2, 2 * factor, 3 * factor, 3), jnp.float32)
    mean, std = jax.eval_shape(lambda p, x: bind(graphdef, p).encode(x), shapes, images)
    assert mean.shape == std.shape == (2, 2, 3, 5)
    assert jax.eval_shape(lambda p, x: bind(graphdef, p).decode(x), shapes, mean).shape == images.shape


def test_bfloat16_parameters_give_bfloat16_outputs():
    graphdef, shapes = abstract(maker(CODEC))
    half = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), shapes)
    images = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.bfloat16)
    mean, std = jax.eval_shape(lambda p, x: bind(graphdef, p).encode(x), half, images)
    assert mean.dtype == std.dtype == jnp.bfloat16
    assert jax.eval_shape(lambda p, x: bind(graphdef, p).decode(x), half, mean).dtype == jnp.bfloat16


def test_patches_are_folded_row_by_row_and_unfolded_the_same_way():
    class Reached(Exception):
        pass

    class Look(nnx.Module):
        def __call__(self, x):
            seen.append(x)
            raise Reached

    class Give(nnx.Module):
        def __call__(self, x):
            return seen[0]

    seen = []
    images = np.random.default_rng(0).standard_normal((1, 16, 24, 3)).astype(np.float32)
    codec = bind(*network(maker(CODEC)))
    codec.encoder.conv_in, codec.decoder.conv_out = Look(), Give()
    with contextlib.suppress(Reached):
        codec.encode(images)
    assert seen[0].shape == (1, 2, 3, 192)
    np.testing.assert_array_equal(seen[0][0, 1, 2].reshape(8, 8, 3), images[0, 8:16, 16:24])
    np.testing.assert_array_equal(codec.decode(jnp.zeros((1, 2, 3, 4))), images)


@pytest.mark.parametrize(("bias", "std"), [(1000.0, np.exp(10.0)), (-1000.0, np.exp(-15.0)), (0.0, 1.0)])
def test_the_posterior_cannot_run_away(bias, std):
    graphdef, params = network(maker(CODEC))
    params["quant_conv"]["kernel"] *= 0
    params["quant_conv"]["bias"][:4], params["quant_conv"]["bias"][4:] = 0.25, bias
    images = np.zeros((1, 8, 8, 3), np.float32)
    mean, deviation = quick_jit(lambda p, x: bind(graphdef, p).encode(x))(params, images)
    np.testing.assert_allclose(mean, 0.25 * np.ones((1, 1, 1, 4)), rtol=1e-6)
    np.testing.assert_allclose(deviation, std * np.ones((1, 1, 1, 4)), rtol=1e-5)


def test_every_byte_survives_the_way_to_numbers_and_back():
    values = np.arange(256, dtype=np.uint8)
    unit = np.asarray(to_unit(values))
    assert (unit.min(), unit.max()) == (-1, 1)
    np.testing.assert_array_equal(to_bytes(unit), values)


def test_bytes_are_rounded_and_held_in_range():
    half = 0.5 / 127.5
    np.testing.assert_array_equal(
        to_bytes(np.array([-3.0, -1 + 0.9 * half, -1 + 1.1 * half, 0.999, 7.0])), [0, 0, 1, 255, 255]
    )
