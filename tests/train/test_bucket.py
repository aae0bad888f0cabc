"""A training whose work directory lies in a bucket, here a fake one, goes as it goes on a disk."""

import dataclasses
import json
import sys
import types
from pathlib import Path

import pytest
from PIL import Image

from storyjax.checkpoints.manager import load_params
from storyjax.errors import StoryjaxError
from storyjax.nn.build import flatten
from storyjax.train.config import TrainConfig
from storyjax.train.loop import train
from storyjax.train.report import Boards, Report
from tests.train.tiny import TinyBatches, tiny_task

CONFIG = TrainConfig(steps=6, batch_size=8, log_every=1, save_every=2)
WORKDIR = "gs://bucket/runs/first"


def run(workdir, steps: int = 6, **changes):
    config = dataclasses.replace(CONFIG, steps=steps, **changes)
    return train(tiny_task(), config, TinyBatches(), workdir, config_json={}, progress=False)


def curve(text: str) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in map(json.loads, text.splitlines())}


def here(gcs) -> dict[int, float]:
    return curve(gcs.objects["bucket", "runs/first/metrics.jsonl"].content.decode())


def checkpoints(gcs, folder: str = "checkpoints") -> set[str]:
    return {name.split("/")[3] for name in gcs.names("bucket", f"runs/first/{folder}/")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The same on a disk, disturbed by nothing."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    run(workdir)
    return workdir


def assert_same(gcs, whole: Path) -> None:
    assert here(gcs) == curve((whole / "metrics.jsonl").read_text())
    for which in ("ema", "raw"):
        one, two = flatten(load_params(WORKDIR, which)[0]), flatten(load_params(whole, which)[0])
        assert one.keys() == two.keys()
        assert all((one[path] == two[path]).all() for path in two)


def test_a_stopped_run_goes_on_with_the_losses_and_weights_of_a_local_one(gcs, whole: Path):
    first = run(WORKDIR, steps=3)
    assert checkpoints(gcs) == {"2", "3"}
    second = run(WORKDIR)
    assert (first.step, second.step, str(second.workdir)) == (3, 6, WORKDIR)
    assert_same(gcs, whole)
    assert checkpoints(gcs) == {"4", "6"}
    for name in ("config.json", "parameters.txt"):
        assert gcs.objects["bucket", f"runs/first/{name}"].content == (whole / name).read_bytes()


def test_a_save_that_was_cut_off_is_no_checkpoint(gcs, whole: Path):
    run(WORKDIR, steps=4)
    for name in ("4/commit_success.txt", "4/params/commit_success.txt"):  # written last
        del gcs.objects["bucket", f"runs/first/checkpoints/{name}"]
    assert load_params(WORKDIR)[1]["step"] == 2
    run(WORKDIR)
    assert_same(gcs, whole)
    assert checkpoints(gcs, "checkpoints-broken") == set()


def test_a_checkpoint_that_lost_a_file_is_set_aside(gcs, whole: Path):
    run(WORKDIR, steps=4)
    del gcs.objects["bucket", "runs/first/checkpoints/4/info/metadata"]
    run(WORKDIR)
    assert_same(gcs, whole)
    assert checkpoints(gcs, "checkpoints-broken") == {"4"}


def test_another_configuration_is_refused(gcs):
    run(WORKDIR, steps=1)
    before = dict(gcs.objects)
    with pytest.raises(StoryjaxError, match=r"belongs to another configuration: train.seed: there 0, here 7"):
        run(WORKDIR, seed=7)
    assert gcs.objects == before


def test_a_bucket_that_does_not_exist_is_one_line(gcs):
    with pytest.raises(StoryjaxError, match="there is no bucket 'buckle'") as caught:
        run("gs://buckle/runs/first")
    assert "\n" not in str(caught.value)
    assert not gcs.objects


def test_a_storage_that_fails_under_way_is_one_line(gcs, monkeypatch):
    from tests.fake_gcs import FakeGCS, Refused

    put = FakeGCS.put

    def refuse(self, bucket, name, *rest):
        if name.endswith("metrics.jsonl"):
            raise Refused(403, "no storage.objects.create access")
        return put(self, bucket, name, *rest)

    monkeypatch.setattr(FakeGCS, "put", refuse)
    with pytest.raises(StoryjaxError, match="'gs://bucket/runs/first' cannot be read or written") as caught:
        run(WORKDIR)
    assert "no storage.objects.create access" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pictures_and_tensorboard_are_there(gcs, monkeypatch):
    class Writer:
        def __init__(self, folder: str):
            self.file = Path(folder) / "events"

        def write_scalars(self, step, values):
            with self.file.open("a") as file:
                file.write(f"{step} {values['loss']}\n")

        def write_images(self, step, images):
            with self.file.open("a") as file:
                file.write(f"{step} {[(name, image.shape) for name, image in images.items()]}\n")

        def flush(self):
            pass

        close = flush

    def events() -> str:
        return gcs.objects["bucket", "run/tensorboard/events"].content.decode()

    monkeypatch.setitem(sys.modules, "clu.metric_writers", types.SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setattr(Boards, "EVERY", 0.0)
    report = Report("gs://bucket/run", steps=4, start=0, progress=False)
    report.log(1, {"loss": 0.5})
    assert events() == "1 0.5\n"
    with report.folder_for_pictures(1) as folder:
        Image.new("RGB", (10, 4)).save(folder / "strip.png")
    report.close()
    assert not folder.exists()
    assert gcs.objects["bucket", "run/samples/step_00000001/strip.png"].content.startswith(b"\x89PNG")
    assert events() == "1 0.5\n1 [('samples/strip', (1, 4, 10, 3))]\n"
    last = gcs.objects["bucket", "run/metrics.jsonl"].content.decode().splitlines()[-1]
    assert json.loads(last) == {"step": 1, "samples": "samples/step_00000001"}
