"""`.npy` files with pickles: what data sets hold is read, anything else is refused, and nothing runs."""

import contextlib
import io
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfds_builders.layout import LayoutError
from tfds_builders.pickled import load_npy

ids = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(
    st.one_of(
        st.integers(), st.floats(allow_nan=False), st.text(max_size=8), st.binary(max_size=8), st.none(), st.booleans()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(ids, inner, max_size=4), st.tuples(inner, inner)
    ),
    max_leaves=12,
)


def save(path, held, protocol=4):
    """As NumPy saves an object, in any of the protocols that its versions used."""
    array = np.empty((), object)
    array[()] = held
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, np.lib.format.header_data_from_array_1_0(array))
    path.write_bytes(out.getvalue() + pickle.dumps(array, protocol=protocol))
    return path


@given(held=st.dictionaries(ids, values, max_size=5), protocol=st.integers(2, 4))
def test_plain_objects_come_back(tmp_path_factory, held, protocol):
    assert load_npy(save(tmp_path_factory.getbasetemp() / "held.npy", held, protocol)) == held


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_inside_objects_come_back(tmp_path, protocol):
    held = {
        "a": np.arange(6).reshape(2, 3),
        "b": np.array([b"x", None], object),
        "c": np.float32(1.5),
        "d": np.array(["é"]),
    }
    found = load_npy(save(tmp_path / "held.npy", held, protocol))
    assert found.keys() == held.keys()
    for name, value in held.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_arrays_of_objects_and_of_bytes_come_back(tmp_path):
    parts = np.empty(3, object)
    parts[:] = [[1, 2], np.array([3]), []]
    np.save(tmp_path / "parts.npy", parts, allow_pickle=True)
    found = load_npy(tmp_path / "parts.npy")
    assert [list(part) for part in found] == [[1, 2], [3], []]
    np.save(tmp_path / "names.npy", [b"a/1.png", b"b"])
    assert load_npy(tmp_path / "names.npy").tolist() == [b"a/1.png", b"b"]


def test_text_of_python_2_is_read_as_latin1(tmp_path):
    """A Python 2 `str` is bytes in the pickle (SHORT_BINSTRING)."""
    path = save(tmp_path / "old.npy", "KEY", 2)
    content = path.read_bytes()
    assert content.count(b"X\x03\x00\x00\x00KEY") == 1
    path.write_bytes(content.replace(b"X\x03\x00\x00\x00KEY", b"U\x03caf".replace(b"f", b"\xe9")))
    assert load_npy(path) == "caé"


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        (Calls(exec, "open('ran', 'w')"), r"builtins\.exec"),
        (Calls(print, "ran"), r"builtins\.print"),
        (Calls(np.memmap, "ran", "uint8", "w+", 0, (3,)), r"numpy\.memmap"),
        (Calls(np.fromfile, "ran"), r"numpy\.fromfile"),
        (Calls(getattr, "ran", "upper"), r"builtins\.getattr"),
        ({"deep": [{"er": Calls(io.open, "ran", "w")}]}, r"_?io\.open"),
    ],
)
def test_nothing_else_is_called(tmp_path, monkeypatch, held, asked):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LayoutError, match=rf"held\.npy' is refused: its pickle asks for {asked}.*nothing was run"):
        load_npy(save(tmp_path / "held.npy", held))
    assert not (tmp_path / "ran").exists()


@given(st.data())
def test_damaged_files_are_errors_in_words(tmp_path_factory, data):
    path = save(tmp_path_factory.getbasetemp() / "whole.npy", {"a/1": ["A caption."], "b": np.arange(4)})
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    with contextlib.suppress(LayoutError):  # another text or number is not to be told from the right one
        assert load_npy(path) is not None


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LayoutError, match=r"none\.npy' does not exist"):
        load_npy(tmp_path / "none.npy")
