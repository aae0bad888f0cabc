"""Scalars gathered between two log lines, as clu's mergeable metrics."""

from typing import Any

import jax
import jax.numpy as jnp
from clu import metrics


class Window:
    """The running averages since the last log line; adding a step costs one small dispatch and no wait."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._kind: Any = None
        self._total: Any = None

    def add(self, values: dict[str, jax.Array]) -> None:
        """Merge the scalars of one step, which lie on every device; every step brings the same names."""
        self._prepare(sorted(values))
        update = [values[name].addressable_data(0) for name in self._names]  # every device has a copy
        self._total = self._merge(self._total or self._kind.empty(), update)

    def compute(self) -> dict[str, float]:
        """The averages as Python numbers; waits for the device."""
        if self._total is None:
            return {}
        found = jax.device_get(self._total).compute()
        return {name: float(found[f"m{i}"]) for i, name in enumerate(self._names)}

    def clear(self) -> None:
        """Start again after a log line."""
        self._total = None

    def get_state(self) -> dict[str, list[float]]:
        """{name: [sum, count]}, exact in JSON, so that a resumed run continues the same line of the log."""
        if self._total is None:
            return {}
        total = jax.device_get(self._total)
        parts = [getattr(total, f"m{i}") for i in range(len(self._names))]
        return {name: [float(part.total), int(part.count)] for name, part in zip(self._names, parts)}

    def set_state(self, state: dict[str, list[float]]) -> None:
        """Continue from `get_state`."""
        if not state:
            return
        self._prepare(sorted(state))
        average: Any = metrics.Average
        averages = {
            f"m{i}": average(total=jnp.float32(state[name][0]), count=jnp.int32(state[name][1]))
            for i, name in enumerate(self._names)
        }
        self._total = self._kind.empty().replace(**averages)

    def _prepare(self, names: list[str]) -> None:
        if names == self._names:
            return
        self._total = None  # a resumed window of a loss that has other metrics now
        # Field names of a clu collection must be identifiers; metric names may hold slashes.
        self._names = names
        fields = {f"m{i}": metrics.Average.from_output(f"m{i}") for i in range(len(names))}
        kind = self._kind = metrics.Collection.create(**fields)

        def merge(total: Any, values: list[jax.Array]) -> Any:
            return total.merge(kind.single_from_model_output(**{f"m{i}": value for i, value in enumerate(values)}))

        self._merge = jax.jit(merge)
