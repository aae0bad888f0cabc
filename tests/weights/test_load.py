"""Parameters are created one tensor at a time, in the dtype and place asked for, and never held twice."""

import itertools
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.nn.build import flatten
from storyjax.nn.layers import Linear
from storyjax.weights import Component, build, load_params
from storyjax.weights.rules import linear

ROOT = Path(__file__).parents[2]


class Chain(nnx.Module):
    """Linear layers of growing width, one after the other."""

    def __init__(self, widths, *, rngs):
        self.layers = nnx.List(Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(widths))

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


CHAIN = Component(
    name="chain",
    classes=("Chain",),
    read_config=lambda config: tuple(config["widths"]),
    write_config=lambda config: {"widths": list(config)},
    make=lambda config, rngs: Chain(config, rngs=rngs),
    rules=lambda _: linear("steps.{i}", "layers.{i}"),
)
WIDTHS = (2, 3, 5)


def tensors(dtype=np.float32):
    random = np.random.default_rng(0)
    shapes = {"steps.0.weight": (3, 2), "steps.0.bias": (3,), "steps.1.weight": (5, 3), "steps.1.bias": (5,)}
    return {name: random.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def test_build_binds_what_was_loaded():
    given, x = tensors(), np.array([[1.0, -2.0]], np.float32)
    network = build(CHAIN, {"widths": WIDTHS}, given)
    hidden = x @ given["steps.0.weight"].T + given["steps.0.bias"]
    np.testing.assert_allclose(network(x), hidden @ given["steps.1.weight"].T + given["steps.1.bias"], rtol=1e-5)


@pytest.mark.parametrize(
    ("stored", "asked", "found"),
    [
        (np.float16, None, jnp.float16),
        (jnp.bfloat16, None, jnp.bfloat16),
        (np.float16, jnp.float32, jnp.float32),
        (np.float32, jnp.bfloat16, jnp.bfloat16),
    ],
)
def test_parameters_have_the_dtype_asked_for_or_that_of_the_file(stored, asked, found):
    params, report = load_params(CHAIN, WIDTHS, tensors(stored), dtype=asked)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(found)}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))
    assert len(report.placed) == 4


def test_parameters_live_where_the_sharding_says():
    mesh = jax.make_mesh((1,), ("x",))
    asked = {}

    def sharding(path, shape):
        asked[path] = shape
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*(["x"] if len(shape) == 2 else [])))

    params, _ = load_params(CHAIN, WIDTHS, tensors(), sharding=sharding)
    assert asked["layers.0.kernel"] == (2, 3)
    assert params["layers"]["0"]["kernel"].sharding.spec == jax.sharding.PartitionSpec("x")
    np.testing.assert_array_equal(params["layers"]["1"]["kernel"], tensors()["steps.1.weight"].T)


def test_each_tensor_is_read_once_and_the_largest_first():
    read = []

    class Watched(dict):
        def __getitem__(self, key):
            read.append(key)
            return super().__getitem__(key)

        def shape_of(self, key):
            return self.get(key).shape

    given = Watched(tensors())
    load_params(CHAIN, WIDTHS, given)
    assert read[0] == "steps.1.weight"
    assert sorted(read) == sorted(given)


def test_nothing_is_read_when_something_does_not_fit():
    class Unreadable(dict):
        def __getitem__(self, key):
            raise AssertionError(f"read {key}")

        def shape_of(self, key):
            return self.get(key).shape

    given = Unreadable(
        {name: value for name, value in tensors().items() if name != "steps.1.bias"} | {"ema": np.ones(1)}
    )
    with pytest.raises(StoryjaxError, match=r"file\.bin: 3 tensors placed, but 1 missing, 1 unused"):
        load_params(CHAIN, WIDTHS, given, source="file.bin")
    with pytest.raises(StoryjaxError, match="1 missing"):
        build(CHAIN, {"widths": WIDTHS}, given, allow_unused=["ema"])


def test_the_paths_are_in_the_order_of_the_network():
    params, _ = load_params(CHAIN, WIDTHS, tensors())
    assert [path.split(".")[1] for path in flatten(params)] == ["0", "0", "1", "1"]


MEMORY = """
import json
import numpy as np
from storyjax.weights import load_params, open_tensors
from tests.weights.test_load import CHAIN

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024

width, layers = {width}, {layers}
load_params(CHAIN, (2, 3), {{"steps.0.weight": np.ones((3, 2), np.float32), "steps.0.bias": np.ones(3, np.float32)}})
before = peak()
params, _ = load_params(CHAIN, (width,) * (layers + 1), open_tensors({file!r}), dtype=np.float32)
total = sum(leaf.nbytes for layer in params["layers"].values() for leaf in layer.values())
print(json.dumps([peak() - before, total]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from Linux's /proc")
def test_the_host_never_holds_much_more_than_the_parameters(tmp_path):
    """At most 1.3 times the file. 96 layers of 4 MiB; a process of its own, so that only this counts."""
    from safetensors.numpy import save_file

    layers, width = 96, 1024
    weight, bias = np.ones((width, width), np.float32), np.ones(width, np.float32)
    file = tmp_path / "model.safetensors"
    save_file(
        {f"steps.{i}.{name}": value for i in range(layers) for name, value in (("weight", weight), ("bias", bias))},
        file,
    )
    code = textwrap.dedent(MEMORY).format(layers=layers, width=width, file=str(file))
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    used, total = json.loads(done.stdout)
    assert total == layers * (width * width + width) * 4
    assert used <= 1.3 * total, f"{used / total:.2f} times the parameters"
