"""The state of a training run: one pure nested dictionary, which is also what a checkpoint holds.

    {"params": trainable leaves, "frozen": the others, "ema": averages of the trainable ones,
     "train": {"opt": optimizer state, "step": int32, "key": uint32 key data}}

Gradients, optimizer state and averages exist for trainable leaves only. The key never changes: step n draws from
`fold_in(key, n)`, so a resumed run sees the same noise as one never stopped.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from storyjax.errors import StoryjaxError
from storyjax.nn.build import flatten, unflatten
from storyjax.parallel.placement import Placement
from storyjax.train.task import Params, Task

State = dict[str, Any]


def split(params: Params, frozen: tuple[str, ...]) -> tuple[Params, Params]:
    """(trainable, frozen) by regular expressions searched in dotted paths; each expression must find something."""
    flat = flatten(params)
    for pattern in frozen:
        if not any(re.search(pattern, path) for path in flat):
            raise StoryjaxError(
                f"frozen pattern '{pattern}' matches no parameter; paths look like '{next(iter(flat))}'"
            )
    held = {path: leaf for path, leaf in flat.items() if any(re.search(pattern, path) for pattern in frozen)}
    return unflatten({path: leaf for path, leaf in flat.items() if path not in held}), unflatten(held)


def merge(trainable: Params, frozen: Params) -> Params:
    """The whole nested dictionary again."""
    return unflatten(flatten(trainable) | flatten(frozen))


def new_state(params: Params, frozen: tuple[str, ...], optimizer: optax.GradientTransformation, seed: int) -> State:
    """State before the first step. Leaves are fresh buffers: the step donates them, and the caller keeps `params`."""
    trainable, held = split(params, frozen)
    if not trainable:
        raise StoryjaxError(f"nothing to train: the frozen patterns {list(frozen)} match every parameter")
    for path, leaf in flatten(trainable).items():
        if leaf.dtype != jnp.float32:
            raise StoryjaxError(
                f"trainable parameter '{path}' is {leaf.dtype}; expected float32 (freeze it or cast it)"
            )
    trainable = _copy(trainable)
    train = {
        "opt": optimizer.init(trainable),
        "step": jnp.zeros((), jnp.int32),
        "key": jax.random.key_data(jax.random.fold_in(jax.random.key(seed), 1)),
    }
    return {"params": trainable, "frozen": _copy(held), "ema": _copy(trainable), "train": train}


def _copy(tree: Params) -> Params:
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)


def initial_params(task: Task, seed: int) -> Params:
    """Parameters drawn from the seed; their key differs from the key of the losses."""
    return task.init(jax.random.fold_in(jax.random.key(seed), 0))


def abstract_state(task: Task, optimizer: optax.GradientTransformation, seed: int) -> State:
    """Shapes and dtypes of the state, without drawing or allocating anything."""
    return jax.eval_shape(lambda: new_state(initial_params(task, seed), task.frozen, optimizer, seed))


def created(task: Task, optimizer: optax.GradientTransformation, seed: int, placement: Placement) -> State:
    """The state before the first step, every leaf drawn where it is to lie: no device ever holds the whole."""
    if placement.mesh.size == 1:  # one by one: to compile the drawing of a large network takes a minute
        return placement.put(new_state(initial_params(task, seed), task.frozen, optimizer, seed))
    places = placement.shardings(abstract_state(task, optimizer, seed))
    make = jax.jit(lambda: new_state(initial_params(task, seed), task.frozen, optimizer, seed), out_shardings=places)
    with placement.current():
        return make()


def begun_with(
    params: Params, task: Task, optimizer: optax.GradientTransformation, seed: int, placement: Placement
) -> State:
    """The same from given parameters, which stay the caller's."""
    if placement.mesh.size == 1:
        return placement.put(new_state(params, task.frozen, optimizer, seed))
    places = placement.shardings(abstract_state(task, optimizer, seed))
    make = jax.jit(lambda given: new_state(given, task.frozen, optimizer, seed), out_shardings=places)
    with placement.current():
        return make(placement.put(params))


def check_params(given: Params, expected: Params) -> None:
    """Raise once, naming every path that is missing, unknown or of another shape."""
    got, want = flatten(given), flatten(expected)
    wrong = [f"missing '{path}'" for path in sorted(want.keys() - got.keys())]
    wrong += [f"unknown '{path}'" for path in sorted(got.keys() - want.keys())]
    wrong += [
        f"'{path}' is {tuple(got[path].shape)}, expected {tuple(want[path].shape)}"
        for path in sorted(want.keys() & got.keys())
        if tuple(got[path].shape) != tuple(want[path].shape)
    ]
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise StoryjaxError(f"the initial parameters do not fit the model: {'; '.join(wrong[:8])}{more}")


def ema_params(state: State) -> Params:
    """The moving averages, completed with the frozen leaves."""
    return merge(state["ema"], state["frozen"])
