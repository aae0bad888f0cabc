"""Programs on eight fake devices whose communication is known by arithmetic. Prints what was read from them, as JSON.

Run as a process of its own, with XLA_FLAGS=--xla_force_host_platform_device_count=8.
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from storyjax.parallel.collectives import communication

DEVICES, BATCH, WIDTH, INNER, ROUNDS = 8, 16, 64, 256, 5


@functools.cache
def mesh() -> Mesh:
    return jax.make_mesh((DEVICES,), ("x",), axis_types=(AxisType.Auto,))


def place(*spec: str | None) -> NamedSharding:
    return NamedSharding(mesh(), P(*spec))


def arrays(*specs: tuple[tuple[int, ...], P]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place(*spec)) for shape, spec in specs]


def whole(x: jax.Array) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, place())


def network(first: jax.Array, second: jax.Array, x: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ first) @ second


def tensor_parallel() -> Any:
    """Columns of the first matrix, rows of the second: one sum of (BATCH, WIDTH)."""
    given = arrays(((WIDTH, INNER), P(None, "x")), ((INNER, WIDTH), P("x", None)), ((BATCH, WIDTH), P()))
    return jax.jit(network, out_shardings=place()).lower(*given)


def tensor_parallel_rounds() -> Any:
    """The same in a loop."""

    def rounds(first: jax.Array, second: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, pair: (whole(network(*pair, x)), None), x, (first, second))[0]

    given = arrays(
        ((ROUNDS, WIDTH, INNER), P(None, None, "x")),
        ((ROUNDS, INNER, WIDTH), P(None, "x", None)),
        ((BATCH, WIDTH), P()),
    )
    return jax.jit(rounds, out_shardings=place()).lower(*given)


def gradients(cut: P) -> Any:
    """Gradients of both matrices, the batch divided; `cut` says how matrices and gradients lie."""

    def loss(params: tuple[jax.Array, jax.Array], x: jax.Array) -> jax.Array:
        return jnp.square(network(*(whole(w) for w in params), x)).sum()

    first, second, x = arrays(((WIDTH, INNER), cut), ((INNER, WIDTH), cut), ((BATCH, WIDTH), P("x")))
    places = (place(*cut),) * 2
    return jax.jit(jax.grad(loss), out_shardings=places).lower((first, second), x)


def by_hand(body: Callable[[jax.Array], jax.Array]) -> Any:
    mapped = jax.shard_map(body, mesh=mesh(), in_specs=P("x"), out_specs=P("x"))
    return jax.jit(mapped).lower(*arrays(((DEVICES * 8, WIDTH), P("x"))))


RING = [(i, (i + 1) % DEVICES) for i in range(DEVICES)]
PROGRAMS = {
    "tensor": tensor_parallel,
    "tensor_rounds": tensor_parallel_rounds,
    "data": lambda: gradients(P()),
    "fsdp": lambda: gradients(P("x", None)),
    "ring": lambda: by_hand(lambda x: jax.lax.ppermute(x, "x", RING)),
    "all_to_all": lambda: by_hand(lambda x: jax.lax.all_to_all(x, "x", 0, 0)),
    "scatter": lambda: by_hand(lambda x: jax.lax.psum_scatter(x, "x", tiled=True)),
    "alone": lambda: jax.jit(network).lower(*arrays(*[((WIDTH, WIDTH), P())] * 3)),
}

if __name__ == "__main__":
    found = {name: communication(lower().compile()) for name, lower in PROGRAMS.items()}
    print(json.dumps({name: {k: dataclasses.asdict(v) for k, v in kinds.items()} for name, kinds in found.items()}))
