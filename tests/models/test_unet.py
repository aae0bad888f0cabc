"""The UNet: sizes of the released presets, slots that cost nothing when empty, any picture size, rematerialisation, bfloat16."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.models.unet import Place, Slots, UNet, UNetConfig
from storyjax.nn.build import abstract, bind, count, flatten
from tests.tiny import UNET, network, quick_jit

TWO_LEVELS = dataclasses.replace(UNET, block_out_channels=(8, 16), attention=(False, True), heads=(2, 4))
RANDOM = np.random.default_rng(3)


def maker(config, slots=Slots()):  # noqa: B008
    return lambda rngs: UNet(config, slots=slots, rngs=rngs)


def inputs(height, width, dtype=np.float32):
    sample, context = RANDOM.standard_normal((2, height, width, 4)), RANDOM.standard_normal((2, 3, 8))
    return sample.astype(dtype), np.array([3, 700]), context.astype(dtype)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (UNetConfig.sd21_base(), 865_910_724),
        (UNetConfig.sd15(), 859_520_964),
        (UNetConfig.sd_inpaint(), 859_520_964 + 5 * 9 * 320),
    ],
)
def test_presets_have_as_many_parameters_as_the_released_models(config, parameters):
    assert count(abstract(maker(config))[1]) == parameters


def test_a_level_without_its_settings_is_named():
    with pytest.raises(StoryjaxError, match="block_out_channels has 2 levels, but heads has 1 entries"):
        UNetConfig(block_out_channels=(8, 8), attention=(True, True), heads=(2,))


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
    for remat in (False, True):
        graphdef, params = network(maker(dataclasses.replace(UNET, remat=remat)))

        def loss(params, sample, timesteps, context, graphdef=graphdef):
            return jnp.square(bind(graphdef, params)(sample, timesteps, context)).mean()

        batch = (np.ones((2, 4, 4, 4), np.float32), np.array([3, 700]), np.ones((2, 3, 8), np.float32))
        kinds = {equation.primitive.name for equation in jax.make_jaxpr(loss)(params, *batch).jaxpr.eqns}
        assert bool(kinds & {"checkpoint", "remat", "remat2"}) == remat
        found.append(quick_jit(jax.value_and_grad(loss))(params, *batch))
    (value, gradient), (again, remade) = found
    np.testing.assert_allclose(again, value, rtol=1e-6)
    for path, leaf in flatten(gradient).items():
        np.testing.assert_allclose(flatten(remade)[path], leaf, rtol=1e-3, atol=1e-6, err_msg=path)
