"""Measuring several ways to do the same work: alternating, after warm-ups, compilation excluded, medians."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from storyjax.nn.flops import Flops, peak_flops, utilisation

Conditions = dict[str, str | int | float]
BLOCK = 5  # executions of one side before the other's turn


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a benchmark is to be run."""

    full: bool  # released sizes; otherwise toys that only show that it runs
    dtype: str  # "float32" or "bfloat16": of the arithmetic, on all sides
    steps: int  # measured executions of each side
    warmup: int  # executions before these
    against: tuple[str, ...] = ()  # PyTorch's sides: "eager", "compile"
    batch: int | None = None  # instead of the benchmark's own


@dataclasses.dataclass(frozen=True)
class Side:
    """One way to do the work. `start` begins an execution, `wait` returns when that is done."""

    name: str
    start: Callable[[], Any]
    wait: Callable[[Any], Any]
    ahead: bool = False  # `start` returns at once: the next execution is started before the one before is waited for
    flops: Flops | None = None  # of one execution
    peak_bytes: Callable[[], int | None] = lambda: None
    program: Any = None  # what JAX compiled


@dataclasses.dataclass(frozen=True)
class Row:
    """What one side did. `ratio`: the seconds of the first side over those of this one, so below 1 the first is faster."""

    work: str
    side: str
    conditions: Conditions
    seconds: float  # median of one execution
    fastest: float
    slowest: float
    measured: int
    items: float = 1  # pictures or stories in one execution
    unit: str = "run"
    ratio: float | None = None
    tflop: float | None = None
    utilisation: float | None = None  # "mfu", or "hfu" where a note says that activations are computed twice
    peak_bytes: int | None = None
    communication: dict[str, dict[str, float]] | None = None  # kind -> bytes of one device and execution
    notes: tuple[str, ...] = ()

    @property
    def per_item(self) -> float:
        """Seconds for each picture or story."""
        return self.seconds / self.items


def compare(
    work: str, sides: Sequence[Side], setting: Setting, conditions: Conditions, *, items: float = 1, unit: str = "run"
) -> list[Row]:
    """A row for each side, the first being what the others are held against."""
    seconds = alternate(sides, setting.steps, setting.warmup)
    first = statistics.median(seconds[0])
    rows = []
    for number, (side, taken) in enumerate(zip(sides, seconds)):
        median, flops = statistics.median(taken), side.flops
        rows.append(
            Row(
                work,
                side.name,
                {"dtype": setting.dtype} | conditions,
                median,
                min(taken),
                max(taken),
                len(taken),
                items,
                unit,
                ratio=first / median if number else None,
                tflop=flops.total / 1e12 if flops else None,
                utilisation=utilisation(flops, median) if flops else None,
                peak_bytes=side.peak_bytes(),
                notes=notes(flops),
            )
        )
    return rows


def notes(flops: Flops | None) -> tuple[str, ...]:
    """What a reader of the count and of the utilisation has to know."""
    if flops is None:
        return ()
    found = list(flops.notes)
    if flops.recomputes:
        found.append("activations are computed twice: utilisation is of the hardware (hfu), not of the model (mfu)")
    if peak_flops() is None:
        found.append(f"peak of '{jax.devices()[0].device_kind}' unknown: no utilisation")
    return tuple(found)


def alternate(sides: Sequence[Side], steps: int, warmup: int) -> list[list[float]]:
    """Seconds of `steps` executions of each side, in turns of at most `BLOCK`."""
    for side in sides:
        _turn(side, warmup)
    seconds: list[list[float]] = [[] for _ in sides]
    for done in range(0, steps, BLOCK):
        for side, taken in zip(sides, seconds):
            taken += _turn(side, min(BLOCK, steps - done))
    return seconds


def _turn(side: Side, count: int) -> list[float]:
    """Seconds between the ends of `count` executions."""
    seconds, pending = [], None
    before = time.perf_counter()
    for number in range(count):
        current = side.start() if pending is None else pending
        pending = side.start() if side.ahead and number + 1 < count else None
        side.wait(current)
        now = time.perf_counter()
        seconds.append(now - before)
        before = now
    return seconds
