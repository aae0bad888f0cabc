"""Cached encodings: the right rows, made once, never stale, never lost half-way."""

import json
import pickle
import shutil

import ml_dtypes
import numpy as np
import pytest

from storyjax.data import BatchSpec, CachedSource, build_cache, iterate_once, make_batches, open_source, weights_hash
from storyjax.errors import StoryjaxError
from tests.disk import no_file_grows_past

PIXELS = BatchSpec(text=None)
LATENTS = BatchSpec(pictures="latents", text=None, truth=("place",))
VAE = {"vae": "abc"}


class Encoder:
    """Stands for a VAE: means over 16x16 blocks, and a count of how often it was called and with what shapes."""

    def __init__(self, fail_after=10**9):
        self.shapes, self.fail_after = [], fail_after

    def __call__(self, batch):
        if len(self.shapes) == self.fail_after:
            raise RuntimeError("stopped here")
        images = batch["images"].astype(np.float32) / 255
        self.shapes.append(images.shape)
        blocks = images.reshape(*images.shape[:2], 2, 16, 2, 16, 3).mean((3, 5))
        return {"latents_mean": blocks, "latents_std": blocks / 8 + 0.1, "brightness": images.mean((2, 3, 4))}


def build(folder, source, encoder=None, batch_size=8, **options):
    options = {
        "spec": PIXELS,
        "batch_size": batch_size,
        "fingerprint": VAE,
        "means": ("brightness",),
        "progress": False,
    } | options
    return build_cache(folder, source, encoder or Encoder(), **options)


def expected(source):
    return Encoder()({"images": np.stack([source.images(i) for i in range(len(source))])})


def test_rows_join_their_story_as_float32_without_decoding(source, tmp_path, monkeypatch):
    cached = CachedSource(source, build(tmp_path / "c", source), VAE)
    truth = expected(source)
    monkeypatch.setattr("storyjax.data.records.read_picture", lambda *a: pytest.fail("a picture was decoded"))
    with make_batches(cached, LATENTS, 6, seed=2, threads=2) as batches:
        for _ in range(5):
            batch = next(batches)
            assert set(batch) == {"latents_mean", "latents_std", "place", "index"}
            assert batch["latents_mean"].dtype == np.float32
            for name in ("latents_mean", "latents_std"):
                np.testing.assert_array_equal(
                    batch[name], truth[name][batch["index"]].astype(np.float16).astype(np.float32)
                )
            np.testing.assert_array_equal(batch["place"], source.table.truth["place"][batch["index"]])


def test_every_batch_has_one_shape_and_the_files_are_plain_numpy(source, tmp_path):
    encoder = Encoder()
    folder = build(tmp_path / "c", source, encoder)
    assert encoder.shapes == [(8, 5, 32, 32, 3)] * 3  # 20 stories: the last batch is filled up
    stored = np.load(folder / "latents_mean.npy")
    assert (stored.shape, stored.dtype) == ((20, 5, 2, 2, 3), np.float16)
    assert sorted(path.name for path in folder.iterdir()) == ["cache.json", "latents_mean.npy", "latents_std.npy"]


def test_means_are_over_every_story_once_in_float64(source, tmp_path):
    cached = CachedSource(source, build(tmp_path / "c", source), VAE)
    np.testing.assert_allclose(
        cached.means["brightness"], expected(source)["brightness"].astype(np.float64).mean(0), rtol=1e-12
    )
    assert cached.means["brightness"].dtype == np.float64


def test_a_cache_that_fits_is_left_alone(source, tmp_path):
    build(tmp_path / "c", source)
    encoder = Encoder()
    for rebuild in (False, True):
        build(tmp_path / "c", source, encoder, rebuild=rebuild)
    assert encoder.shapes == []
    with pytest.raises(StoryjaxError, match=r"means is \['brightness'\], wanted \[\]"):
        build(tmp_path / "c", source, means=())


def test_a_stale_cache_is_an_error_and_rebuilt_by_name(source, data_dir, tmp_path):
    folder = build(tmp_path / "c", source)
    message = "made from something else: vae is 'abc', wanted 'new'; remove it; or "
    with pytest.raises(StoryjaxError, match=message + "pass rebuild=True"):
        build(folder, source, fingerprint={"vae": "new"})
    with pytest.raises(StoryjaxError, match=message + r"build it again with build_cache\(..., rebuild=True\)"):
        CachedSource(source, folder, {"vae": "new"})
    with pytest.raises(StoryjaxError, match=r"source\.size is \[32, 32\], wanted \[16, 16\]"):
        CachedSource(open_source("tiny_stories", data_dir=data_dir, size=16), folder, VAE)
    with pytest.raises(StoryjaxError, match=r"source\.content is .*source\.split is 'train', wanted 'test'"):
        CachedSource(open_source("tiny_stories", "test", data_dir=data_dir), folder, VAE)
    assert CachedSource(source, folder, VAE).fields[-2:] == ("latents_mean", "latents_std")
    build(folder, source, fingerprint={"vae": "new"}, rebuild=True)
    assert len(CachedSource(source, folder, {"vae": "new"})) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_the_old_cache_stays_until_the_new_one_is_complete(source, tmp_path):
    folder = build(tmp_path / "c", source)
    with pytest.raises(RuntimeError, match="stopped here"):
        build(folder, source, Encoder(fail_after=1), fingerprint={"vae": "new"}, rebuild=True)
    assert len(CachedSource(source, folder, VAE)) == 20


def test_an_interrupted_build_goes_on_where_it_stopped(source, tmp_path, monkeypatch):
    monkeypatch.setattr("storyjax.data.cache._SAVE_EVERY", 2)
    with pytest.raises(RuntimeError, match="stopped here"):
        build(tmp_path / "c", source, Encoder(fail_after=7), batch_size=2)
    assert not (tmp_path / "c").exists()
    with pytest.raises(StoryjaxError, match=r"no cache in .*c' .*make it with build_cache"):
        CachedSource(source, tmp_path / "c", VAE)
    encoder = Encoder()
    build(tmp_path / "c", source, encoder, batch_size=2)
    assert len(encoder.shapes) == 4  # 12 of 20 stories were safe, 14 encoded
    build(tmp_path / "whole", source)
    for name in ("latents_mean.npy", "latents_std.npy", "cache.json"):
        if name == "cache.json":
            ours, whole = (json.loads((tmp_path / f / name).read_text()) for f in ("c", "whole"))
            np.testing.assert_allclose(ours["mean"]["brightness"], whole["mean"]["brightness"], rtol=1e-12)
        else:
            assert (tmp_path / "c" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_another_build_left_is_not_continued(source, tmp_path, monkeypatch):
    monkeypatch.setattr("storyjax.data.cache._SAVE_EVERY", 1)
    with pytest.raises(RuntimeError):
        build(tmp_path / "c", source, Encoder(fail_after=2), fingerprint={"vae": "other"})
    encoder = Encoder()
    build(tmp_path / "c", source, encoder)
    assert len(encoder.shapes) == 3


def test_a_full_disk_keeps_what_is_there(source, tmp_path, monkeypatch):
    monkeypatch.setattr("storyjax.data.cache._SAVE_EVERY", 1)
    said = r"cannot write the cache .*\(File too large\); 12 of 20 stories are kept, make room"
    with (
        pytest.raises(StoryjaxError, match=said),
        no_file_grows_past(2000),
    ):  # a row has 120 bytes: the 16th story does not fit
        build(tmp_path / "c", source, batch_size=4)
    assert not (tmp_path / "c").exists()
    encoder = Encoder()
    build(tmp_path / "c", source, encoder, batch_size=4)
    assert len(encoder.shapes) == 2
    np.testing.assert_array_equal(
        np.load(tmp_path / "c" / "latents_mean.npy"), expected(source)["latents_mean"].astype(np.float16)
    )


def test_values_too_large_for_the_type_are_refused(source, tmp_path):
    def encode(batch):
        return {"latents_mean": np.full((len(batch["index"]), 3), 1e6, np.float32)}

    with pytest.raises(
        StoryjaxError, match=r"'latents_mean' of stories 0\.\.7 does not fit float16 .*1e\+06.*dtype=np.float32"
    ):
        build(tmp_path / "c", source, encode)
    folder = build(tmp_path / "d", source, encode, dtype=np.float32)
    assert np.load(folder / "latents_mean.npy").max() == 1e6


def test_a_wrong_number_of_rows_is_refused(source, tmp_path):
    with pytest.raises(StoryjaxError, match=r"gave 'x' of shape \(3, 2\); expected one row for each story"):
        build(tmp_path / "c", source, lambda batch: {"x": np.zeros((3, 2))})


def test_caches_nest_and_give_text_states(source, tmp_path):
    tokens = np.arange(20 * 5 * 4, dtype=np.int32).reshape(20, 5, 4)

    def encode_text(batch):
        return {"text": (batch["tokens"][..., None] % 7).astype(ml_dtypes.bfloat16)}

    latents = CachedSource(source, build(tmp_path / "latents", source), VAE)
    spec = BatchSpec(pictures=None)
    build_cache(
        tmp_path / "text",
        latents,
        encode_text,
        spec=spec,
        batch_size=8,
        fingerprint={"text": 1},
        tokens=tokens,
        progress=False,
    )
    both = CachedSource(latents, tmp_path / "text", {"text": 1})
    batch = next(iterate_once(both, BatchSpec(pictures="latents", text="states"), 20, process_index=0, process_count=1))
    np.testing.assert_array_equal(batch["text"], (tokens % 7)[..., None])
    assert batch["latents_mean"].shape == (20, 5, 2, 2, 3)
    np.testing.assert_array_equal(both[3]["images"], source[3]["images"])


def test_a_cached_source_travels_without_its_arrays(source, tmp_path):
    cached = CachedSource(source, build(tmp_path / "c", source), VAE)
    content = pickle.dumps(cached)
    assert len(content) < len(pickle.dumps(source)) + 2000
    copy = pickle.loads(content)
    fields = ("latents_mean", "place")
    for name in fields:
        np.testing.assert_array_equal(copy.arrays(5, fields)[name], cached.arrays(5, fields)[name])


def test_damaged_caches_are_told(source, tmp_path):
    folder = build(tmp_path / "c", source)
    shutil.copytree(folder, tmp_path / "d")
    np.save(folder / "latents_mean.npy", np.zeros((19, 2)))
    with pytest.raises(StoryjaxError, match=r"'latents_mean\.npy' does not hold 20 stories; build it again"):
        CachedSource(source, folder, VAE)
    (tmp_path / "d" / "cache.json").write_text('{"fingerprint"')
    with pytest.raises(StoryjaxError, match=r"cache\.json' is damaged .*remove the folder and build it again"):
        CachedSource(source, tmp_path / "d", VAE)
    assert len(CachedSource(source, build(tmp_path / "d", source, rebuild=True), VAE)) == 20


def test_the_weights_hash_sees_names_shapes_types_and_values():
    params = {"a": {"kernel": np.arange(6, dtype=np.float32), "scale": np.float32(2)}}
    same = {"a": {"scale": np.float32(2), "kernel": np.arange(6, dtype=np.float32)}}
    assert weights_hash(params) == weights_hash(same)
    changed = [
        {"b": params["a"]},
        {"a": params["a"] | {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}},
        {"a": params["a"] | {"kernel": np.arange(6, dtype=np.int32)}},
        {"a": params["a"] | {"kernel": np.arange(1, 7, dtype=np.float32)}},
        {"a": params["a"] | {"scale": np.float32(3)}},
    ]
    assert len({weights_hash(params), *map(weights_hash, changed)}) == 6
    assert weights_hash({"x": np.zeros((0, 3), ml_dtypes.bfloat16)}) != weights_hash(
        {"x": np.zeros((0, 4), ml_dtypes.bfloat16)}
    )
