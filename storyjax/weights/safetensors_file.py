"""The header of a .safetensors file: where each tensor lies. Read here, so that its tensors can be read one by one without a map.

Layout: 8 bytes with the header's length (little-endian), the header (JSON: name -> dtype, shape, [begin, end) in the data), the
data without gaps. https://github.com/huggingface/safetensors#format
"""

import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from storyjax.errors import StoryjaxError
from storyjax.weights.entries import Entry

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
LONGEST_HEADER = 100_000_000  # the format's own limit, in bytes


def read_header(file: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors of a file by name, and its metadata.

    Errors, one line each: cut off (at any byte), no such file format, a name that stands twice, an unknown dtype, offsets
    that overlap, leave gaps, or do not fit dtype and shape.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise _broken(file, f"its header should have {length} bytes, the file has {size}")
        text = stream.read(length)
    try:
        header = json.loads(text, object_pairs_hook=lambda pairs: _once(file, pairs))
    except (ValueError, RecursionError) as error:
        if isinstance(error, StoryjaxError):
            raise
        raise _broken(file, "its header is no JSON") from None
    if not isinstance(header, dict):
        raise _broken(file, "its header is no JSON object")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise _broken(file, "its __metadata__ is no JSON object")
    start = 8 + length
    spans = {name: _span(file, name, said) for name, said in header.items()}
    end = 0
    for name, (begin, stop, _, _) in sorted(spans.items(), key=lambda item: item[1][:2]):
        if begin != end:
            raise _broken(file, f"tensor '{name}' begins at byte {begin} of the data, expected {end}")
        end = stop
    if start + end != size:
        raise _broken(file, f"its tensors need {start + end} bytes, the file has {size}")
    places = {name: (start + begin, dtype, shape) for name, (begin, _, dtype, shape) in spans.items()}
    return {name: Entry(file, *place) for name, place in places.items()}, metadata


def _span(file: Path, name: str, said: Any) -> tuple[int, int, np.dtype, tuple[int, ...]]:
    """(begin, end, dtype, shape) of one entry of the header."""
    try:
        spelled, shape, (begin, end) = said["dtype"], tuple(said["shape"]), said["data_offsets"]
        numbers = [begin, end, *shape]
    except (TypeError, KeyError, ValueError):
        raise _broken(file, f"tensor '{name}' lacks a dtype, shape or data_offsets") from None
    if any(type(number) is not int or number < 0 for number in numbers):
        raise _broken(file, f"tensor '{name}' has shape {shape} and offsets {begin}, {end}; expected whole numbers")
    if spelled not in DTYPES:
        known = ", ".join(DTYPES)
        raise StoryjaxError(f"'{file}': tensor '{name}' has the unknown dtype '{spelled}'; expected one of {known}")
    dtype = np.dtype(DTYPES[spelled])
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise _broken(file, f"tensor '{name}' of {spelled} {shape} has {end - begin} bytes")
    return begin, end, dtype, shape


def _once(file: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dictionary; JSON itself would let the last of two equal names win."""
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise StoryjaxError(f"'{file}': '{twice}' stands twice in the header; expected once, save the file again")
    return made


def _broken(file: Path, reason: str) -> StoryjaxError:
    return StoryjaxError(f"'{file}' is no whole .safetensors file ({reason}); copy or save it again")
