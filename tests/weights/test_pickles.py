"""Files that would run something when PyTorch or Python unpickled them: refused by name, and nothing has run."""

import builtins
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.weights import open_tensors
from storyjax.weights.pickles import Known, read_pickle
from storyjax.weights.torch_file import MAGIC, PROTOCOL

NOTHING = Known({}, lambda name: False, lambda identifier: identifier, lambda target, state: False)


class Calls:
    """Pickled, this is a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def in_zip(file, pickled):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)


def before_zip(file, pickled):
    machine = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {}}
    head = [pickle.dumps(value, 2) for value in (MAGIC, PROTOCOL, machine)]
    file.write_bytes(b"".join([*head, pickled, pickle.dumps([], 2)]))


def bare(file, pickled):
    file.write_bytes(b"\x80\x02" + pickled.removeprefix(b"\x80\x02"))


@pytest.fixture
def traps(tmp_path, monkeypatch):
    """What must not run: each leaves a mark where it does."""
    marks = []
    monkeypatch.setattr(os, "system", lambda command: marks.append(command))
    monkeypatch.setattr(builtins, "eval", lambda text: marks.append(text))
    yield marks
    assert marks == []


def asks(text):
    return b"\x80\x02" + text + b"."


ATTACKS = {
    # reduce: GLOBAL os.system, a tuple, REDUCE
    "os.system": (asks(b"cposix\nsystem\nX\x04\x00\x00\x00true\x85R"), r"posix\.system"),
    "os by its own name": (asks(b"cos\nsystem\nX\x04\x00\x00\x00true\x85R"), r"os\.system"),
    "eval": (asks(b"cbuiltins\neval\nX\x03\x00\x00\x001+1\x85R"), r"builtins\.eval"),
    "eval of Python 2": (asks(b"c__builtin__\neval\nX\x03\x00\x00\x001+1\x85R"), r"__builtin__\.eval"),
    "getattr": (asks(b"c__builtin__\ngetattr\nc__builtin__\nint\nX\x01\x00\x00\x00a\x86R"), r"__builtin__\.getattr"),
    "allowed module, forbidden name": (
        asks(b"ctorch._utils\n_import_dotted_name\n."),
        r"torch\._utils\._import_dotted",
    ),
    "allowed name, forbidden module": (asks(b"ctorch.evil\n_rebuild_tensor_v2\n."), r"torch\.evil\._rebuild_tensor_v2"),
    "dotted name": (asks(b"\x8c\x05torch\x8c\x10storage.os.systm\x93"), r"torch\.storage\.os\.systm"),
    "name only, never called": (asks(b"}X\x01\x00\x00\x00acos\nsystem\ns"), r"os\.system"),
    "call of Lightning": (asks(b"cpytorch_lightning.utilities\nrun\n)R"), r"call pytorch_lightning\.utilities\.run"),
    "call of a dtype": (asks(b"ctorch\nfloat32\n)R"), r"call torch\.float32"),
    "call of a call's result": (asks(b"ccollections\nOrderedDict\n)R)R"), "call an object of type dict"),
    "new object": (asks(b"ctorch\nfloat32\n)\x81"), r"make a torch\.float32"),
    "new object with keywords": (asks(b"ctorch\nfloat32\n)}\x92"), r"make a torch\.float32"),
    "instance": (asks(b"(X\x04\x00\x00\x00trueios\nsystem\n"), r"make a os\.system"),
    "object": (asks(b"(cpytorch_lightning\nos\nX\x04\x00\x00\x00trueo"), r"make a pytorch_lightning\.os"),
    "state of a function": (
        asks(b"ctorch._utils\n_rebuild_tensor_v2\n}b"),
        r"state of torch\._utils\._rebuild_tensor_v2",
    ),
    "state of a list": (asks(b"]}b"), "state of an object of type list"),
    "extension": (asks(b"\x82\x01"), "uses EXT1"),
}


@pytest.mark.parametrize("write", [in_zip, before_zip, bare])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_that_asks_for_more_is_refused_by_name(tmp_path, traps, attack, write):
    pickled, named = ATTACKS[attack]
    write(tmp_path / "model.ckpt", pickled)
    with pytest.raises(StoryjaxError, match=rf"model\.ckpt' is refused: its pickle .*{named}") as error:
        open_tensors(tmp_path / "model.ckpt")
    assert "\n" not in str(error.value)


def test_the_same_attack_runs_in_pythons_own_unpickler(tmp_path, monkeypatch):
    """The traps above are real: where names are imported and called, they do leave a mark."""
    marks = []
    monkeypatch.setattr(os, "system", marks.append)
    pickle.loads(ATTACKS["os by its own name"][0])
    assert marks == ["true"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_is_refused_in_every_protocol(protocol, tmp_path):
    victim = tmp_path / "victim"
    pickled = pickle.dumps({"weight": Calls(os.mkdir, str(victim))}, protocol)
    with pytest.raises(StoryjaxError, match=r"asks for \w+\.mkdir"):
        read_pickle(io.BytesIO(pickled), NOTHING, "it")
    assert not victim.exists()
    pickle.loads(pickled)
    assert victim.exists()


VALUES = {
    "numbers": [0, 1, -1, 255, 256, 65536, 2**31, 2**70, -(2**70), 0.5, 1e300, True, False, None],
    "texts": ["", "weight", "ä", "x" * 300, b"", b"\x00\xff", b"y" * 300],
    "containers": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}, {"a": {"b": [1, (2,)]}}, {1, 2}, frozenset({3})],
    ("a", 1): {2.5: None},
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_what_was_pickled(protocol):
    values = VALUES if protocol >= 4 else {**VALUES, "containers": VALUES["containers"][:-2]}  # sets were calls before
    if protocol < 3:
        values = {**values, "texts": [text for text in values["texts"] if isinstance(text, str)]}  # so were bytes
    stream = io.BytesIO(pickle.dumps(values, protocol) + b"more")
    assert read_pickle(stream, NOTHING, "it") == values
    assert stream.read() == b"more"


def test_a_value_that_stands_twice_is_one_object():
    shared = ["x"]
    first, second = read_pickle(io.BytesIO(pickle.dumps([shared, shared])), NOTHING, "it")
    assert first is second


def test_every_cut_is_an_error():
    whole = pickle.dumps(VALUES, 4)
    for size in range(0, len(whole), 3):
        with pytest.raises(StoryjaxError, match="'it' is cut off"):
            read_pickle(io.BytesIO(whole[:size]), NOTHING, "it")


@pytest.mark.parametrize(
    "pickled",
    [
        b"s.",
        b"a.",
        b"]s.",
        b"(s.",
        b"h\x07.",
        b"t.",
        b"\x85.",
        b"}](]s.",
        b"R.",
        b"b.",
        b".",
        b"0.",
        b"]]]u.",
        b"K\x01(K\x02e.",
    ],
)
def test_nonsense_is_an_error(pickled):
    with pytest.raises(StoryjaxError, match=r"'it' is (cut off|damaged|refused)"):
        read_pickle(io.BytesIO(pickled), NOTHING, "it")


def test_random_damage_never_does_more_than_fail():
    calm = Known({}, lambda name: True, lambda identifier: identifier, lambda target, state: True)
    random = np.random.default_rng(0)
    failures = 0
    for number in range(500):
        damaged = bytearray(pickle.dumps(VALUES, 2 + number % 4))
        for place in random.integers(len(damaged), size=4):
            damaged[place] = random.integers(256)
        try:
            read_pickle(io.BytesIO(damaged), calm, "it")
        except StoryjaxError:
            failures += 1
    assert failures > 100


def test_a_key_that_stands_twice():
    twice = b"\x80\x02}(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00aK\x02u."
    with pytest.raises(StoryjaxError, match="'a' stands twice"):
        read_pickle(io.BytesIO(twice), NOTHING, "it")


def test_a_nest_of_tuples_as_key_does_not_overflow_the_stack():
    deep = b"\x80\x02})" + b"\x85" * 50_000 + b"K\x01s."
    with pytest.raises(StoryjaxError, match="a tuple is used as a key"):
        read_pickle(io.BytesIO(deep), NOTHING, "it")


def test_a_length_beyond_the_file_is_an_error():
    with pytest.raises(StoryjaxError, match="'it' is cut off"):
        read_pickle(io.BytesIO(b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a."), NOTHING, "it")
