import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from storyjax.errors import StoryjaxError
from storyjax.weights import open_tensors
from storyjax.weights.readers import find_weights
from tests.weights.make_torch_files import FILES, TENSORS

FIRST = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float16)}
SECOND = {"c": np.full((2, 2), 0.5, ml_dtypes.bfloat16)}


def sharded(folder, weight_map=None):
    save_file(FIRST, folder / "m-1.safetensors")
    save_file(SECOND, folder / "m-2.safetensors")
    weight_map = weight_map or {"a": "m-1.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}
    (folder / "m.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_one_file(tmp_path):
    save_file(FIRST, tmp_path / "model.safetensors")
    for path in (tmp_path / "model.safetensors", tmp_path):
        tensors = open_tensors(path)
        assert sorted(tensors) == ["a", "b"]
        assert tensors.shape_of("a") == (2, 3)
        np.testing.assert_array_equal(tensors["a"], FIRST["a"])
        assert tensors["b"].dtype == np.float16


def test_index_and_its_shards(tmp_path):
    sharded(tmp_path)
    for path in (tmp_path, tmp_path / "m.safetensors.index.json"):
        tensors = open_tensors(path)
        assert len(tensors) == 3
        np.testing.assert_array_equal(tensors["c"].astype(np.float32), np.full((2, 2), 0.5))


def test_cut_off_file(tmp_path):
    save_file(FIRST, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        (tmp_path / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(StoryjaxError, match=r"model\.safetensors' is no whole \.safetensors file"):
            open_tensors(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(StoryjaxError, match=r"no weights at .*missing"):
        open_tensors(tmp_path / "missing.safetensors")
    with pytest.raises(StoryjaxError, match="found none"):
        open_tensors(tmp_path)


def test_several_candidates_are_named(tmp_path):
    save_file(FIRST, tmp_path / "ema.safetensors")
    save_file(FIRST, tmp_path / "raw.safetensors")
    with pytest.raises(StoryjaxError, match=r"found ema\.safetensors, raw\.safetensors; name the file itself"):
        open_tensors(tmp_path)


def test_missing_shard(tmp_path):
    sharded(tmp_path)
    (tmp_path / "m-2.safetensors").unlink()
    with pytest.raises(StoryjaxError, match=r"no weights at .*m-2\.safetensors"):
        open_tensors(tmp_path)


def test_index_that_disagrees_with_its_shards(tmp_path):
    sharded(tmp_path, {"a": "m-1.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors", "d": "m-2.safetensors"})
    with pytest.raises(StoryjaxError, match="disagree about 1 tensors, the first is 'd'"):
        open_tensors(tmp_path)


def test_tensor_in_two_shards(tmp_path):
    sharded(tmp_path)
    save_file(FIRST | SECOND, tmp_path / "m-2.safetensors")
    with pytest.raises(StoryjaxError, match="'a' is in both"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("content", ["not json", "[]", '{"weights": {}}', '{"weight_map": 3}'])
def test_broken_index(tmp_path, content):
    (tmp_path / "m.safetensors.index.json").write_text(content)
    with pytest.raises(StoryjaxError, match="is no safetensors index"):
        open_tensors(tmp_path)


def test_a_bin_and_its_index(tmp_path):
    shutil.copy(FILES / "zip.pt", tmp_path / "pytorch_model-00001-of-00002.bin")
    save_file(SECOND, tmp_path / "pytorch_model-00002-of-00002.bin")  # names lie: the content decides
    weight_map = {name: "pytorch_model-00001-of-00002.bin" for name in TENSORS}
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {**weight_map, "c": "pytorch_model-00002-of-00002.bin"}}))
    for path in (index, tmp_path):
        tensors = open_tensors(path)
        assert len(tensors) == len(TENSORS) + 1
        assert [file.name for file in tensors.files] == sorted(
            {*weight_map.values(), "pytorch_model-00002-of-00002.bin"}
        )
        np.testing.assert_array_equal(tensors["column"], TENSORS["column"])


UNET = "diffusion_pytorch_model"


@pytest.mark.parametrize(
    ("names", "variant", "taken"),
    [
        ([f"{UNET}.bin", f"{UNET}.safetensors", f"{UNET}.fp16.safetensors"], None, f"{UNET}.safetensors"),
        ([f"{UNET}.bin", f"{UNET}.safetensors", f"{UNET}.fp16.safetensors"], "fp16", f"{UNET}.fp16.safetensors"),
        ([f"{UNET}.bin", f"{UNET}.fp16.bin", f"{UNET}.safetensors"], "fp16", f"{UNET}.fp16.bin"),
        ([f"{UNET}.non_ema.safetensors", f"{UNET}.bin"], None, f"{UNET}.bin"),
        (["pytorch_model.bin", "model.safetensors", "openvino_model.bin"], None, "model.safetensors"),
        (["model.fp16.safetensors", "config.json"], None, "model.fp16.safetensors"),
        (["a.bin", "b.safetensors"], None, "b.safetensors"),
        (["last.ckpt", "notes.txt"], None, "last.ckpt"),
        (["x.pth"], None, "x.pth"),
        (["model-00001-of-00001.safetensors", "model.safetensors.index.json"], None, "model.safetensors.index.json"),
        (
            ["model.safetensors.index.json", "model.safetensors.index.fp16.json"],
            "fp16",
            "model.safetensors.index.fp16.json",
        ),
    ],
)
def test_which_file_of_a_folder_is_taken(tmp_path, names, variant, taken):
    for name in names:
        (tmp_path / name).touch()
    assert find_weights(tmp_path, variant) == tmp_path / taken


def test_variants(tmp_path):
    save_file(FIRST, tmp_path / "model.safetensors")
    save_file(SECOND, tmp_path / "model.fp16.safetensors")
    assert list(open_tensors(tmp_path, variant="fp16")) == ["c"]
    with pytest.raises(
        StoryjaxError, match=r"one of variant 'bf16', in .*, found model\.fp16\.safetensors, model\.saf"
    ):
        open_tensors(tmp_path, variant="bf16")
    with pytest.raises(StoryjaxError, match="is no folder, so there is no variant 'fp16'"):
        open_tensors(tmp_path / "model.safetensors", variant="fp16")


def test_what_a_reader_knows_without_reading(tmp_path):
    save_file(FIRST, tmp_path / "model.safetensors", metadata={"format": "pt"})
    tensors = open_tensors(tmp_path)
    assert tensors.metadata == {"format": "pt"}
    assert tensors.nbytes == 6 * 4 + 2 * 2
    assert tensors.dtype_of("b") == np.float16
    assert tensors.files == [tmp_path / "model.safetensors"]
    assert "nowhere" not in tensors
    tensors["a"][:] = 0  # a copy of the reader's own
    np.testing.assert_array_equal(tensors["a"], FIRST["a"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (
            b"<!DOCTYPE html><html>Not Found",
            "neither a .safetensors file nor one of torch.save: it begins with b'<!DOC",
        ),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "is a Git LFS pointer.*git lfs pull"),
        (b"\x93NUMPY\x01\x00", "neither a .safetensors file nor"),
    ],
)
def test_no_checkpoint_at_all(tmp_path, content, message):
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(StoryjaxError, match=message):
        open_tensors(tmp_path)


def test_an_index_stays_in_its_folder(tmp_path):
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(StoryjaxError, match="is no safetensors index"):
        open_tensors(tmp_path)
