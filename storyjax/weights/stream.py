"""Safetensors files written tensor by tensor: the header comes from a plan, so no more than a few tensors are ever in memory.

While one tensor is on its way to the disk the next two are already being made. Format: https://github.com/huggingface/safetensors.
"""

import collections
import dataclasses
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from storyjax.errors import StoryjaxError
from storyjax.weights.finite import require_finite
from storyjax.weights.safetensors_file import DTYPES

CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
MAKERS = 2  # threads that read and turn tensors: as much work as one thread that writes
FLUSH = 1 << 27  # bytes after which the disk is told to begin writing: it then works while we compute


@dataclasses.dataclass(frozen=True)
class Planned:
    """One tensor of a file to be written. `label`: how an error calls it, default its name."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    label: str = ""

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def write_safetensors(
    file: Path,
    entries: Sequence[Planned],
    value_of: Callable[[Planned], np.ndarray],
    *,
    metadata: Mapping[str, str] | None = None,
    progress: Callable[[int], Any] | None = None,
    check: bool = True,
    source: str | Path = "the checkpoint",
) -> None:
    """Write the tensors in the order of `entries`, each made by `value_of` when its turn comes; the file is then on the disk.

    value_of: called in other threads, two calls at a time; must give the entry's dtype and shape, contiguous. progress: told
    the bytes of each tensor written. check: a NaN or an infinity is an error that names the tensor and `source`.
    Memory: the tensor being written, the two being made, and what making them takes.

    Errors: NaN or infinity (StoryjaxError); the system's own where writing fails (OSError). Either way the file is no whole one:
    write it into a folder of `storyjax.checkpoints.beside`, which then takes it away.
    """
    with file.open("wb", buffering=0) as stream, ThreadPoolExecutor(MAKERS) as makers, ThreadPoolExecutor(1) as flusher:
        since, flushed = _write(stream, header(entries, metadata)), None
        for entry, value in _ahead(makers, entries, lambda entry: _made(entry, value_of, check, source)):
            since += _write(stream, value.reshape(-1).view(np.uint8).data)
            if since > FLUSH and (flushed is None or flushed.done()):
                if flushed is not None:
                    flushed.result()
                since, flushed = 0, flusher.submit(os.fsync, stream.fileno())
            if progress is not None:
                progress(entry.nbytes)
        if flushed is not None:
            flushed.result()  # its failure would not be told again
        os.fsync(stream.fileno())


def header(entries: Sequence[Planned], metadata: Mapping[str, str] | None = None) -> bytes:
    """The length and the JSON that a .safetensors file begins with. Errors: a name twice, a dtype without a code."""
    content: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    start = 0
    for entry in entries:
        if entry.name in content:
            raise StoryjaxError(f"tensor '{entry.name}' would stand in the file twice; expected every name once")
        if entry.dtype not in CODES:
            raise StoryjaxError(f"tensor '{entry.name}': numbers of type {entry.dtype} have no place in safetensors")
        end = start + entry.nbytes
        content[entry.name] = {"dtype": CODES[entry.dtype], "shape": list(entry.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text


def _made(entry: Planned, value_of: Callable[[Planned], np.ndarray], check: bool, source: str | Path) -> np.ndarray:
    value = value_of(entry)
    label = entry.label or entry.name
    if value.dtype != entry.dtype or value.shape != entry.shape:
        raise StoryjaxError(
            f"tensor '{label}': expected {entry.dtype} {entry.shape}, got {value.dtype} {value.shape}; is the file changing?"
        )
    if check:
        require_finite(label, value, source)
    return np.ascontiguousarray(value).reshape(entry.shape)


def _ahead(
    makers: ThreadPoolExecutor, entries: Sequence[Planned], make: Callable[[Planned], np.ndarray]
) -> Iterator[tuple[Planned, np.ndarray]]:
    """(entry, value) in order; the next values are made while the caller works with this one."""
    waiting = iter(entries)
    coming = collections.deque(makers.submit(make, entry) for entry in itertools.islice(waiting, MAKERS))
    for entry in entries:
        value = coming.popleft().result()
        coming.extend(makers.submit(make, later) for later in itertools.islice(waiting, 1))
        yield entry, value
        del value


def _write(stream: Any, data: bytes | memoryview) -> int:
    """All of `data`; a raw write may take only a part of it."""
    data = memoryview(data)
    total = len(data)
    while len(data):
        data = data[stream.write(data) :]
    return total
