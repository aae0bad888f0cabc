"""With libtpu installed: the compiler of a TPU v5e takes every kernel at every shape that matters, in little memory."""

import jax
import jax.numpy as jnp
import pytest

from storyjax.kernels.flash_attention import shapes as flash_shapes
from storyjax.kernels.flash_attention import tpu as flash
from storyjax.kernels.story_attention import shapes as story_shapes
from storyjax.kernels.story_attention import tpu, xla

pytest.importorskip("libtpu", reason="compiles for a TPU only where libtpu is installed")


@pytest.fixture(scope="module")
def chip():
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    return jax.sharding.SingleDeviceSharding(topology.devices[0])


def memory(function, chip, *shapes):
    """Bytes that the compiled gradient of `function` needs beside its arguments and results, and those of its arguments."""

    def gradients(d_out, *arrays):
        return jax.vjp(function, *arrays)[1](d_out)

    arguments = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=chip) for shape in (shapes[0], *shapes)]
    found = jax.jit(gradients).lower(*arguments).compile().memory_analysis()
    return found.temp_size_in_bytes, found.argument_size_in_bytes


@pytest.mark.parametrize("name", story_shapes.SHAPES)
@pytest.mark.parametrize("module", [tpu, xla], ids=["tpu", "xla"])
def test_story_attention(module, name, chip):
    shape = story_shapes.SHAPES[name]
    scratch, arguments = memory(lambda q, k, v: module.story_attention(q, k, v, 0.1), chip, shape, shape, shape)
    print(f"story_attention {module.__name__.rpartition('.')[2]}, {name}: {scratch / 1e6:.1f} MB")
    assert scratch < (3 if module is tpu else 8) * arguments


@pytest.mark.parametrize("name", flash_shapes.SHAPES)
def test_flash_attention(name, chip):
    shape, keys = flash_shapes.SHAPES[name]
    other = (shape[0], keys, *shape[2:])
    scratch, arguments = memory(lambda q, k, v: flash.flash_attention(q, k, v, 0.1), chip, shape, other, other)
    print(f"flash_attention tpu, {name}: {scratch / 1e6:.1f} MB")
    assert scratch < 3 * arguments
