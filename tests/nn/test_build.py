"""Definitions to pure dictionaries and back."""

import jax
import numpy as np
import pytest
from flax import nnx

from storyjax.nn.build import InitKeys, abstract, bind, count, flatten, materialise, unflatten
from storyjax.nn.layers import LayerNorm, Linear


class Net(nnx.Module):
    def __init__(self, *, rngs):
        self.layers = nnx.List(Linear(3, 3, rngs=rngs) for _ in range(11))
        self.norm = LayerNorm(3)
        self.missing = None

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


def make(rngs):
    return Net(rngs=rngs)


@pytest.fixture(scope="module")
def built():
    return materialise(make, jax.random.key(0))


def test_every_parameter_gets_a_key_of_its_own():
    keys = InitKeys(jax.random.key(0))
    drawn = [tuple(np.asarray(jax.random.key_data(keys.params()))) for _ in range(20)]
    assert len(set(drawn)) == 20
    again = InitKeys(jax.random.key(0))
    assert tuple(np.asarray(jax.random.key_data(again.params()))) == drawn[0]


def test_parameters_are_dictionaries_with_text_for_keys(built):
    def check(tree):
        assert isinstance(tree, dict)
        for key, value in tree.items():
            assert isinstance(key, str)
            if isinstance(value, dict):
                check(value)

    check(built[1])
    paths = list(flatten(built[1]))
    assert {"layers.0.kernel", "layers.10.bias", "norm.scale"} <= set(paths)
    assert len(paths) == 24


def test_abstract_building_gives_shapes_and_no_arrays(built):
    graphdef, shapes = abstract(make)
    assert graphdef == built[0]
    leaves = flatten(shapes)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves.values())
    assert {k: (v.shape, v.dtype) for k, v in leaves.items()} == {
        k: (v.shape, v.dtype) for k, v in flatten(built[1]).items()
    }


def test_the_key_decides_the_parameters(built):
    again, other = (flatten(materialise(make, jax.random.key(n))[1]) for n in (0, 1))
    for path, leaf in flatten(built[1]).items():
        np.testing.assert_array_equal(leaf, again[path])
    assert np.abs(again["layers.0.kernel"] - other["layers.0.kernel"]).max() > 0.01


def test_bound_parameters_are_those_of_the_dictionary(built):
    graphdef, params = built
    x = np.ones((2, 3), np.float32)
    run = jax.jit(lambda params, x: bind(graphdef, params)(x))
    expected = x
    for i in range(11):  # position 10 comes after 9, not after 1
        layer = params["layers"][str(i)]
        expected = expected @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    expected = (expected - expected.mean(-1, keepdims=True)) / np.sqrt(expected.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(run(params, x), expected, atol=1e-4)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
    np.testing.assert_array_equal(bind(graphdef, doubled).norm.scale[...], 2 * np.ones(3))


def test_dotted_names_and_nested_dictionaries_are_the_same(built):
    flat = flatten(built[1])
    assert jax.tree.structure(unflatten(flat)) == jax.tree.structure(built[1])
    assert flatten(unflatten(flat)) == flat


def test_scalars_are_counted(built):
    assert count(built[1]) == 11 * (9 + 3) + 6
    assert count(abstract(make)[1]) == count(built[1])
