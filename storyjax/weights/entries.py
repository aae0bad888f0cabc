"""Where one tensor lies in a file, and how it is read from there: every format of checkpoint comes down to this."""

import dataclasses
import math
from pathlib import Path

import numpy as np

from storyjax.errors import StoryjaxError


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A tensor in a file, not read yet.

    offset: byte of its first number. strides: numbers (not bytes) from one element to the next along each axis, or None where
    the tensor lies densely in C order, as nearly all do.
    """

    file: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Size of the tensor in memory, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def extent(self) -> int:
        """How many numbers lie between the tensor's first and its last in the file, both counted."""
        if 0 in self.shape:
            return 0
        if self.strides is None:
            return math.prod(self.shape)
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))

    def read(self) -> np.ndarray:
        """The values, dense and in C order, in the dtype of the file; a copy of its own.

        Plain reading at the offset: a memory map would count towards the process's memory as far as it was ever touched.
        """
        wanted = self.extent * self.dtype.itemsize
        try:
            data = np.fromfile(self.file, np.uint8, wanted, offset=self.offset)
        except OSError as error:
            raise StoryjaxError(f"cannot read '{self.file}': {error.strerror or error}") from None
        if data.size != wanted:
            raise StoryjaxError(f"'{self.file}' is shorter than when it was opened; is it still being written?")
        values = data.view(self.dtype)
        if self.strides is None:
            return values.reshape(self.shape)
        steps = [stride * self.dtype.itemsize for stride in self.strides]
        # Within bounds: `extent` numbers were read, and strides are not negative.
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values, self.shape, steps)).reshape(self.shape)


def strides_unless_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides, or None where they are those of a dense tensor; an axis of size 1 may have any."""
    step = 1
    for size, stride in zip(reversed(shape), reversed(strides)):
        if size != 1 and stride != step:
            return strides if 0 not in shape else None
        step *= size
    return None
