"""Contiguous copies of transposed tensors, fast: converting a checkpoint is little else.

Read in one order and written in another, a large tensor misses the processor's cache at nearly every number. Block by block
both sides stay in it: about three times the speed for the tensors of a Stable Diffusion UNet.
"""

import itertools
import math

import numpy as np

# Numbers along the contiguous axes of a block. 272, not 256: rows of a power of two of bytes would all fall into the same
# few places of the cache.
RUN = 272
SMALL = 1 << 16  # bytes that fit the cache anyhow


def contiguous(view: np.ndarray) -> np.ndarray:
    """`view` in C order: itself if it already is, else a copy of it."""
    if view.flags.c_contiguous:
        return view
    if view.nbytes <= SMALL:
        return np.ascontiguousarray(view)
    dtype, view = view.dtype, view.view(f"u{view.itemsize}") if view.itemsize in (1, 2, 4, 8) else view
    out = np.empty(view.shape, view.dtype)
    read_order = sorted((axis for axis in range(view.ndim) if view.shape[axis] > 1), key=lambda a: view.strides[a])
    write_order = [axis for axis in reversed(range(view.ndim)) if view.shape[axis] > 1]
    steps = list(view.shape)
    blocked = {_run(view.shape, order, steps) for order in (read_order, write_order)}
    # What neither run holds is walked one by one.
    for axis in range(view.ndim):
        if axis not in {a for run in blocked for a in run}:
            steps[axis] = 1
    ranges = [range(0, size, step) for size, step in zip(view.shape, steps)]
    for start in itertools.product(*ranges):
        block = tuple(slice(at, at + step) for at, step in zip(start, steps))
        out[block] = view[block].copy(
            order="K"
        )  # first as it lies: the rows of the source may collide in the cache too
    return out.view(dtype)


def _run(shape: tuple[int, ...], order: list[int], steps: list[int]) -> tuple[int, ...]:
    """The first axes of `order` that hold a run of numbers together; the last one's step is cut to that run."""
    count, run = 1, []
    for axis in order:
        run.append(axis)
        if count * shape[axis] >= RUN:
            steps[axis] = min(steps[axis], max(1, math.ceil(RUN / count)))
            break
        count *= shape[axis]
    return tuple(run)
