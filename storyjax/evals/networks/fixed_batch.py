"""A network behind any number of rows: what comes out for a row does not depend on the others, nor on how many the caller gives.

A compiled program is another one for every shape, and rounds another way; so there is one program, and the rest of the last batch
is filled up. On a CPU the rows at a batch's end are computed in another way than those before, so there a batch is a single row.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from storyjax.errors import StoryjaxError
from storyjax.kernels.backends import platform


class FixedBatch:
    """`function(params, rows) -> a tree of arrays` over rows (N, ...), compiled once for `batch` rows (on a CPU for one).

    Products are computed in full float32 on every device (a GPU or TPU would round their inputs). What is filled in are copies of
    the first row; a function must treat each row alone.
    """

    def __init__(self, function: Callable[[Any, jax.Array], Any], params: Any, batch: int):
        if batch < 1:
            raise StoryjaxError(f"expected a batch of at least one row, got {batch}")
        self.batch, self._params = 1 if platform() == "cpu" else batch, params

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
