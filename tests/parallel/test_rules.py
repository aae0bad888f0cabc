"""Which axis of which parameter is cut, and that state follows its parameter."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from storyjax.models.unet import UNet, UNetConfig
from storyjax.nn.build import abstract, flatten
from storyjax.parallel.mesh import MeshShape
from storyjax.parallel.rules import TENSOR_RULES, shardings, spec_for


def mesh_of(text: str) -> AbstractMesh:
    sizes = MeshShape.parse(text).sizes
    return AbstractMesh(tuple(sizes.values()), tuple(sizes))


@pytest.mark.parametrize(
    ("mesh", "path", "shape", "spec"),
    [
        ("data=8", "conv_in.kernel", (3, 3, 512, 512), P(None, None, None, None)),
        ("fsdp=8", "conv1.kernel", (3, 3, 640, 1280), P(None, None, None, "fsdp")),
        ("fsdp=8", "conv1.kernel", (3, 3, 640, 1281), P(None, None, "fsdp", None)),
        ("fsdp=8", "norm1.scale", (1280,), P(None)),
        ("fsdp=8", "odd.kernel", (321, 321), P(None, None)),
        ("tensor=2", "attn1.to_q.kernel", (320, 320), P(None, "tensor")),
        ("tensor=2", "attn1.to_out.kernel", (320, 320), P("tensor", None)),
        ("tensor=2", "attn1.to_out.bias", (320,), P(None)),
        ("tensor=2", "self_attn.q_proj.bias", (320,), P("tensor")),
        ("tensor=2", "attn1.to_q.kernel", (320, 321), P(None, None)),
        ("tensor=2", "proj_in.kernel", (320, 320), P(None, None)),
        ("tensor=2", "ff.proj_in.kernel", (320, 2560), P(None, "tensor")),
        ("fsdp=4,tensor=2", "ff.proj_out.kernel", (1280, 320), P("tensor", "fsdp")),
    ],
)
def test_the_table_and_then_the_largest_axis(mesh, path, shape, spec):
    assert spec_for(path, shape, mesh_of(mesh)) == spec


def test_every_line_of_the_table_finds_parameters_of_a_network():
    _, params = abstract(lambda rngs: UNet(UNetConfig.sd15(), rngs=rngs))
    cut = {
        path for path, leaf in flatten(params).items() if "tensor" in spec_for(path, leaf.shape, mesh_of("tensor=2"))
    }
    assert sum(path.endswith("ff.proj_in.kernel") for path in cut) == 16
    assert sum(path.endswith("to_out.kernel") for path in cut) == 32
    assert len(TENSOR_RULES) == 2


def test_optimizer_state_and_averages_lie_where_their_parameter_lies():
    params = {"block": {"to_q": {"kernel": jnp.zeros((128, 256)), "bias": jnp.zeros(256)}}}
    state = {"params": params, "ema": params, "train": {"opt": optax.adamw(1e-3).init(params)}}
    placed = shardings(jax.eval_shape(lambda: state), mesh_of("fsdp=4,tensor=2"))
    specs = [place.spec for place in jax.tree.leaves(placed) if len(place.spec) == 2]
    assert specs == [P("fsdp", "tensor")] * 4


def test_full_size_state_is_cut_nearly_evenly():
    _, params = abstract(lambda rngs: UNet(UNetConfig.sd15(), rngs=rngs))
    mesh = mesh_of("fsdp=8")
    whole = share = 0
    for path, leaf in flatten(params).items():
        whole += leaf.size
        share += leaf.size // (8 if "fsdp" in spec_for(path, leaf.shape, mesh) else 1)
    assert share < 1.01 * whole / 8
