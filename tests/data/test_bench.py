"""`storyjax data bench`: what is measured, what is said about it, and that the numbers are those of the stream."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from storyjax.cli import main
from storyjax.data import CachedSource, bench, build_cache
from storyjax.data.batch import BatchSpec
from storyjax.data.input_report import InputReport, Rate
from storyjax.errors import StoryjaxError
from tests.data import worlds

QUICK = {"seconds": 0.2, "workers": (0,), "progress": False}


def report(*rates, **changes):
    """Two cores, batches of 10 stories of 5 frames in 100 ms: the step needs 500 frames a second."""
    fields = {
        "data": "tiny",
        "split": "train",
        "stories": 1000,
        "frames": 5,
        "size": (64, 64),
        "stored_size": (64, 64),
        "fields": ("images",),
        "batch_size": 10,
        "cores": 2,
        "step_ms": 100.0,
        "step_from": "as given",
        "ms": {"read and decode": 4.0},
        "rates": tuple(rates),
    }
    return InputReport(**{**fields, **changes})


def text(found):
    console = Console(width=300)
    with console.capture() as caught:
        console.print(found.table())
    return caught.get()


def test_an_input_that_is_fast_enough_needs_no_advice():
    found = report(Rate(4, 0, 1600, 0.1), Rate(1, 2, 900, 3.0))
    assert found.need == 500
    assert found.bottleneck == "step"
    assert (
        found.verdict == "The step is the bottleneck, not the input: with 4 threads it is 3.2 times as fast as needed."
    )
    assert found.advice == []


def test_workers_are_advised_where_they_are_enough():
    found = report(Rate(4, 0, 450, 0.1), Rate(1, 2, 900, 3.0))
    assert found.bottleneck == "step"
    assert "with 2 worker processes it is 1.8 times as fast" in found.verdict
    assert found.advice == ["Read with data.threads=1 and data.workers=2."]


def test_an_input_that_just_keeps_up_is_not_called_enough():
    found = report(Rate(1, 0, 550, 0.1))
    assert found.bottleneck == "step"
    assert found.verdict.startswith("The input just keeps up: with 1 thread it is 1.10 times as fast as needed")
    assert found.advice


def test_a_slow_input_is_told_what_it_costs_and_what_would_help():
    ms = {"read and decode": 6.0, "resize and crop": 4.0}
    found = report(Rate(4, 0, 150, 0.1), Rate(1, 1, 100, 3.0), ms=ms, stored_size=(512, 256))
    assert found.bottleneck == "input"
    assert found.verdict == "The input is the bottleneck: at best, with 4 threads, the device waits 70% of the time."
    cores, cache, size = found.advice
    assert cores == "Give it more cores: about 6 for 10.00 ms a frame; this process may use 2."  # 1.2 x 500 x 10 ms
    assert "a cache of its latents (build_cache" in cache
    assert size.startswith("Store the pictures at 64x64 instead of 256x512: resizing takes 4.00 of 10.00 ms")
    assert len(dataclasses.replace(found, fields=("latents_mean",), ms={"read": 10.0}).advice) == 1


def test_the_table_and_the_json_say_the_same():
    found = report(Rate(4, 0, 150, 0.1), Rate(1, 2, 1234, 3.0))
    shown = text(found)
    for part in ("1,234", "247%", "30%", "500", "100 ms a step", found.verdict, *found.advice):
        assert part in shown
    as_json = json.loads(json.dumps(found.as_json()))
    assert as_json["rates"][1] == {"threads": 1, "workers": 2, "frames_per_s": 1234, "start_s": 3.0}
    assert (as_json["need_frames_per_s"], as_json["bottleneck"]) == (500, "step")


def test_each_way_of_reading_is_measured(data_dir):
    found = bench.bench("tiny_stories", data_dir=data_dir, batch_size=4, threads=(0, 2), **QUICK)
    assert [(rate.threads, rate.workers) for rate in found.rates] == [(0, 0), (2, 0)]
    assert all(rate.frames_per_s > 0 for rate in found.rates)
    assert (found.size, found.stored_size, found.frames, found.stories) == ((32, 32), (32, 32), 5, 20)
    assert found.step_ms == 4 * bench.STORY_MS
    assert found.fields == ("images",)
    assert list(found.ms) == ["read and decode"]


def test_frames_a_second_are_those_of_a_stream_of_known_speed(data_dir, monkeypatch):
    """A source that takes 20 ms a story gives at most 250 frames a second to one reader, and not much less."""
    from storyjax.data.records import RecordSource

    def slow(self, index):
        bench.time.sleep(0.02)
        return np.zeros((self.frames, *self.size, 3), np.uint8)

    monkeypatch.setattr(RecordSource, "images", slow)
    found = bench.bench("tiny_stories", data_dir=data_dir, batch_size=2, threads=(0,), **(QUICK | {"seconds": 1.0}))
    assert 20 < found.rates[0].frames_per_s <= 255
    assert found.ms["read and decode"] >= 4.0


def test_resizing_is_told_apart_from_decoding(data_dir):
    found = bench.bench("tiny_stories", data_dir=data_dir, size=300, frames=2, batch_size=2, **QUICK)
    assert list(found.ms) == ["read and decode", "resize and crop"]
    assert found.ms["resize and crop"] > 0
    assert (found.size, found.stored_size, found.frames) == ((300, 300), (32, 32), 2)


def test_pictures_of_several_sizes_are_measured_together(tmp_path):
    folder = worlds.write_folder(tmp_path)
    worlds.Image.fromarray(worlds.picture(0, 0, 48)).save(folder / "0" / "0.png")
    with pytest.warns(UserWarning, match="resized"):
        found = bench.bench(folder, size=32, batch_size=2, **QUICK)
    assert list(found.ms) == ["read, decode, resize and crop"]
    assert found.stored_size is None


def test_a_cache_is_opened_by_what_it_says_it_was_made_from(source, data_dir, tmp_path):
    def encode(batch):
        latents = batch["images"].reshape(len(batch["index"]), 5, -1)[..., :8].astype(np.float32)
        return {"latents_mean": latents, "latents_std": latents}

    made_from = {"vae": "some hash", "nested": {"layers": 2}}
    folder = build_cache(
        tmp_path / "cache",
        source,
        encode,
        spec=BatchSpec(text=None),
        batch_size=4,
        fingerprint=made_from,
        progress=False,
    )
    from storyjax.data.cache import made_from as noted

    assert noted(folder) == made_from
    CachedSource(source, folder, noted(folder))
    found = bench.bench("tiny_stories", data_dir=data_dir, batch_size=4, caches=[folder], **QUICK)
    assert found.fields == ("latents_mean", "latents_std")
    assert list(found.ms) == ["read"]
    with pytest.raises(StoryjaxError, match=r"was made from something else: .*source\.split is 'train', wanted 'test'"):
        bench.bench("tiny_stories", split="test", data_dir=data_dir, caches=[folder], **QUICK)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"batch_size": 0}, "must be positive, got 0, 0.2 and none"),
        ({"step_ms": -1.0}, "must be positive, got 16, 0.2 and -1"),
        ({"threads": (-1,)}, r"0 or more, got \[-1\] and \[0\]"),
        ({"threads": ()}, r"0 or more, got \[\] and \[0\]"),
        ({"workers": (-2,)}, r"0 or more, got \[4\] and \[-2\]"),
    ],
)
def test_wrong_numbers_are_told(wrong, said):
    with pytest.raises(StoryjaxError, match=said):
        bench.bench("tiny_stories", **{**QUICK, **wrong})


def test_the_command_prints_the_verdict_and_writes_it(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    words = ["--batch-size", "4", "--threads", "1", "--workers", "0", "--step-ms", "1000", "--seconds", "0.2"]
    main(["data", "bench", "tiny_stories", "--data-dir", str(data_dir), *words, "--out", str(tmp_path / "found.json")])
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["step_ms"] == 1000
    assert found["need_frames_per_s"] == 20
    assert found["verdict"] in " ".join(said.split())
    assert "The step: as given." in said
