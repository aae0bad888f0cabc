"""Noise priors over the frames of a story: frames that begin alike end alike (Ge et al. 2023, "Preserve Your Own Correlation").

    vanilla:      z_i = e_i
    mixed:        z_i = sqrt(a^2/(1+a^2)) e + sqrt(1/(1+a^2)) e_i             correlation of any two frames a^2/(1+a^2)
    progressive:  z_i = sqrt(a^2/(1+a^2)) z_{i-1} + sqrt(1/(1+a^2)) e_i       correlation (a^2/(1+a^2))^{|i-j|/2}

Every frame has unit variance. ContextualStory trains and samples with mixed, a = 1.5 (correlation 9/13).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from storyjax.config import nearest
from storyjax.errors import StoryjaxError

Kind = Literal["vanilla", "mixed", "progressive"]


@dataclasses.dataclass(frozen=True)
class NoisePrior:
    """How the noise of a story's frames hangs together."""

    kind: Kind = "mixed"
    """vanilla, mixed or progressive."""
    alpha: float = 1.5
    """Strength a of the shared part; unused by vanilla."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise StoryjaxError(f"unknown noise prior '{self.kind}'{nearest(str(self.kind), list(get_args(Kind)))}")
        if self.alpha < 0:
            raise StoryjaxError(f"noise prior: expected alpha of at least 0, got {self.alpha}")


def draw(prior: NoisePrior, key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype | type = jnp.float32) -> jax.Array:
    """Noise of shape (B, F, H, W, C). The key is split in two: first the shared draw, then the independent ones.

    Drawn in float32 and cast last, so that bfloat16 runs see the float32 noise rounded. Errors: not five axes.
    """
    if len(shape) != 5:
        raise StoryjaxError(f"noise: expected a shape (B, F, H, W, C), got {tuple(shape)}")
    shared_key, own_key = jax.random.split(key)
    own = jax.random.normal(own_key, shape, jnp.float32)
    if prior.kind == "vanilla":
        return own.astype(dtype)
    keep = math.sqrt(prior.alpha**2 / (1 + prior.alpha**2))
    fresh = math.sqrt(1 / (1 + prior.alpha**2))
    if prior.kind == "mixed":
        shared = jax.random.normal(shared_key, (shape[0], 1, *shape[2:]), jnp.float32)
        return mix(shared, own, prior.alpha).astype(dtype)

    def follow(previous: jax.Array, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
        frame = keep * previous + fresh * frame
        return frame, frame

    first, rest = own[:, 0], jnp.moveaxis(own[:, 1:], 1, 0)
    _, following = jax.lax.scan(follow, first, rest)
    return jnp.concatenate([first[:, None], jnp.moveaxis(following, 0, 1)], axis=1).astype(dtype)


def seeds(seed: int | Sequence[int], count: int, what: str) -> list[int]:
    """One seed for each of `count` drawings: a single number n gives the i-th n + i. what: how an error calls a drawing.

    Errors: another number of seeds than drawings, a seed outside 0..2^32 - 1.
    """
    numbers = [int(seed) + i for i in range(count)] if isinstance(seed, int | np.integer) else list(seed)
    if len(numbers) != count:
        raise StoryjaxError(f"expected one seed or {count}, one for each {what}, got {len(numbers)}")
    for number in numbers:
        if not isinstance(number, int | np.integer) or not 0 <= number < 2**32:
            raise StoryjaxError(f"expected a seed in 0..{2**32 - 1}, got {number!r}")
    return [int(number) for number in numbers]


def key_data(seeds: Sequence[int]) -> np.ndarray:
    """The random key of each seed as plain numbers (N, 2), for `jax.random.wrap_key_data` inside a compiled program."""
    return np.stack([np.asarray(jax.random.key_data(jax.random.key(seed))) for seed in seeds])


def part_keys(keys: np.ndarray, part: int) -> np.ndarray:
    """Keys as `key_data` gives them (N, 2) for the part of a drawing made in several; part 0 has the drawing's own."""
    if part == 0:
        return keys
    fold = jax.vmap(lambda data: jax.random.key_data(jax.random.fold_in(jax.random.wrap_key_data(data), part)))
    return np.asarray(fold(keys))


def mix(shared: jax.Array, own: jax.Array, alpha: float) -> jax.Array:
    """The mixed prior from its two draws: shared (B, 1, H, W, C), own (B, F, H, W, C)."""
    return shared * math.sqrt(alpha**2 / (1 + alpha**2)) + own * math.sqrt(1 / (1 + alpha**2))
