import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from storyjax.errors import StoryjaxError
from storyjax.weights import open_tensors

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
