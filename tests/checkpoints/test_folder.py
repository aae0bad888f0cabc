import errno
import json
import shutil

import ml_dtypes
import numpy as np
import pytest

from storyjax.checkpoints import folder as folders
from storyjax.checkpoints.folder import load_component, model_hash, model_index, save_folder
from storyjax.errors import StoryjaxError
from tests.disk import no_file_grows_past

CONFIG = {"block_out_channels": [32, 64], "name": "kleiner Bär"}
SHAPES = {"conv_in.kernel": (3, 3, 4, 8), "blocks.0.scale": (8,), "alpha": (1,)}


def params(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "conv_in": {"kernel": rng.standard_normal(SHAPES["conv_in.kernel"]).astype(np.float32)},
        "blocks": {"0": {"scale": rng.standard_normal(8).astype(np.float32)}},
        "alpha": np.array([0.25], np.float32),
    }


def save(folder, seed=0, **settings):
    save_folder(folder, {"unet": (CONFIG, params(seed)), "vae": ({}, params(seed + 1))}, **settings)


def assert_equal(got, expected):
    assert set(got) == set(expected)
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_equal(got[name], value)
        else:
            assert got[name].dtype == np.float32
            np.testing.assert_array_equal(got[name], value)


@pytest.fixture
def saved(tmp_path):
    save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def tokenizer(tmp_path):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "vocab.json").write_text('{"a": 0}')
    return tmp_path / "clip"


def test_what_was_saved_is_loaded(tmp_path, tokenizer):
    folder = tmp_path / "models" / "cartoon"
    extra = {"scheduler/scheduler_config.json": {"steps": 1000}, "motion.json": [1.5, 2.5]}
    save(folder, extra_files=extra, index={"system": "contextual_story"}, tokenizer=tokenizer)
    config, loaded = load_component(folder, "unet", expect=SHAPES)
    assert config == CONFIG
    assert_equal(loaded, params())
    assert_equal(load_component(folder, "vae")[1], params(1))
    assert json.loads((folder / "scheduler" / "scheduler_config.json").read_text()) == {"steps": 1000}
    assert json.loads((folder / "motion.json").read_text()) == [1.5, 2.5]
    assert (folder / "tokenizer" / "vocab.json").read_text() == '{"a": 0}'
    index = model_index(folder)
    assert index["system"] == "contextual_story"
    assert index["components"]["unet"] == {"dtype": "float32", "parameters": 297, "tensors": 3}
    assert [path.name for path in folder.parent.iterdir()] == ["cartoon"]


@pytest.mark.parametrize(("dtype", "numpy_dtype"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)])
def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path, saved, dtype, numpy_dtype):
    save(tmp_path / "half", dtype=dtype)
    _, loaded = load_component(tmp_path / "half", "unet", expect=SHAPES)
    kernel = params()["conv_in"]["kernel"].astype(numpy_dtype).astype(np.float32)
    assert loaded["conv_in"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(loaded["conv_in"]["kernel"], kernel)
    sizes = [(place / "unet" / "model.safetensors").stat().st_size for place in (saved, tmp_path / "half")]
    assert sizes[0] - sizes[1] == pytest.approx(2 * 297, abs=32)


def test_number_that_float16_cannot_hold(tmp_path):
    large = params() | {"alpha": np.array([1e5], np.float32)}
    with pytest.raises(StoryjaxError, match=r"'unet': alpha holds 100000.*beyond float16; store as float32"):
        save_folder(tmp_path / "model", {"unet": (CONFIG, large)}, dtype="float16")
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_numbers(tmp_path):
    broken = params() | {"alpha": np.array([np.nan], np.float32)}
    with pytest.raises(StoryjaxError, match="alpha holds nan"):
        save_folder(tmp_path / "model", {"unet": (CONFIG, broken)})


def test_unknown_dtype(tmp_path):
    with pytest.raises(StoryjaxError, match="did you mean 'float16'"):
        save(tmp_path / "model", dtype="flaot16")


def test_hash_follows_the_weights_only(tmp_path, saved):
    for number in range(20):  # what the same weights are written as must not hang on the order of a hash table
        save(tmp_path / f"same{number}", index={"system": "x"}, extra_files={"notes.json": {}})
        assert model_hash(saved) == model_hash(tmp_path / f"same{number}")
    save(tmp_path / "other", seed=5)
    assert model_hash(saved) != model_hash(tmp_path / "other")
    assert len(model_hash(saved)) == 64


def test_existing_folder_is_refused(saved):
    before = model_hash(saved)
    with pytest.raises(StoryjaxError, match="exists; choose another folder, or allow overwriting"):
        save(saved, seed=5)
    assert model_hash(saved) == before


def test_overwriting_replaces_the_whole_model(saved):
    (saved / "old.json").write_text("{}")
    save(saved, seed=5, overwrite=True)
    assert_equal(load_component(saved, "unet")[1], params(5))
    assert not (saved / "old.json").exists()
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_folder_that_is_no_model_is_never_overwritten(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "us.jpg").write_text("x")
    with pytest.raises(StoryjaxError, match="is no model folder"):
        save(tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "us.jpg").read_text() == "x"


def test_missing_tokenizer(tmp_path):
    with pytest.raises(StoryjaxError, match="no tokenizer folder at"):
        save(tmp_path / "model", tokenizer=tmp_path / "nothing")


def test_failed_write_leaves_the_old_model_and_nothing_else(saved):
    before = model_hash(saved)
    refused = pytest.raises(
        StoryjaxError, match=r"could not write the model folder .*too large.*nothing was changed there"
    )
    with refused, no_file_grows_past(1000):
        save(saved, seed=5, overwrite=True)
    assert model_hash(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_full_disk_is_named(tmp_path, tokenizer, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(StoryjaxError, match="No space left on device; nothing was changed there, make room"):
        save(tmp_path / "model", tokenizer=tokenizer)
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def test_old_model_comes_back_when_the_last_rename_fails(saved, monkeypatch):
    before, rename = model_hash(saved), folders.Path.rename

    def fail_for_the_new(self, target):
        if self.name.endswith(".partial"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(folders.Path, "rename", fail_for_the_new)
    with pytest.raises(StoryjaxError, match="Input/output error"):
        save(saved, seed=5, overwrite=True)
    assert model_hash(saved) == before


def test_save_killed_between_its_renames_loses_nothing(saved):
    before = model_hash(saved)
    saved.rename(saved.parent / ".model.replaced")
    with pytest.raises(StoryjaxError, match="exists"):
        save(saved, seed=5)
    assert model_hash(saved) == before


def test_rest_of_a_killed_save_is_cleared(tmp_path):
    (tmp_path / ".model.partial" / "unet").mkdir(parents=True)
    (tmp_path / ".model.partial" / "rest.json").write_text("{}")
    save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "rest.json").exists()


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(StoryjaxError, match="no model folder at"):
        load_component(tmp_path / "nothing", "unet")
    with pytest.raises(StoryjaxError, match=r"it has no model_index\.json"):
        load_component(tmp_path, "unet")


def test_component_that_is_not_there_names_the_nearest(saved):
    with pytest.raises(StoryjaxError, match="no component 'unett'; did you mean 'unet'"):
        load_component(saved, "unett")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(saved, name):
    (saved / "unet" / name).unlink()
    with pytest.raises(StoryjaxError, match=f"not whole: .*{name}' is missing"):
        load_component(saved, "unet")


def test_hash_of_a_folder_with_a_missing_file(saved):
    (saved / "vae" / "model.safetensors").unlink()
    with pytest.raises(StoryjaxError, match="not whole"):
        model_hash(saved)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_cut_off_weights(saved, share):
    file = saved / "unet" / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(StoryjaxError, match=r"model\.safetensors' is cut off or damaged"):
        load_component(saved, "unet")


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json"])
def test_cut_off_json(saved, name):
    (saved / name).write_text((saved / name).read_text()[:20])
    with pytest.raises(StoryjaxError, match="is no valid JSON"):
        load_component(saved, "unet")


def test_index_without_components(saved):
    (saved / "model_index.json").write_text("{}")
    with pytest.raises(StoryjaxError, match="does not list its components"):
        model_index(saved)


def test_weights_of_another_model_are_listed_in_one_error(saved):
    expect = {"conv_in.kernel": (3, 3, 4, 16), "alpha": (1,), "norm.scale": (8,), "norm.bias": (8,)}
    with pytest.raises(StoryjaxError) as error:
        load_component(saved, "unet", expect=expect)
    text = str(error.value)
    assert "2 missing: norm.bias, norm.scale" in text
    assert "1 not of this model: blocks.0.scale" in text
    assert "1 of another shape: conv_in.kernel (3, 3, 4, 8), expected (3, 3, 4, 16)" in text
