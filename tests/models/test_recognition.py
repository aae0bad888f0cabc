"""The recognition networks against what their PyTorch originals said of the same weights and inputs."""

import functools

import jax
import numpy as np
import pytest

from storyjax.nn.build import abstract, bind, count
from storyjax.weights.recognition import network_of
from tests.goldens.make_recognition import keys, outputs
from tests.weights.recognition_models import MODELS, pictures, weights

TOLERANCE = 1e-4


@functools.cache
def ours(name: str) -> dict[str, np.ndarray]:
    model = MODELS[name]
    graphdef, params = network_of(weights(keys(name)), model.make, model.rules)
    compute = jax.jit(lambda params, *given: model.outputs(bind(graphdef, params), *given))
    return {key: np.asarray(value) for key, value in compute(params, *pictures(name)).items()}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_equal_those_of_the_original(name):
    expected = outputs(name)
    found = ours(name)
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key].shape == value.shape
        error = np.linalg.norm(found[key].astype(np.float64) - value) / np.linalg.norm(value)
        assert error <= TOLERANCE, f"{key}: relative error {error:.2e}"
        assert np.std(value) > 1e-3 * np.abs(value).max()  # something that a wrong network would miss


@pytest.mark.parametrize("name", MODELS)
def test_every_published_tensor_has_its_place_and_nothing_else_is_needed(name):
    _, shapes = abstract(MODELS[name].make)
    published = sum(int(np.prod(shape)) for key, shape in keys(name).items() if not key.endswith("num_batches_tracked"))
    dropped = sum(int(np.prod(shape)) for key, shape in keys(name).items() if key.startswith("classifier."))
    assert count(shapes) == published - dropped
