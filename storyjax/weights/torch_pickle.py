"""What the pickle inside a file of torch.save may ask for: tensors as views of storages, dictionaries, numbers; nothing is run.

A storage is a flat run of numbers in the file, and reaches the pickle as a persistent identifier; a tensor is built from it by
`torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, ...)`. Everything else that a pickle names is refused.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from storyjax.errors import StoryjaxError
from storyjax.weights.entries import Entry, strides_unless_dense
from storyjax.weights.pickles import Known, Made, Name

_DTYPES = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "bool": np.bool_,
}
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "UntypedStorage": "uint8",
    "BoolStorage": "bool",
}


@dataclasses.dataclass
class Storage:
    """A run of numbers in the file; `offset` (bytes) is known once the container says where it lies."""

    key: str
    dtype: np.dtype
    length: int
    offset: int = -1


@dataclasses.dataclass
class Tensor:
    """A view of a storage as the pickle describes it: first element and strides counted in elements of `dtype`."""

    storage: Storage
    dtype: np.dtype
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def entry(self, file: Path, name: str) -> Entry:
        """Where it lies; a tensor that reaches past its storage is an error."""
        offset = self.storage.offset + self.first * self.dtype.itemsize
        entry = Entry(file, offset, self.dtype, self.shape, strides_unless_dense(self.shape, self.strides))
        end = offset + entry.extent * self.dtype.itemsize
        if end > self.storage.offset + self.storage.length * self.storage.dtype.itemsize:
            raise StoryjaxError(f"'{file}': tensor '{name}' reaches past the end of its storage; the file is damaged")
        return entry


def known_to_torch(storages: dict[str, Storage], *, script: bool = False) -> Known:
    """What a pickle of torch.save may ask for; `storages` is filled with those that its tensors are views of.

    script: of torch.jit.save. Its modules are named under `__torch__`, where their program would be: they become dictionaries of
    their attributes, and the program is not looked at.
    """

    def persistent(identifier: Any) -> Any:
        kind, type_name, key, _, length, *view = identifier
        if kind != "storage" or type_name.name not in _STORAGES or type(length) is not int or length < 0:
            raise ValueError(f"a persistent identifier names a {kind} of type {type_name}")
        said = Storage(str(key), np.dtype(_DTYPES[_STORAGES[type_name.name]]), length)
        storage = storages.setdefault(said.key, said)
        if (storage.dtype, storage.length) != (said.dtype, said.length):
            raise ValueError(f"storage '{key}' has two sizes")
        first = view[0][1] if view and view[0] is not None else 0  # files before 0.4 keep views of storages
        return (storage, first)

    numpy_core = ("numpy.core.multiarray", "numpy._core.multiarray")
    calls = {
        "torch._utils._rebuild_tensor": _rebuild,
        "torch._utils._rebuild_tensor_v2": _rebuild,
        "torch._utils._rebuild_tensor_v3": _rebuild_v3,
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
        "torch.Size": lambda sizes=(): tuple(sizes),
        "torch.device": lambda *place: ":".join(map(str, place)),
        "collections.OrderedDict": lambda pairs=(): _dictionary(pairs),
        "collections.Counter": lambda counts=(): _dictionary(counts),
        **dict.fromkeys([f"{core}.scalar" for core in numpy_core], _numpy_scalar),
        "numpy.dtype": _numpy_dtype,
        "_codecs.encode": lambda text, encoding: text.encode({"latin1": "latin1"}[encoding]),
    }
    if not script:
        return Known(calls, _may_stand, persistent, _ignores_state)
    for kind in ("int", "double", "bool", "tensor"):
        calls[f"torch.jit._pickle.build_{kind}list"] = lambda items: items
    calls["torch.jit._pickle.restore_type_tag"] = lambda value, _: value
    return Known(
        calls,
        lambda name: _may_stand(name) or _scripted(name),
        persistent,
        _ignores_state,
        makes=lambda name: Made() if _scripted(name) else None,
    )


def _scripted(name: Name) -> bool:
    return name.module.split(".")[0] == "__torch__"


def _may_stand(name: Name) -> bool:
    """Names that are never called: dtypes, the types of storages, Lightning's keys of its callbacks."""
    if name.module in ("torch", "torch.cuda", "torch.storage"):
        return name.name in _STORAGES or name.name in _DTYPES
    return name.module.split(".")[0] in ("pytorch_lightning", "lightning", "lightning_fabric")


def _ignores_state(target: Any, state: Any) -> bool:
    """An OrderedDict's attributes (`_metadata`: versions of modules), a NumPy dtype's byte order."""
    return type(target) is dict or (isinstance(target, np.dtype) and state[1] in ("<", "|", "="))


def _rebuild(storage: Any, first: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    return _view(storage, storage[0].dtype, first, shape, strides)


def _rebuild_v3(storage: Any, first: Any, shape: Any, strides: Any, _: Any, __: Any, dtype: Any, *___: Any) -> Tensor:
    return _view(storage, np.dtype(_DTYPES[dtype.name]), first, shape, strides)


def _view(storage: Any, dtype: np.dtype, first: Any, shape: Any, strides: Any) -> Tensor:
    base, start = storage
    shape, strides = tuple(shape), tuple(strides)
    numbers = (start, first, *shape, *strides)
    if len(shape) != len(strides) or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f"a tensor has shape {shape}, strides {strides}, first element {first}")
    return Tensor(base, dtype, start + first, shape, strides)


def _dictionary(pairs: Any) -> dict[Any, Any]:
    if not isinstance(pairs, dict) and not all(isinstance(pair[0], str | int) for pair in pairs):
        raise TypeError("keys are no text")
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice in a dictionary")
    return made


def _numpy_dtype(spelled: str, *_: Any) -> np.dtype:
    if not re.fullmatch(r"[fiub][1248]", spelled):
        raise ValueError(f"a NumPy number of type {spelled}")
    return np.dtype(spelled)


def _numpy_scalar(dtype: np.dtype, data: bytes) -> Any:
    return np.frombuffer(data, dtype)[0].item()
