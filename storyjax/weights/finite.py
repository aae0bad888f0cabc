"""Types of number, and numbers that are none: found in weights before they are stored, and named by their tensor."""

from pathlib import Path

import ml_dtypes
import numpy as np

from storyjax.config import nearest
from storyjax.errors import StoryjaxError

# The bits that only NaN and infinity have all set, by type of number.
_EXPONENT = {
    np.dtype(np.float64): np.uint64(0x7FF0_0000_0000_0000),
    np.dtype(np.float32): np.uint32(0x7F80_0000),
    np.dtype(np.float16): np.uint16(0x7C00),
    np.dtype(ml_dtypes.bfloat16): np.uint16(0x7F80),
    np.dtype(ml_dtypes.float8_e5m2): np.uint8(0x7C),
    np.dtype(ml_dtypes.float8_e4m3fn): np.uint8(0x7F),  # has no infinity, one NaN
}


def dtype_named(name: str) -> np.dtype:
    """The dtype a person asked to store weights in. Error: no such one, naming the nearest."""
    known = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
    if name not in known:
        raise StoryjaxError(f"there is no dtype '{name}' for weights{nearest(name, list(known))}")
    return np.dtype(known[name])


def is_float(dtype: np.dtype) -> bool:
    """Whether numbers of this type have a fraction, those of ml_dtypes included."""
    return dtype in _EXPONENT


def all_finite(value: np.ndarray) -> bool:
    """Whether no number is NaN or infinite: none has all bits of its exponent set. Needs next to no memory."""
    if value.dtype not in _EXPONENT:
        return True
    bits, mask = value.reshape(-1).view(f"u{value.itemsize}"), _EXPONENT[value.dtype]
    parts = (bits[start : start + (1 << 18)] for start in range(0, bits.size, 1 << 18))
    return not any((part & mask).max() == mask for part in parts)


def require_finite(name: str, values: np.ndarray, source: str | Path = "the checkpoint") -> None:
    """Raise a StoryjaxError that names the tensor, where any of its numbers is NaN or infinite."""
    if all_finite(values):
        return
    nan, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    counts = " and ".join(f"{count} {what}" for count, what in ((nan, "NaN"), (infinite, "infinite")) if count)
    raise StoryjaxError(
        f"'{source}': tensor '{name}' holds {counts} of {values.size} numbers; take another copy of the checkpoint"
    )


def cast(value: np.ndarray, dtype: np.dtype, label: str) -> np.ndarray:
    """`value` as `dtype`. Error: a number that is none any more there, naming the tensor."""
    if value.dtype == dtype:
        return value
    with np.errstate(over="ignore"):
        changed = value.astype(dtype)
    if not all_finite(changed) and all_finite(value):
        largest = np.abs(value).max()
        raise StoryjaxError(f"tensor '{label}' holds {largest}, beyond {dtype.name}; choose another dtype")
    return changed
