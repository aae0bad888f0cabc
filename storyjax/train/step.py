"""One optimizer step as one compiled function over pure dictionaries."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from storyjax.nn.flops import Flops, count_jaxpr
from storyjax.parallel.layouts import lay_out
from storyjax.parallel.placement import Placement
from storyjax.train import ema
from storyjax.train.config import TrainConfig
from storyjax.train.optimizer import learning_rate
from storyjax.train.state import State, merge, split
from storyjax.train.task import Batch, Params, Task

Values = dict[str, jax.Array]


def cast(params: Params, dtype: Any) -> Params:
    """Floating leaves in `dtype`, the others as they are."""

    def one(leaf: jax.Array) -> jax.Array:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(one, params)


def make_step(
    task: Task, config: TrainConfig, optimizer: optax.GradientTransformation
) -> Callable[[State, Batch], tuple[State, Values]]:
    """The function (state, batch) -> (new state, scalars), not yet compiled; donate its first argument.

    Gradient of the mean over the micro-batches a = 1..A of size B/A: g = 1/A sum_a grad L_a, exact in float32. Then clip,
    AdamW, `task.project`, moving average. Scalars: `loss`, `grad_norm` (before clipping), `update_norm`, `param_norm`
    (after the update, so that it shows a parameter that has become infinite), `learning_rate` and what the loss reports.
    """
    schedule = learning_rate(config.optimizer, config.steps)
    dtype = jnp.dtype(config.compute_dtype)

    def loss_of(trainable: Params, frozen: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Values]:
        loss, values = task.loss_fn(cast(merge(trainable, frozen), dtype), batch, key)
        loss = jnp.asarray(loss, jnp.float32)
        return loss, {"loss": loss} | {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}

    gradient = jax.grad(loss_of, has_aux=True)

    def accumulated(trainable: Params, frozen: Params, batch: Batch, key: jax.Array) -> tuple[Params, Values]:
        parts = config.accumulation
        if parts == 1:
            return gradient(trainable, frozen, batch, key)

        def one(total: Any, part: Any) -> tuple[Any, None]:
            micro, index = part
            found = gradient(trainable, frozen, micro, jax.random.fold_in(key, index))
            return jax.tree.map(jnp.add, total, found), None

        micros = jax.tree.map(lambda leaf: leaf.reshape(parts, leaf.shape[0] // parts, *leaf.shape[1:]), batch)
        micros = jax.tree.map(lambda leaf: lay_out(leaf, "micro_batches"), micros)
        first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), micros)
        shapes = jax.eval_shape(gradient, trainable, frozen, first, key)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        total, _ = jax.lax.scan(one, zeros, (micros, jnp.arange(parts)))
        return jax.tree.map(lambda leaf: leaf / parts, total)

    def step(state: State, batch: Batch) -> tuple[State, Values]:
        params, frozen, train = state["params"], state["frozen"], state["train"]
        count = train["step"]
        key = jax.random.fold_in(jax.random.wrap_key_data(train["key"]), count)
        grads, values = accumulated(params, frozen, batch, key)
        updates, opt = optimizer.update(grads, train["opt"], params)
        moved: Any = optax.apply_updates(params, updates)
        params, _ = split(task.project(merge(moved, frozen)), task.frozen)
        shadow = ema.update(state["ema"], params, ema.rate(config.ema, count))
        values = values | {
            "grad_norm": optax.tree.norm(grads),
            "update_norm": optax.tree.norm(updates),
            "param_norm": optax.tree.norm(params),
            "learning_rate": schedule(count),
        }
        train = {"opt": opt, "step": count + 1, "key": train["key"]}
        return {"params": params, "frozen": frozen, "ema": shadow, "train": train}, values

    return step


def compile_step(
    step: Callable[[State, Batch], tuple[State, Values]], state: State, batch: Batch, placement: Placement
) -> tuple[Any, Flops]:
    """Compiled ahead of time for exactly these shapes, the state donated: it can never compile a second time.

    With it the operations of one step on all devices together. The new state lies where the old one lay, the scalars are on every
    device. To be called within `placement.current()`.
    """
    places = placement.shardings(state), placement.everywhere
    traced = jax.jit(step, donate_argnums=0, out_shardings=places).trace(state, batch)
    return traced.lower().compile(), count_jaxpr(traced.jaxpr)
