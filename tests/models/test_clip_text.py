"""CLIP's text encoder: released sizes, and the whole of a small one against its definition in float64."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from storyjax.nn.build import abstract, bind, count
from tests.tiny import TEXT, network, quick_jit

TWO_LAYERS = dataclasses.replace(TEXT, layers=2)
TOKENS = np.random.default_rng(2).integers(0, TEXT.vocab_size, (3, 7))


def maker(config):
    return lambda rngs: CLIPTextEncoder(config, rngs=rngs)


def encode(config, tokens):
    graphdef, params = network(maker(config))
    return np.asarray(quick_jit(lambda params, tokens: bind(graphdef, params)(tokens))(params, tokens))


@pytest.mark.parametrize(
    ("config", "parameters"), [(CLIPTextConfig.sd21(), 340_387_840), (CLIPTextConfig.sd15(), 123_060_480)]
)
def test_presets_have_as_many_parameters_as_the_released_encoders(config, parameters):
    assert count(abstract(maker(config))[1]) == parameters


def reference(params, tokens, heads, activation):
    """The encoder of Radford et al. 2021, one sentence at a time."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def linear(layer, x):
        return x @ layer["kernel"] + layer["bias"]

    def norm(layer, x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * layer["scale"] + layer[
            "bias"
        ]

    def attend(layer, x):
        length, width = x.shape
        q, k, v = (linear(layer[f"{name}_proj"], x).reshape(length, heads, -1) for name in "qkv")
        scores = np.einsum("lnd,mnd->nlm", q, k) / math.sqrt(width / heads)
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return linear(layer["out_proj"], np.einsum("nlm,mnd->lnd", weights, v).reshape(length, width))

    table, out = params["embeddings"], []
    for sentence in tokens:
        x = table["token_embedding"]["embedding"][sentence]
        x = x + table["position_embedding"]["embedding"][: len(sentence)]
        for layer in params["layers"].values():
            x = x + attend(layer["self_attn"], norm(layer["layer_norm1"], x))
            x = x + linear(layer["mlp"]["fc2"], activation(linear(layer["mlp"]["fc1"], norm(layer["layer_norm2"], x))))
        out.append(norm(params["final_layer_norm"], x))
    return np.stack(out)


ACTIVATIONS = {
    "quick_gelu": lambda h: h / (1 + np.exp(-1.702 * h)),
    "gelu": lambda h: 0.5 * h * (1 + np.vectorize(math.erf)(h / math.sqrt(2))),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_encoder_equals_its_definition(activation):
    config = dataclasses.replace(TWO_LAYERS, activation=activation)
    expected = reference(network(maker(config))[1], TOKENS, config.heads, ACTIVATIONS[activation])
    np.testing.assert_allclose(encode(config, TOKENS), expected, atol=1e-5)


def test_a_later_token_does_not_reach_back():
    changed = TOKENS.copy()
    changed[:, 4] = (changed[:, 4] + 1) % TEXT.vocab_size
    before, after = encode(TWO_LAYERS, TOKENS), encode(TWO_LAYERS, changed)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (np.abs(before[:, 4:] - after[:, 4:]).max(-1) > 1e-3).all()


def test_stories_of_captions_are_encoded_caption_by_caption():
    tokens = TOKENS[:, :6].reshape(1, 3, 6)
    assert encode(TEXT, tokens).shape == (1, 3, 6, 8)
    np.testing.assert_allclose(encode(TEXT, tokens)[0], encode(TEXT, TOKENS[:, :6]), atol=1e-6)


def test_bfloat16_parameters_give_bfloat16_states():
    graphdef, shapes = abstract(maker(TEXT))
    half = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), shapes)
    assert jax.eval_shape(lambda p, t: bind(graphdef, p)(t), half, TOKENS).dtype == jnp.bfloat16


def test_more_tokens_than_positions_are_refused():
    graphdef, shapes = abstract(maker(TEXT))
    long = np.zeros((1, TEXT.positions + 1), np.int32)
    with pytest.raises(StoryjaxError, match="expected at most 12 tokens, got 13"):
        jax.eval_shape(lambda p, t: bind(graphdef, p)(t), shapes, long)


def test_hidden_states_of_earlier_layers():
    """Skipping a layer is the network without it; the final norm is the caller's choice; the pooled vector is always the last's."""
    graphdef, params = network(maker(TWO_LAYERS))
    one_layer, fewer = network(maker(TEXT))[0], {**params, "layers": {"0": params["layers"]["0"]}}
    encoder, shorter = bind(graphdef, params), bind(one_layer, fewer)
    np.testing.assert_array_equal(encoder(TOKENS, skip=1), shorter(TOKENS))
    np.testing.assert_array_equal(encoder(TOKENS, skip=1, norm=False), shorter(TOKENS, norm=False))
    assert np.abs(np.asarray(encoder(TOKENS, norm=False)) - encoder(TOKENS)).max() > 0.1
    hidden, pooled = encoder.encode(TOKENS, skip=1, norm=False)
    np.testing.assert_array_equal(hidden, encoder(TOKENS, skip=1, norm=False))
    np.testing.assert_array_equal(pooled, encoder.encode(TOKENS)[1])


@pytest.mark.parametrize(("end_token", "places"), [(None, [1, 3]), (5, [2, 0])])
def test_the_pooled_vector_stands_at_the_first_end_of_text(end_token, places):
    """At the largest id, or at the id that the config names; the first of several."""
    config = dataclasses.replace(TEXT, end_token=end_token)
    encoder = bind(*network(maker(config)))
    tokens = np.array([[3, 90, 5, 90, 5], [5, 5, 7, 80, 9]])
    hidden, pooled = encoder.encode(tokens)
    np.testing.assert_array_equal(pooled, np.asarray(hidden)[[0, 1], places])


def test_the_pooled_vector_is_projected_where_there_is_a_projection():
    config = dataclasses.replace(TEXT, projection=3)
    graphdef, params = network(maker(config))
    without = {name: value for name, value in params.items() if name != "text_projection"}
    plain = bind(abstract(maker(TEXT))[0], without).encode(TOKENS)[1]
    projected = bind(graphdef, params).encode(TOKENS)[1]
    np.testing.assert_allclose(projected, np.asarray(plain) @ params["text_projection"]["kernel"], atol=1e-5)


@pytest.mark.parametrize("skip", [-1, 2])
def test_layers_that_are_not_there_cannot_be_skipped(skip):
    with pytest.raises(StoryjaxError, match=f"cannot skip {skip} of its 2 layers; give 0 to 1"):
        bind(*network(maker(TWO_LAYERS)))(TOKENS, skip=skip)


def test_an_unknown_activation_names_the_nearest():
    with pytest.raises(StoryjaxError, match="unknown activation 'quickgelu'; did you mean 'quick_gelu'"):
        CLIPTextConfig(activation="quickgelu")
