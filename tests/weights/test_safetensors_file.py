import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from storyjax.errors import StoryjaxError
from storyjax.weights import open_tensors

EIGHT = np.arange(8)


def write(folder, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    (folder / "x.safetensors").write_bytes(length.to_bytes(8, "little") + text + data)
    return folder / "x.safetensors"


def said(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


NUMPY = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
OTHERS = [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]


@pytest.mark.parametrize("dtype", [*NUMPY, *OTHERS])
def test_every_dtype_as_the_safetensors_library_writes_it(tmp_path, dtype):
    values = {"x": EIGHT.reshape(2, 4).astype(dtype), "none": np.zeros((0, 3), dtype), "one": np.array(1).astype(dtype)}
    save_file(values, tmp_path / "x.safetensors")
    tensors = open_tensors(tmp_path)
    assert set(tensors) == set(values)
    for name, value in values.items():
        got = tensors[name]
        assert (got.dtype, got.shape) == (value.dtype, value.shape) == (tensors.dtype_of(name), tensors.shape_of(name))
        np.testing.assert_array_equal(got.astype(np.float32), value.astype(np.float32))


def test_names_of_every_kind(tmp_path):
    values = {
        name: np.full(2, number) for number, name in enumerate(["", "a.b", "ä", '"', "\\", "\n", "\0", "__meta__"])
    }
    save_file(values, tmp_path / "x.safetensors")
    tensors = open_tensors(tmp_path)
    assert set(tensors) == set(values)
    for name, value in values.items():
        np.testing.assert_array_equal(tensors[name], value)


TWICE = b'{"a": {"dtype":"U8","shape":[1],"data_offsets":[0,1]}, "a": {"dtype":"U8","shape":[1],"data_offsets":[1,2]}}'


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (TWICE, b"12", "'a' stands twice in the header; expected once"),
        ({"a": said("F31")}, bytes(8), "tensor 'a' has the unknown dtype 'F31'; expected one of F64, F32"),
        ({"a": said(shape=(3,))}, bytes(8), r"tensor 'a' of F32 \(3,\) has 8 bytes"),
        ({"a": said(offsets=(4, 12))}, bytes(12), "tensor 'a' begins at byte 4 of the data, expected 0"),
        ({"a": said(), "b": said(offsets=(4, 12))}, bytes(12), "'b' begins at byte 4 of the data, expected 8"),
        ({"a": said(), "b": said(offsets=(12, 20))}, bytes(20), "'b' begins at byte 12 of the data, expected 8"),
        ({"a": said()}, bytes(7), r"its tensors need \d+ bytes, the file has \d+"),
        ({"a": said()}, bytes(9), r"its tensors need \d+ bytes, the file has \d+"),
        ({"a": said(shape=(-2,), offsets=(8, 0))}, bytes(8), "'a' has shape .*expected whole numbers"),
        ({"a": said(shape=(2.0,))}, bytes(8), "'a' has shape .*expected whole numbers"),
        ({"a": said(offsets=(0, 4, 8))}, bytes(8), "'a' lacks a dtype, shape or data_offsets"),
        ({"a": {"dtype": "F32"}}, bytes(8), "'a' lacks a dtype, shape or data_offsets"),
        ({"a": 3}, b"", "'a' lacks a dtype, shape or data_offsets"),
        ({"__metadata__": [1]}, b"", "its __metadata__ is no JSON object"),
        (b"{not json", b"", "its header is no JSON"),
        (b"[]", b"", "its header is no JSON object"),
        (b'{"a":' * 100_000, b"", "its header is no JSON"),
        (b"{\xff\xfe}", b"", "its header is no JSON"),
    ],
)
def test_a_broken_header(tmp_path, header, data, message):
    file = write(tmp_path, header, data)
    with pytest.raises(StoryjaxError, match=rf"x\.safetensors'.*{message}") as error:
        open_tensors(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [0, 1, 7, 500, 2**63])
def test_a_wrong_length_of_the_header(tmp_path, length):
    file = write(tmp_path, {"a": said()}, bytes(8), length)
    with pytest.raises(StoryjaxError, match=r"x\.safetensors' is no whole \.safetensors file"):
        open_tensors(file)
    with pytest.raises(SafetensorError):
        safe_open(file, framework="numpy")
