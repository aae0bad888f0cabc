"""Files of torch.save without PyTorch: which tensors they hold and where each lies. No number is read here, and nothing is run.

Two containers. Since PyTorch 1.6 a zip archive: a pickle `data.pkl`, and every storage (a flat run of numbers that tensors are
views of) as an uncompressed file `data/<key>`. Before: five pickles in a row (magic number, protocol, machine, the object, the
storages' keys), then each storage as its length and its numbers. The pickle builds tensors from storages by
`torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, ...)`. https://docs.pytorch.org/docs/stable/notes/serialization.html

A TorchScript program (torch.jit.save) is the zip archive with a program beside it. Its tensors are read by the names that they have
in its modules; the program is left alone.
"""

import io
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from storyjax.errors import StoryjaxError
from storyjax.weights.entries import Entry
from storyjax.weights.pickles import read_pickle
from storyjax.weights.torch_pickle import Storage, Tensor, known_to_torch

ZIP = b"PK\x03\x04"
MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


def read_saved(file: Path) -> Any:
    """The saved object with `Tensor` in the place of tensors; either container.

    Errors: cut off, compressed, saved on a big-endian machine, another kind of pickle, a pickle that asks for more than tensors,
    numbers and plain containers (by module and name).
    """
    with file.open("rb") as stream:
        if stream.read(4) == ZIP:
            return _read_zip(file, stream)
        stream.seek(0)
        return _read_legacy(file, stream)


def _read_zip(file: Path, stream: BinaryIO) -> Any:
    try:
        with zipfile.ZipFile(stream) as archive:
            records = _records(file, archive)
            root = next((name[: -len("data.pkl")] for name in records if re.fullmatch(r"[^/]+/data\.pkl", name)), None)
            if root is None:
                raise StoryjaxError(f"'{file}' is a zip archive that torch.save did not write: it has no data.pkl")
            script = f"{root}constants.pkl" in records
            if f"{root}byteorder" in records and archive.read(f"{root}byteorder") != b"little":
                raise _big_endian(file)
            pickled = archive.read(f"{root}data.pkl")
    except StoryjaxError:
        raise
    except (zipfile.BadZipFile, ValueError, RuntimeError, EOFError, OverflowError, struct.error) as error:
        raise StoryjaxError(f"'{file}' is cut off or damaged ({error}); copy or save it again") from None
    storages: dict[str, Storage] = {}
    saved = read_pickle(io.BytesIO(pickled), known_to_torch(storages, script=script), str(file))
    for storage in storages.values():
        record = records.get(f"{root}data/{storage.key}")
        if record is None:
            raise StoryjaxError(f"'{file}' lacks the storage data/{storage.key}; copy or save it again")
        storage.offset = _start(file, stream, record)
        _fits(file, storage, min(record.file_size, file.stat().st_size - storage.offset))
    return saved


def _records(file: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    records: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in records:
            raise StoryjaxError(f"'{file}': '{info.filename}' stands twice in the archive; save the file again")
        if info.compress_type != zipfile.ZIP_STORED and "/code/" not in info.filename:  # a program's text may be
            raise StoryjaxError(
                f"'{file}' was compressed after torch.save wrote it; unpack it and zip it with 'zip -0'"
            )
        records[info.filename] = info
    return records


def _start(file: Path, stream: BinaryIO, record: zipfile.ZipInfo) -> int:
    """The byte where a record's content begins: behind its local header, whose length only the header itself tells."""
    stream.seek(record.header_offset)
    header = stream.read(30)
    if len(header) != 30 or header[:4] != ZIP:
        raise StoryjaxError(f"'{file}' is damaged: no record at byte {record.header_offset}; copy or save it again")
    name, extra = struct.unpack("<HH", header[26:])
    return record.header_offset + 30 + name + extra


def _read_legacy(file: Path, stream: BinaryIO) -> Any:
    source, storages = str(file), {}
    known = known_to_torch(storages)
    if read_pickle(stream, known, source) != MAGIC or read_pickle(stream, known, source) != PROTOCOL:
        raise StoryjaxError(f"'{file}' is a pickle that torch.save did not write: expected its magic number first")
    machine = read_pickle(stream, known, source)
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise _big_endian(file)
    saved = read_pickle(stream, known, source)
    size = file.stat().st_size
    keys = read_pickle(stream, known, source)
    if not isinstance(keys, list) or set(map(str, keys)) != set(storages):
        raise StoryjaxError(
            f"'{file}' is damaged: its list of storages is not that of its tensors; copy or save it again"
        )
    for storage in (storages[str(key)] for key in keys):
        length = int.from_bytes(stream.read(8), "little")
        storage.offset = stream.tell()
        _fits(file, storage, min(length * storage.dtype.itemsize, size - storage.offset))
        stream.seek(length * storage.dtype.itemsize, io.SEEK_CUR)
    return saved


def _fits(file: Path, storage: Storage, available: int) -> None:
    needed = storage.length * storage.dtype.itemsize
    if available < needed:
        reason = f"storage '{storage.key}' needs {needed} bytes, {max(available, 0)} are there"
        raise StoryjaxError(f"'{file}' is cut off or damaged ({reason}); copy or save it again")


def _big_endian(file: Path) -> StoryjaxError:
    return StoryjaxError(f"'{file}' was saved on a big-endian machine; save it again as .safetensors")


CONTAINERS = ("state_dict", "model", "model_state_dict", "module")
MOST_VALUES, DEEPEST = 1_000_000, 20
_PLAIN = (str, int, float, bool)


def saved_tensors(file: Path) -> tuple[dict[str, Entry], dict[str, Any]]:
    """The tensors of a file of torch.save by name, and the plain values that stand beside them (such as `global_step`).

    Looked into are, one inside the other, the dictionaries that training code keeps weights in (`CONTAINERS`); what stands
    beside such a dictionary (an optimizer, say) is not part of the weights. Dictionaries of dictionaries get dotted names.
    """
    saved, beside = read_saved(file), {}
    for _ in range(10):  # a container inside a container; a file may also hold one that is inside itself
        if type(saved) is not dict or any(isinstance(value, Tensor) for value in saved.values()):
            break  # a scripted module's parts are named with it
        beside |= {str(key): value for key, value in saved.items() if isinstance(value, _PLAIN)}
        saved = next((inner for key in CONTAINERS if isinstance(inner := saved.get(key), dict)), saved)
    entries: dict[str, Entry] = {}
    for name, tensor in _flat(file, saved):
        if name in entries:
            raise StoryjaxError(f"'{file}': two tensors have the name '{name}'; expected one")
        entries[name] = tensor.entry(file, name)
    if not entries:
        raise StoryjaxError(f"'{file}' holds no tensors by name; expected a state_dict saved with torch.save")
    return entries, beside


def _flat(file: Path, saved: Any) -> Iterator[tuple[str, Tensor]]:
    """(dotted name, tensor) of everything inside `saved`, in order."""
    left, seen = [((), saved)], 0
    while left:
        path, value = left.pop()
        seen += 1
        if seen > MOST_VALUES or len(path) > DEEPEST:  # containers that hold themselves, or each other many times over
            raise StoryjaxError(f"'{file}': its containers are nested without end; expected a state_dict")
        if isinstance(value, Tensor) and path:
            yield ".".join(path), value
        elif isinstance(value, dict):
            left += [((*path, str(key)), item) for key, item in reversed(value.items())]
        elif isinstance(value, list | tuple):
            left += [((*path, str(number)), item) for number, item in reversed(list(enumerate(value)))]
