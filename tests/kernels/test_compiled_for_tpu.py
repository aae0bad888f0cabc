"""With libtpu installed: the compiler of a TPU v5e takes every kernel at every shape that matters, in little memory.

An optional job, of minutes; docs/kernels.md says how to run it. No TPU is needed.
"""

import jax
import jax.numpy as jnp
import pytest

from storyjax.kernels.flash_attention import shapes as flash_shapes
from storyjax.kernels.flash_attention import tpu as flash
from storyjax.kernels.story_attention import shapes as story_shapes
from storyjax.kernels.story_attention import tpu, xla
from tests.kernels.lowered import there_and_back

pytest.importorskip("libtpu", reason="compiles for a TPU only where libtpu is installed")

CHIPS = {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
# One shape in float32, which fills a core's memory twice as fast: the widest, and the longest row.
WIDEST, LONGEST = "SD 1.5 at 1024, 32 x 32, self, heads of 160", "level 0, 64 frames"


def memory(attend, q, keys, dtype=jnp.bfloat16, chip="v5e"):
    """(bytes beside arguments and results, bytes of the arguments, kernels) of `attend` with its gradients, compiled."""
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(platform="tpu", topology_name=CHIPS[chip])
    place = jax.sharding.SingleDeviceSharding(topology.devices[0])
    arguments = [jax.ShapeDtypeStruct(shape, dtype, sharding=place) for shape in (q, keys, keys, q)]
    compiled = jax.jit(there_and_back(attend)).lower(*arguments).compile()
    found = compiled.memory_analysis()
    print(f"{chip}, {jnp.dtype(dtype).name}, {q}, {keys}: {found.temp_size_in_bytes / 1e6:.1f} MB", end=" ")
    kernels = compiled.as_text().count('custom_call_target="tpu_custom_call"')
    return found.temp_size_in_bytes, found.argument_size_in_bytes, kernels


def over_stories(q, k, v):
    return tpu.story_attention(q, k, v, 0.1)


def over_tokens(q, k, v):
    return flash.flash_attention(q, k, v, 0.1)


# Their programs take most of what the compiler grants: tiles of a whole row, and tiles with a halo.
FULLEST = [
    ((1, 42, 8, 8, 8, 160), jnp.bfloat16),
    ((1, 25, 8, 8, 8, 160), jnp.float32),
    ((1, 81, 8, 8, 8, 160), jnp.float32),
]


def keys_of(name):
    shape, keys = flash_shapes.SHAPES[name]
    return shape, (shape[0], keys, *shape[2:])


@pytest.mark.parametrize("name", story_shapes.SHAPES)
def test_story_attention(name):
    shape = story_shapes.SHAPES[name]
    scratch, arguments, kernels = memory(over_stories, shape, shape)
    assert kernels == 3
    assert scratch < arguments  # rows of tokens, where frames do not fill a tile of memory


@pytest.mark.parametrize("name", flash_shapes.SHAPES)
def test_flash_attention(name):
    scratch, arguments, kernels = memory(over_tokens, *keys_of(name))
    assert kernels == 3
    assert scratch < arguments / 10  # no scores


@pytest.mark.parametrize("chip", CHIPS)
def test_float32_fits_on_every_chip(chip):
    shape = story_shapes.SHAPES[LONGEST]
    assert memory(over_stories, shape, shape, jnp.float32, chip)[2] == 3
    assert memory(over_tokens, *keys_of(WIDEST), jnp.float32, chip)[2] == 3


@pytest.mark.parametrize(("shape", "dtype"), FULLEST)
def test_a_chosen_tiling_fits_into_a_core(shape, dtype):
    assert memory(over_stories, shape, shape, dtype)[2] == 3


def test_the_plain_form_of_story_attention():
    """Its arrays lie pixel by pixel, five frames by forty channels, each filled up to a tile of 8 or 16 by 128."""
    shape = story_shapes.SHAPES["level 1, 5 frames"]
    scratch, arguments, kernels = memory(lambda q, k, v: xla.story_attention(q, k, v, 0.1), shape, shape)
    assert kernels == 0
    assert scratch < 8 * arguments
