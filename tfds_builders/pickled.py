"""`.npy` files of published data sets, which hold pickles: read without letting them import or run anything.

Python's unpickler finds what a pickle names through `find_class`; here that knows NumPy's own way to rebuild arrays and plain
containers, and refuses the rest by name (the standard library's "Restricting Globals"). NumPy's format: numpy.lib.format.
"""

import pickle
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from tfds_builders.layout import LayoutError


def _number(dtype: np.dtype, data: Any = b"") -> Any:
    """A NumPy number, from its bytes."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError(f"a number of type {dtype}")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype)[0]


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", "utf-8"):
        raise pickle.UnpicklingError(f"text in the encoding {encoding}")
    return text.encode(encoding)


def _empty_bytes() -> bytes:
    """How protocol 2 writes b""."""
    return b""


def _plain_dict(*_: Any) -> dict:
    """For OrderedDict() and defaultdict(list): the pickle fills it."""
    return {}


def _known() -> dict[str, Any]:
    core = {
        "_reconstruct": np.empty(0).__reduce__()[0],  # wherever this version of NumPy keeps it
        "scalar": _number,
    }
    known: dict[str, Any] = {f"{module}.{name}": value for module in _CORES for name, value in core.items()}
    containers = {"list": list, "dict": dict, "tuple": tuple, "set": set}
    known |= {f"{module}.{name}": kind for module in ("builtins", "__builtin__") for name, kind in containers.items()}
    return known | {
        "builtins.bytes": _empty_bytes,
        "__builtin__.bytes": _empty_bytes,
        "numpy.ndarray": np.ndarray,
        "numpy.dtype": np.dtype,
        "_codecs.encode": _encoded,
        "collections.OrderedDict": _plain_dict,
        "collections.defaultdict": _plain_dict,
    }


_CORES = ("numpy.core.multiarray", "numpy._core.multiarray")
_KNOWN = _known()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if asked not in _KNOWN:
            raise _Refused(asked)
        return _KNOWN[asked]


class _Refused(Exception):
    """The name that a pickle asked for."""


def load_npy(path: Path) -> Any:
    """What `path` holds: an array, or the object of an array without dimensions; text of Python 2 read as latin1.

    Errors (LayoutError): the file is missing, cut off, no `.npy`, or asks for anything but arrays, bytes, text, numbers and
    plain containers.
    """
    try:
        with path.open("rb") as file:
            array = _read(file)
    except FileNotFoundError:
        raise LayoutError(f"'{path}' does not exist; the data set cannot be read without it") from None
    except _Refused as refused:
        raise LayoutError(
            f"'{path}' is refused: its pickle asks for {refused}, and only arrays, numbers, text and plain containers are "
            "read; nothing was run. Get the file again from the owners of the data set"
        ) from None
    except (*_DAMAGED, OSError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LayoutError(f"'{path}' cannot be read as a .npy file ({what}); get it again") from None
    return array.item() if array.ndim == 0 else array


_DAMAGED = (
    pickle.UnpicklingError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    SyntaxError,  # of the header, which NumPy reads as Python's literals
    tokenize.TokenError,
)
_HEADERS: dict[tuple[int, int], Callable] = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def _read(file: BinaryIO) -> np.ndarray:
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format")
    shape, fortran_order, dtype = _HEADERS[version](file)
    if not dtype.hasobject:
        file.seek(0)
        return np.load(file, allow_pickle=False)
    array = _Unpickler(file, encoding="latin1").load()
    if not isinstance(array, np.ndarray) or array.size != int(np.prod(shape)):
        raise ValueError(f"expected {shape} objects, got {type(array).__name__} {getattr(array, 'shape', '')}")
    return array.reshape(shape, order="F" if fortran_order else "C")
