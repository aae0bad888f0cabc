"""A network behind any number of rows, always run in the one batch size it was compiled for.

A compiled program is another one for every shape, and rounds another way. With one shape, and the rest of the last batch filled up,
what comes out for a row does not depend on how many rows the caller gives at a time, to the bit.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from storyjax.errors import StoryjaxError


class FixedBatch:
    """`function(params, rows) -> a tree of arrays` over rows (N, ...), compiled once for `batch` rows.

    Products are computed in full float32 on every device (a GPU or TPU would round their inputs). What is filled in are
    copies of the first row; a function must treat each row alone.
    """

    def __init__(self, function: Callable[[Any, jax.Array], Any], params: Any, batch: int):
        if batch < 1:
            raise StoryjaxError(f"expected a batch of at least one row, got {batch}")
        self.batch, self._params = batch, params

        def exact(params: Any, rows: jax.Array) -> Any:
            with jax.default_matmul_precision("highest"):
                return function(params, rows)

        self._compiled = jax.jit(exact)

    def __call__(self, rows: np.ndarray) -> Any:
        """rows (N, ...), N >= 1 -> what the function gives, as NumPy arrays of N rows."""
        if not len(rows):
            raise StoryjaxError("expected at least one row, got none")
        parts = [self._run(rows[start : start + self.batch]) for start in range(0, len(rows), self.batch)]
        return jax.tree.map(lambda *found: np.concatenate(found), *parts)

    def _run(self, rows: np.ndarray) -> Any:
        missing = self.batch - len(rows)
        full = np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)]) if missing else rows
        return jax.tree.map(lambda found: np.asarray(found)[: len(rows)], self._compiled(self._params, full))
