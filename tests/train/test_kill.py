"""SIGKILL at any moment costs nothing but time."""

import json
import subprocess
import sys
from pathlib import Path

from storyjax.checkpoints.manager import load_params
from storyjax.nn.build import flatten

ROOT = Path(__file__).parents[2]


def losses(workdir: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert len({row["step"] for row in rows}) == len(rows), "a step stands twice in the learning curve"
    return {row["step"]: row["loss"] for row in rows}


def test_run_killed_twelve_times_equals_a_run_never_killed(tmp_path: Path):
    command = [sys.executable, "-m", "tests.train.kill_driver", str(tmp_path / "killed"), "13", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    moments = json.loads(done.stdout.splitlines()[-1])
    assert len(moments) - moments.count("end") >= 12
    assert moments.count("save") >= 3
    killed, whole = losses(tmp_path / "killed"), losses(tmp_path / "never_killed")
    assert sorted(whole) == list(range(1, 61))
    assert killed == whole
    ends = [load_params(tmp_path / name) for name in ("killed", "never_killed")]
    assert ends[0][1]["data"] == ends[1][1]["data"]
    for path, leaf in flatten(ends[1][0]).items():
        assert (flatten(ends[0][0])[path] == leaf).all(), path
