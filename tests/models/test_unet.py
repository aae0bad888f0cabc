"""The UNet: slots that cost nothing when empty, any picture size, rematerialisation, bfloat16.

The released presets' sizes are held in tests/weights/test_released_models.py, with all their names.
"""

import dataclasses
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.models.unet import Place, Slots, UNet, UNetConfig
from storyjax.nn.build import abstract, bind, flatten
from storyjax.nn.remat import Remat
from tests.tiny import UNET, network, quick_jit

TWO_LEVELS = dataclasses.replace(UNET, block_out_channels=(8, 16), attention=(False, True), heads=(2, 4))
RANDOM = np.random.default_rng(3)


def maker(config, slots=Slots()):  # noqa: B008
    return lambda rngs: UNet(config, slots=slots, rngs=rngs)


def inputs(height, width, dtype=np.float32):
    sample, context = RANDOM.standard_normal((2, height, width, 4)), RANDOM.standard_normal((2, 3, 8))
    return sample.astype(dtype), np.array([3, 700]), context.astype(dtype)


def test_a_level_without_its_settings_is_named():
    with pytest.raises(StoryjaxError, match="block_out_channels has 2 levels, but heads has 1 entries"):
        UNetConfig(block_out_channels=(8, 8), attention=(True, True), heads=(2,))


def test_depths_are_given_for_all_levels_or_for_each():
    assert [UNetConfig.sdxl().depth(level) for level in range(3)] == [1, 2, 10]
    assert UNetConfig.sd15().depth(3) == 1
    with pytest.raises(StoryjaxError, match="block_out_channels has 4 levels, but transformer_depth has 2 entries"):
        UNetConfig(transformer_depth=(1, 2))


ADDED = dataclasses.replace(
    TWO_LEVELS, addition="text_time", addition_inputs=5 + 6 * 4, addition_time_width=4, transformer_depth=(1, 2)
)


@pytest.mark.parametrize(
    ("config", "added", "message"),
    [
        (ADDED, {}, r"'text_time' needs pooled_text \(N, P\) and time_ids \(N, K\)"),
        (ADDED, {"pooled_text": (2, 5)}, "needs pooled_text"),
        (ADDED, {"pooled_text": (2, 5), "time_ids": (2, 5)}, r"expected 29 numbers .* got 25 \(5 \+ 5 x 4\)"),
        (TWO_LEVELS, {"pooled_text": (2, 5), "time_ids": (2, 6)}, "no addition to take pooled_text or time_ids"),
    ],
)
def test_pooled_text_and_sizes_must_suit_the_network(config, added, message):
    graphdef, shapes = abstract(maker(config))
    given = {name: np.zeros(shape, np.float32) for name, shape in added.items()}
    with pytest.raises(StoryjaxError, match=message):
        jax.eval_shape(lambda p: bind(graphdef, p)(*inputs(8, 8), **given), shapes)


def test_an_unknown_addition_is_named():
    with pytest.raises(StoryjaxError, match="no addition 'image'; expected none or 'text_time'"):
        UNetConfig(addition="image")


class Silent(nnx.Module):
    """A slot that does nothing."""

    def __call__(self, x, slot_context):
        return x


class Doubling(nnx.Module):
    """A slot with a parameter."""

    def __init__(self):
        self.factor = nnx.Param(jnp.full(1, 2.0))

    def __call__(self, x, slot_context):
        return x * self.factor[...]


def slots_of(make):
    return Slots(after_resnet=make, after_attention=make, block_entry=make, key_tokens=lambda place: None)


def equations(config, slots):
    graphdef, shapes = abstract(maker(config, slots))
    return jax.make_jaxpr(lambda p, *a: bind(graphdef, p)(*a))(shapes, *inputs(4, 4)).jaxpr.eqns


def test_an_empty_slot_costs_nothing():
    assert len(equations(TWO_LEVELS, Slots())) == len(equations(TWO_LEVELS, slots_of(lambda *_: Silent())))
    assert len(equations(TWO_LEVELS, Slots())) < len(equations(TWO_LEVELS, slots_of(lambda *_: Doubling())))


def test_slots_leave_the_paths_of_the_network_unchanged():
    plain = flatten(abstract(maker(TWO_LEVELS))[1])
    filled = flatten(abstract(maker(TWO_LEVELS, slots_of(lambda *_: Doubling())))[1])
    added = set(filled) - set(plain)
    assert set(plain) <= set(filled)
    assert all(path.endswith(".factor") for path in added)
    # 8 residual blocks (2 down, 2 middle, 4 up), 4 of the transformers, 5 blocks to enter
    assert {
        name: sum(name in path for path in added) for name in ("after_resnet", "after_attention", "block_entry")
    } == {
        "after_resnet": 8,
        "after_attention": 4,
        "block_entry": 5,
    }


def test_a_slot_is_told_where_it_stands():
    places = []

    def note(place, rngs):
        places.append(place)
        return Silent()

    abstract(maker(TWO_LEVELS, Slots(block_entry=note)))
    assert places == [
        Place("down", 0, 8, 2),
        Place("down", 1, 8, 4),
        Place("mid", 1, 16, 4),
        Place("up", 1, 16, 4),
        Place("up", 0, 16, 2),
    ]


@pytest.mark.parametrize("size", [(5, 7), (1, 3), (8, 8)])
def test_any_picture_size_comes_back(size):
    config = dataclasses.replace(
        TWO_LEVELS, block_out_channels=(8, 8, 8), attention=(True, False, True), heads=(2, 2, 2)
    )
    graphdef, shapes = abstract(maker(config))
    out = jax.eval_shape(lambda p, *a: bind(graphdef, p)(*a), shapes, *inputs(*size))
    assert out.shape == (2, *size, 4)


def test_bfloat16_parameters_give_bfloat16_outputs():
    graphdef, shapes = abstract(maker(TWO_LEVELS))
    half = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), shapes)
    out = jax.eval_shape(lambda p, *a: bind(graphdef, p)(*a), half, *inputs(4, 4, jnp.bfloat16))
    assert out.dtype == jnp.bfloat16


def test_rematerialisation_changes_no_value_and_no_gradient():
    found = []
    for remat in get_args(Remat):
        graphdef, params = network(maker(dataclasses.replace(UNET, remat=remat)))

        def loss(params, sample, timesteps, context, graphdef=graphdef):
            return jnp.square(bind(graphdef, params)(sample, timesteps, context)).mean()

        batch = (np.ones((2, 4, 4, 4), np.float32), np.array([3, 700]), np.ones((2, 3, 8), np.float32))
        kinds = {equation.primitive.name for equation in jax.make_jaxpr(loss)(params, *batch).jaxpr.eqns}
        assert bool(kinds & {"checkpoint", "remat", "remat2"}) == (remat != "none")
        found.append(quick_jit(jax.value_and_grad(loss))(params, *batch))
    assert len(found) == 3
    (value, gradient), *others = found
    for again, remade in others:
        np.testing.assert_allclose(again, value, rtol=1e-6)
        for path, leaf in flatten(gradient).items():
            np.testing.assert_allclose(flatten(remade)[path], leaf, rtol=1e-3, atol=1e-6, err_msg=path)
