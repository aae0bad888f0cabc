"""From a module definition to pure dictionaries of arrays and back.

NNX describes, JAX runs: a network is built once (abstractly, or with random numbers), split into a static graph definition
and a nested dictionary of arrays, and every jitted function takes that dictionary. Keys are strings all the way down, so
that a parameter's dotted path (`down_blocks.0.resnets.1.conv1.kernel`) is the same in code, checkpoints and reports.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

Params = dict[str, Any]


class InitKeys:
    """Hands one fresh key to every parameter; the part of `nnx.Rngs` that layers use, cheap under tracing."""

    def __init__(self, key: jax.Array):
        self.key, self.count = key, 0

    def params(self) -> jax.Array:
        self.count += 1
        return jax.random.fold_in(self.key, self.count)


def materialise(make: Callable[[InitKeys], nnx.Module], key: jax.Array) -> tuple[nnx.GraphDef, Params]:
    """Build the module with random parameters drawn from `key`."""
    return _split(make(InitKeys(key)))


def abstract(make: Callable[[InitKeys], nnx.Module]) -> tuple[nnx.GraphDef, Params]:
    """The same structure with `jax.ShapeDtypeStruct` leaves: no memory, no compilation."""
    return _split(nnx.eval_shape(lambda: make(InitKeys(jax.random.key(0)))))


def bind(graphdef: nnx.GraphDef, params: Params) -> Any:
    """The callable module that holds `params`; cheap, meant for use inside a jitted function."""
    return nnx.merge(graphdef, _integer_keys(params))


def flatten(params: Params) -> dict[str, Any]:
    """Nested dictionary to `{"a.b.c": leaf}`."""
    return flatten_dict(params, sep=".")


def unflatten(flat: dict[str, Any]) -> Params:
    """`{"a.b.c": leaf}` to a nested dictionary."""
    return unflatten_dict(flat, sep=".")


def count(params: Params) -> int:
    """Number of scalars in all leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _split(module: nnx.Module) -> tuple[nnx.GraphDef, Params]:
    graphdef, state = nnx.split(module)
    return graphdef, _string_keys(nnx.to_pure_dict(state))


def _string_keys(tree: Any) -> Any:
    return {str(k): _string_keys(v) for k, v in tree.items()} if isinstance(tree, dict) else tree


def _integer_keys(tree: Any) -> Any:
    """List positions are integers for NNX, strings everywhere else."""
    if not isinstance(tree, dict):
        return tree
    return {int(k) if k.isdigit() else k: _integer_keys(v) for k, v in tree.items()}
