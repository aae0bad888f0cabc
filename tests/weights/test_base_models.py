"""Every base model at toy size against diffusers and transformers: their stored outputs always, they themselves if installed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.nn.build import abstract, bind
from storyjax.weights import build, component_of, load_params, to_pytorch
from tests.goldens.make_base_models import keys, outputs, summary
from tests.goldens.make_inputs import channels_last, named_input, named_weights
from tests.tiny import quick_jit
from tests.weights.base_models import CONFIGS, GRADIENTS_OF, inputs, original, outputs_of_original, shapes_of

TOLERANCE = 1e-4  # relative, of the whole array


def run(name, model, given):
    """What our model computes, in the names and layouts of `outputs_of_original`."""
    if name.startswith("unet"):
        extra = {key: given[key] for key in ("pooled_text", "time_ids") if key in given}
        return {"out": model(given["sample"], given["timesteps"], given["context"], **extra)}
    if name == "vae":
        mean, deviation = model.encode(given["images"])
        return {"mean": mean, "deviation": deviation, "decoded": model.decode(given["latents"])}
    if name == "clip_vision":
        images = given["images"]
        return {"last": model(images), "early": model(images, skip=1), "embedding": model.embed(images)}
    last, pooled = model.encode(given["tokens"])
    return {"last": last, "early": model(given["tokens"], skip=1, norm=False), "pooled": pooled}


@functools.cache
def ours(name, dtype=None):
    """Outputs of the tiny model, loaded from the original's tensors; of one UNet also the gradients, by original names."""
    config, shapes = keys(f"tiny_{name}")
    found = component_of(config)
    settings = found.read_config(config)
    params, _ = load_params(found, settings, named_weights(shapes), dtype=dtype)
    graphdef, _ = abstract(lambda rngs: found.make(settings, rngs))
    given = {key: channels_last(value) if value.ndim == 4 else value for key, value in inputs(name).items()}
    if dtype is not None:
        given = {key: jnp.asarray(value, dtype) if value.ndim == 4 else value for key, value in given.items()}

    def compute(params):
        out = run(name, bind(graphdef, params), given)
        if name != GRADIENTS_OF:
            return out, {}
        target = named_input("target", *np.moveaxis(np.empty(out["out"].shape), -1, 1).shape)

        def loss(params):
            return jnp.mean((run(name, bind(graphdef, params), given)["out"] - channels_last(target)) ** 2)

        return out, jax.grad(loss)(params)

    out, gradients = quick_jit(compute)(params)
    arrays = {key: np.asarray(value, np.float32) for key, value in out.items()}
    arrays = {key: np.moveaxis(value, -1, 1) if value.ndim == 4 else value for key, value in arrays.items()}
    if gradients:
        exported = to_pytorch(gradients, found.rules(settings))
        arrays |= {f"gradient {key}": value for key, value in exported.items()}
    return arrays


def assert_close(found, expected, tolerance=TOLERANCE, what=""):
    assert found.shape == expected.shape
    error = np.linalg.norm(found.astype(np.float64) - expected) / np.linalg.norm(expected)
    assert error <= tolerance, f"{what}: relative error {error:.2e}"


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_and_gradients_equal_the_stored_ones(name):
    stored = {key.removeprefix(f"{name} "): value for key, value in outputs().items() if key.split(" ")[0] == name}
    assert set(ours(name)) == set(stored)
    for key, value in ours(name).items():
        parameter = key.removeprefix("gradient ")
        assert_close(value if key == parameter else summary(parameter, value), stored[key], what=key)


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_and_gradients_equal_those_of_the_original_library(name):
    for library in ("torch", "diffusers", "transformers"):
        pytest.importorskip(library)
    expected = outputs_of_original(name, original(CONFIGS[name], with_weights=True))
    assert set(ours(name)) == set(expected)
    for key, value in ours(name).items():
        assert_close(value, expected[key], what=key)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_original_library_builds_the_same_network_from_the_config_we_write(name):
    for library in ("torch", "diffusers", "transformers"):
        pytest.importorskip(library)
    config, shapes = keys(f"tiny_{name}")
    found = component_of(config)
    assert shapes_of(original(found.write_config(found.read_config(config)))) == shapes


@pytest.mark.parametrize("name", ["clip_text_projected", "clip_vision"])
def test_bfloat16_stays_near(name):
    for key, value in ours(name, jnp.bfloat16).items():
        assert_close(value, ours(name)[key], 2e-2, key)


@pytest.mark.parametrize("component", [component_of(keys("tiny_clip_text")[0]), "clip_text"], ids=["itself", "name"])
def test_build_gives_a_network_to_call(component):
    config, shapes = keys("tiny_clip_text")
    encoder = build(component, config, named_weights(shapes))
    assert_close(np.asarray(encoder(inputs("clip_text")["tokens"])), outputs()["clip_text last"])


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        ("tiny_vae", {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}),
        ("tiny_clip_text", {"text_model.": ""}),
        ("tiny_clip_vision", {"vision_model.": ""}),
    ],
)
def test_other_spellings_fill_the_same_places(name, renamed):
    config, shapes = keys(name)
    found = component_of(config)
    settings = found.read_config(config)
    tensors = named_weights(shapes)
    spelled = {}
    for key, value in tensors.items():
        for new, old in renamed.items():
            key = key.replace(new, old)
        # The oldest files of the codec hold its attention's matrices as 1x1 convolutions.
        old_matrix = name == "tiny_vae" and ".attentions." in key and value.ndim == 2
        spelled[key] = value[:, :, None, None] if old_matrix else value
    assert set(spelled) != set(tensors)
    params, _ = load_params(found, settings, spelled)
    exported = to_pytorch(params, found.rules(settings))
    assert set(exported) == set(tensors)
    for key, value in tensors.items():
        np.testing.assert_array_equal(exported[key], value, err_msg=key)
