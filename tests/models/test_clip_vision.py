"""CLIP's vision encoder: the flow of tokens; numbers and sizes are held in tests/weights against the original library."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.models.clip_vision import CLIPVisionConfig, CLIPVisionEncoder, normalised
from storyjax.nn.build import abstract, bind
from tests.tiny import network

SMALL = CLIPVisionConfig(width=8, layers=2, heads=2, mlp_width=12, image_size=9, patch_size=4, projection=5)


def maker(config):
    return lambda rngs: CLIPVisionEncoder(config, rngs=rngs)


def shape(config, images, method):
    graphdef, shapes = abstract(maker(config))
    images = jax.ShapeDtypeStruct(images, jnp.float32)
    return jax.eval_shape(lambda p, x: method(bind(graphdef, p), x), shapes, images).shape


def test_shapes_of_tokens_and_embeddings():
    assert SMALL.tokens == 5
    assert shape(SMALL, (3, 9, 9, 3), lambda encoder, x: encoder(x)) == (3, 5, 8)
    assert shape(SMALL, (3, 9, 9, 3), lambda encoder, x: encoder.embed(x)) == (3, 5)
    assert shape(CLIPVisionConfig(projection=None), (1, 224, 224, 3), lambda encoder, x: encoder.embed(x)) == (1, 1280)


def test_skipping_all_layers_leaves_the_normed_embeddings_and_what_is_beyond_whole_patches_is_not_seen():
    graphdef, params = network(maker(SMALL))
    encoder = bind(graphdef, params)
    images = np.random.default_rng(0).standard_normal((1, 9, 9, 3)).astype(np.float32)
    tokens = np.asarray(encoder(images, skip=2))
    cut = images.copy()
    cut[:, 8:], cut[:, :, 8:] = 7, 7
    np.testing.assert_array_equal(np.asarray(encoder(cut, skip=2)), tokens)
    table = params["embeddings"]
    first = table["class_embedding"] + table["position_embedding"]["embedding"][0]
    first = (first - first.mean()) / np.sqrt(first.var() + 1e-5)
    expected = first * params["pre_layernorm"]["scale"] + params["pre_layernorm"]["bias"]
    np.testing.assert_allclose(tokens[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("images", [(1, 8, 9, 3), (1, 9, 9, 4), (9, 9, 3)])
def test_pictures_of_another_size_are_refused(images):
    with pytest.raises(StoryjaxError, match=r"expected images \(N, 9, 9, 3\), got"):
        shape(SMALL, images, lambda encoder, x: encoder(x))


def test_more_layers_cannot_be_skipped_than_there_are():
    with pytest.raises(StoryjaxError, match="cannot skip 3 of its 2 layers"):
        shape(SMALL, (1, 9, 9, 3), lambda encoder, x: encoder(x, skip=3))


def test_configs_that_cannot_be():
    with pytest.raises(StoryjaxError, match="vision encoder: unknown activation 'relu'"):
        CLIPVisionConfig(activation="relu")
    with pytest.raises(StoryjaxError, match="patches of 14 do not fit into 8 pixels"):
        CLIPVisionConfig(image_size=8)


def test_pictures_are_normalised_by_channel():
    grey = normalised(jnp.full((1, 1, 3), 127, jnp.uint8))
    np.testing.assert_allclose(grey[0, 0], [0.0617376, 0.1538895, 0.3257286], atol=1e-6)
