"""Checkpoint files as lazy mappings from name to array: nothing is read before it is asked for."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from storyjax.errors import StoryjaxError

INDEX = ".safetensors.index.json"


class SafetensorsReader(Mapping[str, np.ndarray]):
    """Tensors of one or several .safetensors files: name -> array, in the dtype of the file."""

    def __init__(self, files: list[Path]):
        self.files = files
        self._file_of: dict[str, int] = {}
        self._open = [_open(file) for file in files]
        for number, handle in enumerate(self._open):
            for key in handle.keys():  # noqa: SIM118 - a safetensors handle is no mapping
                if key in self._file_of:
                    first = files[self._file_of[key]]
                    raise StoryjaxError(f"tensor '{key}' is in both '{first}' and '{files[number]}'; expected once")
                self._file_of[key] = number

    def __getitem__(self, key: str) -> np.ndarray:
        return self._open[self._file_of[key]].get_tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)

    def shape_of(self, key: str) -> tuple[int, ...]:
        """The shape as the file's header states it; reads no values."""
        return tuple(self._open[self._file_of[key]].get_slice(key).get_shape())


def open_tensors(path: str | Path) -> SafetensorsReader:
    """Open a .safetensors file, a *.safetensors.index.json, or a folder that holds one of either.

    Errors: nothing there, several candidates, a truncated file, a shard that the index names and the folder lacks, an index
    that names other tensors than its shards hold.
    """
    path = Path(path)
    if path.is_dir():
        path = _only_one(path)
    if not path.is_file():
        raise StoryjaxError(f"no weights at '{path}'; expected a .safetensors file, its index, or a folder with one")
    if not path.name.endswith(INDEX):
        return SafetensorsReader([path])
    try:
        weight_map = json.loads(path.read_text())["weight_map"]
        shards = [path.parent / name for name in sorted(set(weight_map.values()))]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoryjaxError(f"'{path}' is no safetensors index: expected JSON with a 'weight_map' of names") from None
    reader = SafetensorsReader(shards)
    odd = sorted(set(weight_map) ^ set(reader))
    if odd:
        raise StoryjaxError(f"'{path}' and its shards disagree about {len(odd)} tensors, the first is '{odd[0]}'")
    return reader


def _only_one(folder: Path) -> Path:
    found = sorted(folder.glob(f"*{INDEX}")) or sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found) or "none"
    raise StoryjaxError(f"expected one .safetensors file or index in '{folder}', found {names}; name the file itself")


def _open(file: Path) -> safe_open:
    if not file.is_file():
        raise StoryjaxError(f"no weights at '{file}'; is the checkpoint complete?")
    try:
        return safe_open(file, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise StoryjaxError(f"'{file}' is no whole .safetensors file ({error}); copy or save it again") from None
