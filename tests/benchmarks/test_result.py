"""What a run leaves: the file's name and content, the table, the notes."""

import io
import json

import pytest
from rich.console import Console

from benchmarks.measure import Row, Setting
from benchmarks.result import Result

SETTING = Setting(full=True, dtype="bfloat16", steps=20, warmup=5)
OURS = Row(
    "training step",
    "storyjax",
    {"dtype": "bfloat16", "batch": 6},
    0.078,
    0.077,
    0.08,
    20,
    6,
    "story",
    tflop=26.4,
    utilisation=0.342,
    communication={"all-reduce": {"count": 1, "payload": 2**21, "sent": 2**20}},
    notes=("a note",),
)
THEIRS = Row(
    "training step", "PyTorch eager", {"dtype": "bfloat16", "batch": 6}, 0.156, 0.15, 0.16, 20, 6, "story", 0.5
)


@pytest.fixture
def result() -> Result:
    return Result("story_train", "NVIDIA H200", 1, "2030-01-02", SETTING, {"jax": "0.0"}, [OURS, THEIRS])


def printed(result: Result) -> str:
    out = io.StringIO()
    Console(file=out, width=400).print(result.table())
    return out.getvalue()


def test_the_file_is_named_by_benchmark_device_and_date(result, tmp_path):
    path = result.write(tmp_path / "results")
    assert path.name == "story_train-nvidia-h200-2030-01-02.json"
    told = json.loads(path.read_text())
    assert (told["device"], told["versions"], told["setting"]["dtype"]) == ("NVIDIA H200", {"jax": "0.0"}, "bfloat16")
    assert told["rows"][1]["ratio"] == 0.5
    assert told["rows"][0]["communication"]["all-reduce"]["payload"] == 2**21


def test_the_table_says_time_ratio_count_and_share_of_the_peak(result):
    text = printed(result)
    for cell in ("78.00", "13.00 / story", "76.92", "0.50", "26.4", "34.2%", "all-reduce 2 MiB", "batch 6"):
        assert cell in text


def test_columns_that_nobody_fills_are_left_out(result):
    assert "peak GiB" not in printed(result)


def test_the_heading_says_on_what_and_how_often(result):
    assert result.heading == (
        "story_train: NVIDIA H200; jax 0.0; 2030-01-02; median of 20 executions after 5; compilation excluded"
    )


def test_few_executions_are_told(result):
    few = Result(**{**vars(result), "setting": Setting(full=True, dtype="float32", steps=5, warmup=1)})
    assert "few" in few.heading


def test_a_note_is_told_once(result):
    assert Result(**{**vars(result), "rows": [OURS, OURS]}).notes == ["a note"]


def test_a_run_knows_device_and_versions():
    here = Result.of("attention", Setting(full=False, dtype="float32", steps=1, warmup=0), [OURS])
    assert here.device.startswith("cpu")
    assert here.versions["jax"]
    assert "torch" not in here.versions
