"""What a person sees: bar, lines, learning curve, TensorBoard."""

import io
import json
import sys
import types
from pathlib import Path

import numpy as np
from PIL import Image

from storyjax.train.report import Report


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_loss_speed_and_time_left(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    report = Report(tmp_path, steps=40, start=10, progress=True)
    report.step(20, 0.12345, 7.5)
    report.log(20, {"loss": 0.1, "examples_per_second": 7.5})
    report.close()
    shown = sys.stderr.getvalue()
    for part in ("loss=0.1235", "stories/s=7.50", "20/40", "50%"):
        assert part in shown
    assert "step 20/40" not in shown, "a line would break the bar"


def test_a_log_file_gets_one_line_per_log(tmp_path: Path, capsys):
    report = Report(tmp_path, steps=40, start=10, progress=True)
    report.step(20, 0.5, 7.5)
    report.log(20, {"loss": 0.1, "examples_per_second": 7.5})
    report.log(20, {"eval/accuracy": 0.5})
    report.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("step 20/40  loss 0.1000  7.50 stories/s")
    assert lines[0].endswith("left")


def test_silence_on_request(tmp_path: Path, capsys):
    report = Report(tmp_path, steps=40, start=0, progress=False)
    report.overview({"a": np.zeros(3, np.float32)}, "3 parameters")
    report.step(1, 0.5, None)
    report.log(1, {"loss": 0.5})
    report.close()
    assert capsys.readouterr() == ("", "")
    assert "3 parameters" in (tmp_path / "parameters.txt").read_text()


def test_values_that_json_does_not_know_become_null(tmp_path: Path):
    report = Report(tmp_path, steps=4, start=0, progress=False)
    report.log(1, {"loss": 0.5, "empty/mean": float("nan"), "big": float("inf")})
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row == {"step": 1, "loss": 0.5, "empty/mean": None, "big": None}


def test_a_long_parameter_table_is_shortened_on_the_terminal_only(tmp_path: Path, capsys):
    report = Report(tmp_path, steps=4, start=0, progress=True)
    report.overview({f"layer_{n:02d}": np.zeros(2, np.float32) for n in range(40)}, "title")
    shown, whole = capsys.readouterr().err, (tmp_path / "parameters.txt").read_text()
    assert "layer_30" in whole
    assert "layer_30" not in shown
    assert "Total: 80" in shown


def test_tensorboard_gets_scalars_and_pictures_where_it_is_installed(tmp_path: Path, monkeypatch):
    calls: list[tuple] = []

    class Writer:
        def __init__(self, folder):
            calls.append(("folder", Path(folder)))

        def write_scalars(self, step, values):
            calls.append(("scalars", step, values))

        def write_images(self, step, images):
            calls.append(("images", step, {name: image.shape for name, image in images.items()}))

        def close(self):
            calls.append(("close",))

    monkeypatch.setitem(sys.modules, "clu.metric_writers", types.SimpleNamespace(SummaryWriter=Writer))
    report = Report(tmp_path, steps=4, start=0, progress=False)
    report.log(3, {"loss": 0.5})
    with report.folder_for_pictures(3) as folder:
        Image.new("RGB", (10, 4)).save(folder / "strip.png")
    assert folder == tmp_path / "samples" / "step_00000003"
    report.close()
    assert ("folder", tmp_path / "tensorboard") in calls
    assert ("scalars", 3, {"loss": 0.5}) in calls
    assert ("images", 3, {"samples/strip": (1, 4, 10, 3)}) in calls
    assert calls[-1] == ("close",)
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["samples"] == "samples/step_00000003"
