"""Checkpoint files as lazy mappings from name to array: nothing is read before it is asked for."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storyjax.errors import StoryjaxError
from storyjax.weights.entries import Entry
from storyjax.weights.safetensors_file import read_header
from storyjax.weights.torch_file import ZIP, saved_tensors

INDEX = re.compile(r"\.(safetensors|bin)\.index(\.[\w-]+)?\.json")
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
STEMS = (
    "diffusion_pytorch_model",
    "model",
    "pytorch_model",
)  # what diffusers and transformers call a component's weights


class Reader(Mapping[str, np.ndarray]):
    """Tensors of one or several checkpoint files: name -> array, in the dtype of the file, read anew at every access.

    files: the files, in order. metadata: what stands beside the tensors (a .safetensors file's metadata; plain numbers and
    texts of a training checkpoint).
    """

    def __init__(self, files: Sequence[Path]):
        self.files = list(files)
        self.metadata: dict[str, Any] = {}
        self._entries: dict[str, Entry] = {}
        for file in self.files:
            entries, metadata = _read_names(file)
            if both := entries.keys() & self._entries.keys():
                key = min(both)
                raise StoryjaxError(
                    f"tensor '{key}' is in both '{self._entries[key].file}' and '{file}'; expected once"
                )
            self._entries |= entries
            self.metadata |= metadata

    def __getitem__(self, key: str) -> np.ndarray:
        return self._entries[key].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Size of all tensors together, in bytes."""
        return sum(entry.nbytes for entry in self._entries.values())

    def shape_of(self, key: str) -> tuple[int, ...]:
        """The shape as the file states it; reads no values."""
        return self._entries[key].shape

    def dtype_of(self, key: str) -> np.dtype:
        """The dtype as the file states it (bfloat16 is ml_dtypes'); reads no values."""
        return self._entries[key].dtype


def open_tensors(path: str | Path, *, variant: str | None = None) -> Reader:
    """Open a checkpoint file, an index of its shards (*.safetensors.index.json, *.bin.index.json), or a component's folder.

    A file is recognised by its content: .safetensors, or torch.save's in either of its formats (.bin, .pt, .pth, .ckpt), of
    which nothing is executed. In a folder .safetensors goes before .bin, and a file under its usual name before any other.
    variant: "fp16" for diffusion_pytorch_model.fp16.safetensors and its like; only for folders.

    Errors: nothing there, several candidates, a file that is cut off, damaged, of another kind, or asks to execute something;
    a shard that the index names and the folder lacks, an index that names other tensors than its shards hold.
    """
    path = Path(path)
    if path.is_dir():
        path = find_weights(path, variant)
    elif variant is not None:
        raise StoryjaxError(
            f"'{path}' is no folder, so there is no variant '{variant}' to choose in it; name the file only"
        )
    index = INDEX.search(path.name)
    return _open_index(path, index[1]) if index else Reader([path])


def find_weights(folder: Path, variant: str | None = None) -> Path:
    """The weight file or index of a component's folder that `open_tensors` takes; errors say what was found there."""
    names = {file.name for file in folder.iterdir() if file.is_file()} if folder.is_dir() else set()
    if name := usual_name(names, variant):
        return folder / name
    found = sorted(name for name in names if name.endswith(SUFFIXES) or INDEX.search(name))
    if variant is None:
        indices = [name for name in found if INDEX.search(name)]
        for candidates in (indices, [name for name in found if name.endswith(".safetensors")], found):
            if len(candidates) == 1:
                return folder / candidates[0]
    wanted = f"one of variant '{variant}'" if variant else "one"
    advice = "ask for another variant or none" if variant else "name the file itself"
    raise StoryjaxError(
        f"expected weights (.safetensors, .bin or an index), {wanted}, in '{folder}', "
        f"found {', '.join(found) or 'none'}; {advice}"
    )


def usual_name(names: set[str], variant: str | None = None) -> str | None:
    """The weight file or index among `names` that diffusers and transformers would take: .safetensors before .bin."""
    middle = f".{variant}" if variant else ""
    for suffix in ("safetensors", "bin"):
        for stem in STEMS:
            for name in (f"{stem}{middle}.{suffix}", f"{stem}.{suffix}.index{middle}.json"):
                if name in names:
                    return name
    return None


def _open_index(path: Path, kind: str) -> Reader:
    if not path.is_file():
        raise _nothing_at(path)
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
        if any(Path(name).name != name for name in names):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoryjaxError(f"'{path}' is no {kind} index: expected JSON with a 'weight_map' of names") from None
    reader = Reader([path.parent / name for name in names])
    odd = sorted(set(weight_map) ^ set(reader))
    if odd:
        raise StoryjaxError(f"'{path}' and its shards disagree about {len(odd)} tensors, the first is '{odd[0]}'")
    return reader


def _read_names(file: Path) -> tuple[dict[str, Entry], dict[str, Any]]:
    """Tensors and metadata of one file, whose kind its first bytes tell: names lie, most of all `.bin` and `.ckpt`."""
    if not file.is_file():
        raise _nothing_at(file)
    try:
        with file.open("rb") as stream:
            start = stream.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise StoryjaxError(f"'{file}' is a Git LFS pointer, not the weights themselves; run 'git lfs pull' there")
        if start[8:9] == b"{":
            return read_header(file)
        if start.startswith(ZIP) or (start[:1] == b"\x80" and start[1:2] <= b"\x05"):
            return saved_tensors(file)
        if file.suffix == ".safetensors":
            return read_header(file)
    except OSError as error:
        raise StoryjaxError(f"cannot read '{file}': {error.strerror or error}") from None
    if not start:
        raise StoryjaxError(f"'{file}' is empty; copy or download it again")
    raise StoryjaxError(f"'{file}' is neither a .safetensors file nor one of torch.save: it begins with {start[:12]!r}")


def _nothing_at(path: Path) -> StoryjaxError:
    return StoryjaxError(
        f"no weights at '{path}'; expected a checkpoint file, an index of its shards, or a folder with one"
    )
