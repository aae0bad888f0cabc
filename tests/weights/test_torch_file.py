import io
import pickle
import shutil
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.weights import open_tensors
from storyjax.weights.torch_file import MAGIC, PROTOCOL
from tests.weights import make_torch_files
from tests.weights.make_torch_files import FILES, TENSORS

NAMES = ["zip.pt", "before_zip.pt", "lightning.ckpt"]


def check(tensors):
    assert list(tensors) == list(TENSORS)
    for name, expected in TENSORS.items():
        expected = np.asarray(expected)
        got = tensors[name]
        assert got.dtype == expected.dtype == tensors.dtype_of(name), name
        assert got.shape == expected.shape == tensors.shape_of(name), name
        assert got.flags.c_contiguous
        np.testing.assert_array_equal(got, expected, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_tensors_of_every_kind(name):
    tensors = open_tensors(FILES / name)
    assert len(tensors) == len(TENSORS)
    check(tensors)


def test_the_kept_files_are_what_pytorch_writes_and_reads_today(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(make_torch_files, "FILES", tmp_path)
    make_torch_files.main()
    for name in NAMES:
        check(open_tensors(tmp_path / name))
        kept = torch.load(FILES / name, weights_only=False)  # a file of ours: it may name its class
        kept = kept.get("state_dict", kept)
        assert list(kept) == list(TENSORS)
        for key, value in open_tensors(FILES / name).items():
            np.testing.assert_array_equal(kept[key].detach().float().numpy(), value.astype(np.float32))


def test_what_stands_beside_the_weights():
    tensors = open_tensors(FILES / "lightning.ckpt")
    assert tensors.metadata == {"epoch": 3, "global_step": 875000, "pytorch-lightning_version": "1.4.2"}
    assert tensors.nbytes == sum(np.asarray(value).nbytes for value in TENSORS.values())


def test_one_tensor_is_read_at_a_time(monkeypatch):
    """Strides and offset decide what is read: a view never needs its whole storage."""
    read = []
    fromfile = np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda *args, **kwargs: read.append(args[2]) or fromfile(*args, **kwargs))
    tensors = open_tensors(FILES / "zip.pt")
    assert read == []
    for name, size in {"rows": 8 * 4, "column": 9 * 4, "expanded": 4, "empty": 0}.items():
        _ = tensors[name]
        assert read.pop() == size, name


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_off_file(name, tmp_path):
    whole = (FILES / name).read_bytes()
    last = len(whole) if "zip" in name else len(whole) - 1
    for size in {*range(4, last, 197), last - 1}:
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(StoryjaxError, match=r"cut off|damaged|lacks|magic|neither"):
            open_tensors(tmp_path / name)


class Storage:
    """Pickles as PyTorch's persistent identifier of a storage."""

    def __init__(self, kind, key, length):
        self.said = (Named("torch", kind), key, "cpu", length)


class Named:
    """Pickles as a name (GLOBAL), whether or not such a thing exists."""

    def __init__(self, module, name, called_with=None):
        self.module, self.name, self.called_with = module, name, called_with


class Pickler(pickle._Pickler):
    """Python's own pickler in Python, taught to write names that are not there."""

    def persistent_id(self, value):
        return ("storage", *value.said) if isinstance(value, Storage) else None

    def save(self, value, save_persistent_id=True):
        if not isinstance(value, Named):
            return super().save(value, save_persistent_id)
        self.write(f"c{value.module}\n{value.name}\n".encode())
        if value.called_with is not None:
            super().save(value.called_with)
            self.write(pickle.REDUCE)
        return None


def tensor(storage, *arguments, rebuild="_rebuild_tensor_v2"):
    return Named("torch._utils", rebuild, (storage, *arguments))


def pickled(value):
    stream = io.BytesIO()
    Pickler(stream, 2).dump(value)
    return stream.getvalue()


def write_zip(file, value, storages, extra=(), **options):
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in (("data.pkl", pickled(value)), *((f"data/{key}", data) for key, data in storages), *extra):
            archive.writestr(f"archive/{name}", content)
    return file


ONES = np.ones(4, np.float32).tobytes()


def test_other_ways_to_rebuild(tmp_path):
    halves = np.arange(4, dtype=np.float16)
    one = Storage("HalfStorage", "0", 4)
    untyped = Storage("UntypedStorage", "1", 8)
    value = {
        "first": tensor(one, 1, (3,), (1,), rebuild="_rebuild_tensor"),
        "third": tensor(untyped, 2, (2,), (1,), False, {}, Named("torch", "uint16"), rebuild="_rebuild_tensor_v3"),
        "eighth": tensor(
            untyped, 0, (8,), (1,), False, {}, Named("torch", "float8_e4m3fn"), rebuild="_rebuild_tensor_v3"
        ),
        "size": Named("torch", "Size", ([1, 2],)),
    }
    sixteen = np.arange(4, dtype=np.uint16)
    tensors = open_tensors(write_zip(tmp_path / "x.pt", value, [("0", halves.tobytes()), ("1", sixteen.tobytes())]))
    np.testing.assert_array_equal(tensors["first"], halves[1:])
    np.testing.assert_array_equal(tensors["third"], sixteen[2:])
    assert tensors.dtype_of("eighth") == ml_dtypes.float8_e4m3fn
    assert list(tensors) == ["first", "third", "eighth"]


def test_a_view_of_a_storage_as_pytorch_0_3_wrote_it(tmp_path):
    numbers = np.arange(6, dtype=np.float32)
    view = Storage("FloatStorage", "77", 6)
    view.said = (*view.said, ("view", 2, 4))
    machine = {"protocol_version": PROTOCOL, "little_endian": True}
    head = b"".join(pickle.dumps(value, 2) for value in (MAGIC, PROTOCOL, machine))
    body = pickled({"x": tensor(view, 1, (3,), (1,))}) + pickle.dumps(["77"], 2)
    (tmp_path / "x.pt").write_bytes(head + body + struct.pack("<q", 6) + numbers.tobytes())
    np.testing.assert_array_equal(open_tensors(tmp_path / "x.pt")["x"], numbers[3:])


def test_containers_in_containers(tmp_path):
    one = tensor(Storage("FloatStorage", "0", 4), 0, (4,), (1,))
    for number, (value, names) in enumerate(
        [
            ({"model": {"state_dict": {"a": one}}, "optimizer": {"x": one}, "epoch": 1}, ["a"]),
            ({"unet": {"a": one}, "text": {"a": one}}, ["unet.a", "text.a"]),
            ({"a": {0: [one, (one,)]}}, ["a.0.0", "a.0.1.0"]),
            ({"a": one, "state_dict": {"b": one}}, ["a", "state_dict.b"]),
        ]
    ):
        file = write_zip(tmp_path / f"{number}.pt", value, [("0", ONES)])
        assert list(open_tensors(file)) == names


def itself():
    value = {}
    value["model"] = value
    return value


def each_other():
    value = [1.5]
    for _ in range(40):
        value = [value] * 9
    return {"x": value}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "holds no tensors by name"),
        ({"epoch": 3}, "holds no tensors by name"),
        (tensor(Storage("FloatStorage", "0", 4), 0, (4,), (1,)), "holds no tensors by name"),
        (itself(), "nested without end"),
        (each_other(), "nested without end"),
        (
            {"a": tensor(Storage("FloatStorage", "0", 4), 1, (4,), (1,))},
            "tensor 'a' reaches past the end of its storage",
        ),
        ({"a": tensor(Storage("FloatStorage", "0", 4), 0, (2, 2), (3, 1))}, "'a' reaches past the end of its storage"),
        ({"a": tensor(Storage("FloatStorage", "0", 4), 0, (2,), (-1,))}, "damaged .*strides"),
        ({"a": tensor(Storage("FloatStorage", "0", 4), -1, (2,), (1,))}, "damaged .*first element -1"),
        ({"a": tensor(Storage("FloatStorage", "0", 4), 0, (2, 2), (1,))}, "damaged .*shape"),
        ({"a": tensor(Storage("FloatStorage", "0", 5), 0, (4,), (1,))}, "storage '0' needs 20 bytes, 16 are there"),
        ({"a": tensor(Storage("FloatStorage", "9", 4), 0, (4,), (1,))}, "lacks the storage data/9"),
        ({"a": tensor(Storage("QInt8Storage", "0", 4), 0, (4,), (1,))}, r"asks for torch\.QInt8Storage"),
        ({"a": Named("torch._utils", "_rebuild_sparse_tensor", ())}, r"asks for torch\._utils\._rebuild_sparse_tensor"),
        (
            {"a.b": (one := tensor(Storage("FloatStorage", "0", 4), 0, (4,), (1,))), "a": {"b": one}},
            "have the name 'a.b'",
        ),
    ],
)
def test_what_no_state_dict_has(tmp_path, value, message):
    file = write_zip(tmp_path / "x.pt", value, [("0", ONES)])
    with pytest.raises(StoryjaxError, match=rf"x\.pt'.*{message}") as error:
        open_tensors(file)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_of_another_kind(tmp_path):
    good = {"a": tensor(Storage("FloatStorage", "0", 4), 0, (4,), (1,))}
    made = {
        "compressed": write_zip(tmp_path / "a", good, [("0", ONES)], compression=zipfile.ZIP_DEFLATED),
        "'archive/data/0' stands twice": write_zip(tmp_path / "b", good, [("0", ONES), ("0", ONES)]),
        "a big-endian machine": write_zip(tmp_path / "d", good, [("0", ONES)], [("byteorder", b"big")]),
    }
    with zipfile.ZipFile(tmp_path / "e", "w") as archive:
        archive.writestr("readme.txt", "hello")
    made["has no data.pkl"] = tmp_path / "e"
    for message, file in made.items():
        with pytest.raises(StoryjaxError, match=message):
            open_tensors(file)


class Scripted:
    """Pickles as torch.jit.save writes a module: an object of a class of the program, and its attributes."""

    def __init__(self, kind, arguments=(), **attributes):
        self.kind, self.arguments, self.attributes = kind, arguments, attributes


class ScriptPickler(Pickler):
    def save(self, value, save_persistent_id=True):
        if not isinstance(value, Scripted):
            return super().save(value, save_persistent_id)
        super().save(Named(*value.kind))
        super().save(value.arguments)
        self.write(pickle.NEWOBJ)
        super().save(value.attributes)
        self.write(pickle.BUILD)
        return None


def scripted(file, value):
    stream = io.BytesIO()
    ScriptPickler(stream, 2).dump(value)
    with zipfile.ZipFile(file, "w") as archive:
        parts = {"data.pkl": stream.getvalue(), "data/0": ONES, "constants.pkl": b"\x80\x02).", "version": b"3"}
        for name, content in parts.items():
            archive.writestr(f"net/{name}", content)
        archive.writestr("net/code/__torch__.py", "class Net(Module):\n" * 99, compress_type=zipfile.ZIP_DEFLATED)
    return file


def test_tensors_of_a_program_are_read_and_the_program_is_not(tmp_path):
    one = tensor(Storage("FloatStorage", "0", 4), 0, (4,), (1,))
    numbers = Named("torch.jit._pickle", "build_intlist", ([1, 2],))
    inner = Scripted(("__torch__.nn", "Unit"), weight=one, sizes=numbers, training=False)
    tensors = open_tensors(scripted(tmp_path / "x.pt", Scripted(("__torch__", "Net"), model=inner, bias=one)))
    assert list(tensors) == ["model.weight", "bias"]
    np.testing.assert_array_equal(tensors["model.weight"], np.ones(4))


@pytest.mark.parametrize("kind", [("os", "system"), ("builtins", "object"), ("__torchy__", "Net")])
def test_a_program_makes_no_objects_of_other_classes(tmp_path, kind):
    with pytest.raises(StoryjaxError, match=r"is refused: its pickle (asks for|wants to make)"):
        open_tensors(scripted(tmp_path / "x.pt", Scripted(kind, weight=1)))


def test_an_object_of_a_program_with_arguments_is_refused(tmp_path):
    with pytest.raises(StoryjaxError, match=r"wants to make a __torch__\.Net"):
        open_tensors(scripted(tmp_path / "x.pt", Scripted(("__torch__", "Net"), (1,), weight=1)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_that_pytorch_saved(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Sequential(torch.nn.BatchNorm2d(4)))
    torch.jit.script(module.eval()).save(str(tmp_path / "x.pt"))
    tensors = open_tensors(tmp_path / "x.pt")
    expected = module.state_dict()
    assert set(tensors) == set(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(tensors[key], value.numpy())


def test_pickles_of_another_kind(tmp_path):
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"a": [1]}))
    with pytest.raises(StoryjaxError, match=r"a\.pt' is a pickle that torch\.save did not write"):
        open_tensors(tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"a": np.ones(2)}, 2))
    with pytest.raises(StoryjaxError, match=r"asks for numpy\._?core\.multiarray\._reconstruct"):
        open_tensors(tmp_path / "a.pt")


def test_a_file_that_shrinks_after_it_was_opened(tmp_path):
    shutil.copy(FILES / "zip.pt", tmp_path / "x.pt")
    tensors = open_tensors(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(b"")
    with pytest.raises(StoryjaxError, match="shorter than when it was opened"):
        _ = tensors["whole"]
