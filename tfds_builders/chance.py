"""Chance that is the same on every machine: PCG64's raw stream, and a permutation that never repeats."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Dice:
    """Draws from PCG64's raw 64-bit stream, whose values NumPy guarantees; its `Generator` methods may change by version.

    Args:
        name: any text; equal names give equal draws.
    """

    def __init__(self, name: str):
        seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest(), "little")
        self._stream = np.random.PCG64(seed)

    def fraction(self) -> float:
        """Uniform in [0, 1), 53 bits."""
        return (int(self._stream.random_raw()) >> 11) * 2.0**-53

    def chance(self, probability: float) -> bool:
        return self.fraction() < probability

    def pick(self, items: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """One of `items`, with probability proportional to `weights` (uniform by default)."""
        if weights is None:
            return items[int(self.fraction() * len(items))]
        point = self.fraction() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            point -= weight
            if point < 0:
                return item
        return items[-1]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items in random order."""
        left = list(items)
        return [left.pop(int(self.fraction() * len(left))) for _ in range(count)]


def scatter(number: int, count: int, name: str) -> int:
    """A permutation of 0..count-1 that looks random: a four-round Feistel network, walked until it lands inside.

    Equal images are impossible, so numbers that differ stay different without a table of those already used.
    """
    bits = max(1, ((count - 1).bit_length() + 1) // 2)
    scramble: Callable[[int, int], int] = lambda turn, half: int.from_bytes(  # noqa: E731
        hashlib.blake2b(f"{name}/{turn}/{half}".encode(), digest_size=8).digest(), "little"
    )
    while True:
        left, right = number >> bits, number & ((1 << bits) - 1)
        for turn in range(4):
            left, right = right, left ^ (scramble(turn, right) & ((1 << bits) - 1))
        number = (left << bits) | right
        if number < count:
            return number
