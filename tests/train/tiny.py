"""A task small enough to compile in a second: a two-layer network on synthetic batches whose position can be saved."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from storyjax.train.task import Task


class TinyBatches:
    """Batch n is a function of n alone. `pause`: seconds a batch takes. `bad`: index of a batch that holds a NaN."""

    def __init__(self, size: int = 8, pause: float = 0.0, bad: int | None = None, stop_after: int | None = None):
        self.size, self.pause, self.bad, self.stop_after, self.position = size, pause, bad, stop_after, 0

    def __next__(self) -> dict[str, np.ndarray]:
        if self.position == self.stop_after:
            raise StopIteration
        time.sleep(self.pause)
        random = np.random.default_rng(self.position)
        x = random.normal(size=(self.size, 4)).astype(np.float32)
        if self.position == self.bad:
            x[1, 2] = np.nan
        index = np.arange(self.size) + self.size * self.position
        self.position += 1
        return {"x": x, "y": x.sum(1), "index": index}

    def get_state(self) -> dict:
        return {"next_index": self.position}

    def set_state(self, state: dict) -> None:
        self.position = state["next_index"]


def init(key: jax.Array) -> dict:
    one, two = jax.random.split(key)
    return {
        "encoder": {"kernel": jax.random.normal(one, (4, 8)) / 2, "bias": jnp.zeros(8)},
        "layers": {"0": {"kernel": jax.random.normal(two, (8, 1)) / 3, "bias": jnp.zeros(1)}},
    }


def predict(params: dict, x: jax.Array) -> jax.Array:
    hidden = jnp.tanh(x @ params["encoder"]["kernel"] + params["encoder"]["bias"])
    return (hidden @ params["layers"]["0"]["kernel"] + params["layers"]["0"]["bias"])[:, 0]


def quiet_loss(params: dict, batch: dict, key: jax.Array) -> tuple[jax.Array, dict]:
    """Mean squared error; no noise, so that two ways of averaging can be compared."""
    error = predict(params, batch["x"]) - batch["y"]
    return jnp.mean(error**2), {"error/mean": jnp.mean(error)}


def noisy_loss(params: dict, batch: dict, key: jax.Array) -> tuple[jax.Array, dict]:
    """The same with noise on the target, as a diffusion loss has."""
    noise = 0.1 * jax.random.normal(key, batch["y"].shape)
    return quiet_loss(params, batch | {"y": batch["y"] + noise}, key)


def tiny_task(**changes) -> Task:
    return Task(**({"init": init, "loss_fn": noisy_loss} | changes))
