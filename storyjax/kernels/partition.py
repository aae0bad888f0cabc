"""Kernels on a mesh: a compiler cannot cut a kernel, so each says along which axes its calls are independent."""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def partitioned(function: Callable, rule: str, independent: str) -> Callable:
    """`function` of arrays, run by every device of a mesh on its own part along the independent axes.

    rule: letters of the axes, operands and results, such as "b l n d, b m n d -> b l n d"; a letter stands for one size.
    independent: the letters that may be cut, such as "b n". Whatever else is cut is gathered before. Where there is one
    device, and inside `shard_map`, the function is called as it is.
    """
    if jax.device_count() == 1:
        return function
    operands, results = ([part.split() for part in side.split(",")] for side in rule.split("->"))
    kept = independent.split()
    letters = dict.fromkeys(letter for part in operands for letter in part)

    def shardings(mesh: Mesh, parts: list[list[str]], given: list[Any], of: list[list[str]]) -> list[NamedSharding]:
        """One sharding for each of `parts`, with the cuts that the first array among `given` has."""
        spec = tuple(given[0].sharding.spec)
        cuts = dict(zip(of[0], spec + (None,) * (len(of[0]) - len(spec))))
        return [NamedSharding(mesh, P(*(cuts.get(letter) if letter in kept else None for letter in p))) for p in parts]

    def of_results(mesh: Mesh, args: Any, result: Any) -> Any:
        found = shardings(mesh, results, jax.tree.leaves(args), operands)
        return jax.tree.unflatten(jax.tree.structure(result), found)

    def partition(mesh: Mesh, args: Any, result: Any) -> tuple[Mesh, Callable, Any, tuple[NamedSharding, ...]]:
        outer = jax.tree.leaves(result)
        out = jax.tree.unflatten(jax.tree.structure(result), shardings(mesh, results, outer, results))
        return mesh, function, out, tuple(shardings(mesh, operands, outer, results))

    wrapped = custom_partitioning(function)
    wrapped.def_partition(
        partition=partition,
        infer_sharding_from_operands=of_results,
        sharding_rule=rule,
        need_replication_factors=tuple(letter for letter in letters if letter not in kept),
    )
    return wrapped


def whole_along(x: jax.Array, axis: int) -> jax.Array:
    """`x` with one axis whole on every device, where a mesh is current; the other axes stay as they are cut.

    For what a loop reads: gathered once before it, instead of in every turn.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    spec: list[Any] = [P.UNCONSTRAINED] * x.ndim
    spec[axis] = None
    return jax.lax.with_sharding_constraint(x, P(*spec))
