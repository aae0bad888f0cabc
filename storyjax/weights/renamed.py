"""Tensors of a file under other names than it gives them, as lazy as they were."""

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from storyjax.weights.readers import Reader

Change = Callable[[np.ndarray], np.ndarray]
Places = Mapping[str, tuple[str, Change | None]]


class Renamed(Mapping[str, np.ndarray]):
    """Some tensors of a reader under other names, each changed as it is read (a transpose, a third of its rows).

    places: new name -> (name in the file, what is done to the values, or None). A change must work on any array of the shape.
    """

    def __init__(self, reader: Reader, places: Places):
        self.files, self.metadata = reader.files, reader.metadata
        self._reader, self._places = reader, dict(places)

    def __getitem__(self, key: str) -> np.ndarray:
        source, change = self._places[key]
        values = self._reader[source]
        return values if change is None else np.ascontiguousarray(change(values))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def source_of(self, key: str) -> str:
        """The name of the tensor in the file."""
        return self._places[key][0]

    def sources(self) -> set[str]:
        """Names of all tensors of the file that are read."""
        return {source for source, _ in self._places.values()}

    def shape_of(self, key: str) -> tuple[int, ...]:
        """The shape under the new name; reads no values."""
        source, change = self._places[key]
        shape = self._reader.shape_of(source)
        return shape if change is None else change(np.broadcast_to(np.zeros((), np.int8), shape)).shape

    def dtype_of(self, key: str) -> np.dtype:
        """The dtype in the file."""
        return self._reader.dtype_of(self._places[key][0])

    @property
    def nbytes(self) -> int:
        """Size of all tensors together, in bytes."""
        return sum(math.prod(self.shape_of(key)) * self.dtype_of(key).itemsize for key in self)
