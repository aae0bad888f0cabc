"""Files and folders in a bucket, here a fake one."""

import numpy as np
import pytest

import storyjax
from storyjax.checkpoints.folder import load_component, save_folder
from storyjax.checkpoints.paths import append_line, at, check_storage, move_folder, write_whole
from storyjax.checkpoints.remote import fetched, is_whole, published
from storyjax.checkpoints.workdir import locked
from storyjax.errors import StoryjaxError

PARAMS = {"layer": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}
MODEL = "gs://bucket/runs/first/model"


def save(params=PARAMS, name="vae"):
    with published(MODEL) as here:
        save_folder(here, {name: ({"width": 2}, params)}, index={"system": "autoencoder"})


def test_files_are_written_whole_and_lines_are_added(gcs):
    write_whole("gs://bucket/run/config.json", "{}")
    write_whole("gs://bucket/run/config.json", '{"a": 1}')
    for line in ("one", "zwölf"):
        append_line("gs://bucket/run/lines", line)
    assert gcs.names("bucket") == ["run/config.json", "run/lines"]
    assert gcs.objects["bucket", "run/config.json"].content == b'{"a": 1}'
    assert gcs.objects["bucket", "run/lines"].content.decode() == "one\nzwölf\n"


def test_a_folder_is_moved_with_what_is_in_it(gcs):
    for name in ("a/b/c", "a/d", "ab"):
        write_whole(f"gs://bucket/{name}", name)
    move_folder("gs://bucket/a", "gs://bucket/e/f")
    assert gcs.names("bucket") == ["ab", "e/f/b/c", "e/f/d"]
    assert gcs.objects["bucket", "e/f/b/c"].content == b"a/b/c"


def test_a_model_folder_goes_there_and_comes_back(gcs):
    assert not is_whole(MODEL)
    save()
    assert is_whole(MODEL)
    assert gcs.names("bucket") == [
        f"runs/first/model/{name}" for name in ("model_index.json", "vae/config.json", "vae/model.safetensors")
    ]
    config, params = load_component(fetched(MODEL), "vae")
    assert config == {"width": 2}
    np.testing.assert_array_equal(params["layer"]["kernel"], PARAMS["layer"]["kernel"])


def test_a_folder_is_copied_once_for_each_state_of_it(gcs):
    save()
    first = fetched(MODEL)
    gcs.requests.clear()
    assert fetched(MODEL) == first
    assert not [path for _, path in gcs.requests if "alt=media" in path]
    save({"layer": {"kernel": -PARAMS["layer"]["kernel"]}})
    second = fetched(MODEL)
    assert second != first
    assert load_component(second, "vae")[1]["layer"]["kernel"][1, 2] == -5
    assert load_component(first, "vae")[1]["layer"]["kernel"][1, 2] == 5


def test_a_folder_takes_the_place_of_another_and_is_never_whole_in_between(gcs, monkeypatch):
    save(name="unet")
    put, states = type(gcs).put, []

    def watched(self, bucket, name, *rest):
        states.append(f"{bucket}/{name}" if self.names("bucket", "runs/first/model/model_index.json") else "no index")
        return put(self, bucket, name, *rest)

    monkeypatch.setattr(type(gcs), "put", watched)
    save(name="vae")
    assert states == ["no index"] * 3
    assert not gcs.names("bucket", "runs/first/model/unet")


def test_a_model_is_loaded_from_its_address(gcs, tokenizer):
    from tests import tiny

    pipeline = tiny.pipeline(tokenizer)
    with published(MODEL) as here:
        pipeline.save(here, tokenizer)
    assert storyjax.load(MODEL).config == pipeline.config


def test_no_such_folder_and_no_such_bucket_are_one_line(gcs):
    with pytest.raises(StoryjaxError, match="there is no folder 'gs://bucket/none'"):
        storyjax.load("gs://bucket/none")
    with pytest.raises(StoryjaxError, match=r"there is no bucket .buckle. .*; make it first") as caught:
        check_storage("gs://buckle/run")
    assert "\n" not in str(caught.value)


def test_a_work_directory_in_a_bucket_has_no_lock(gcs):
    with locked("gs://bucket/run"), locked("gs://bucket/run"):
        assert gcs.names("bucket") == []
    assert not at("gs://bucket/run").exists()
