"""Several real processes on this machine: one training, whichever way it is cut and wherever it goes on."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.parallel.distributed import Peers
from tests.parallel.devices import ROOT, environment

PATIENCE = 300  # seconds; a busy machine starts processes slowly


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def started(peers: str, mesh: str, workdir: Path, steps: int, devices: int, pause: float = 0) -> subprocess.Popen:
    arguments = [peers, mesh, str(workdir), str(steps), str(pause)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.parallel.train_in_processes", *arguments],
        env=environment(devices),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def together(count: int, mesh: str, workdir: Path, steps: int, devices: int, pause: float = 0) -> list:
    address = f"127.0.0.1:{free_port()}"
    return [started(f"{address},{count},{index}", mesh, workdir, steps, devices, pause) for index in range(count)]


def finished(processes: list) -> list[dict]:
    told = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), told[0][1][-3000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in told]


def losses(workdir: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """Four steps in one process on one device."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    finished([started("", "data=1", workdir, 4, devices=1)])
    return workdir


def test_four_processes_save_what_one_and_two_go_on_from(alone: Path, tmp_path: Path):
    workdir = tmp_path / "run"
    results = finished(together(4, "data=2,fsdp=2", workdir, 2, devices=1))
    assert [result["rows"] for result in results] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert finished([started("", "data=1", workdir, 3, devices=1)])[0]["step"] == 3
    assert [result["step"] for result in finished(together(2, "fsdp=2", workdir, 4, devices=1))] == [4, 4]
    np.testing.assert_allclose(losses(workdir), losses(alone), rtol=2e-5)


def test_processes_that_share_stories_read_the_same_ones(alone: Path, tmp_path: Path):
    results = finished(together(2, "tensor=2,data=1", tmp_path / "run", 4, devices=1))
    assert [result["rows"] for result in results] == [list(range(8))] * 2
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(alone), rtol=2e-5)


def wait_for_step(workdir: Path, step: int) -> None:
    curve, deadline = workdir / "metrics.jsonl", time.monotonic() + PATIENCE
    while not curve.is_file() or len(curve.read_text().splitlines()) < step:
        assert time.monotonic() < deadline, f"no step {step} within {PATIENCE} s"
        time.sleep(0.1)


def test_a_killed_process_ends_the_others_with_a_sentence_and_the_run_goes_on(alone: Path, tmp_path: Path):
    workdir = tmp_path / "run"
    survivor, victim = together(2, "fsdp=2", workdir, 400, devices=1, pause=0.2)
    wait_for_step(workdir, 4)
    victim.send_signal(signal.SIGKILL)
    began = time.monotonic()
    _, said = survivor.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert survivor.returncode not in (0, None)
    # Whichever comes first: the sentence of the loop, or the runtime ending the process.
    assert "another process of this training has ended" in said or "another task died" in said
    victim.communicate()
    reached = max(int(folder.name) for folder in (workdir / "checkpoints").iterdir() if folder.name.isdigit())
    until = max(reached + 1, 4)
    results = finished(together(2, "fsdp=2", workdir, until, devices=1))
    assert [result["step"] for result in results] == [until] * 2
    np.testing.assert_allclose(losses(workdir)[:4], losses(alone), rtol=2e-5)


def test_sigterm_to_one_process_saves_and_stops_all_at_the_same_step(tmp_path: Path):
    processes = together(2, "fsdp=2", tmp_path / "run", 4000, devices=1, pause=0.1)
    wait_for_step(tmp_path / "run", 3)
    os.kill(processes[1].pid, signal.SIGTERM)
    first, second = finished(processes)
    assert first["stopped_by"] == second["stopped_by"] == "SIGTERM"
    assert first["step"] == second["step"] < 4000
    assert (tmp_path / "run" / "checkpoints" / str(first["step"])).is_dir()


@pytest.mark.slow
def test_samples_are_drawn_and_read_by_all_processes_together():
    def drawn(peers: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "tests.parallel.draw_in_processes", peers, "fsdp=-1"]
        return subprocess.Popen(
            command, env=environment(1), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    address = f"127.0.0.1:{free_port()}"
    (alone,) = finished([drawn("")])
    for shared in finished([drawn(f"{address},2,{index}") for index in range(2)]):
        np.testing.assert_allclose(shared.pop("frames"), alone["frames"], atol=0.05)  # of 255
        np.testing.assert_allclose(shared.pop("redrawn"), alone["redrawn"], atol=0.05)
        assert shared == {name: alone[name] for name in ("action", "place")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1,4,0", "does not name processes; expected auto, or HOST:PORT"),
        ("10.0.0.1:80,four,0", "does not name processes"),
        ("10.0.0.1:80,4,4", "process 4 of 4 does not exist; the last is 3"),
    ],
)
def test_a_text_that_names_no_processes_says_what_is_expected(text: str, words: str):
    with pytest.raises(StoryjaxError, match=words):
        Peers.parse(text)


def test_nothing_to_detect_is_an_error_that_says_how_to_name_the_processes():
    clusters = ("SLURM", "OMPI", "JAX_COORDINATOR", "TPU_", "KUBERNETES")
    alone = {name: value for name, value in environment(1).items() if not name.startswith(clusters)}
    code = "from storyjax.parallel.distributed import start\nstart('auto', answer=1)"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=alone, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert ran.returncode != 0
    assert re.search(r"StoryjaxError: nothing here says which processes train together.*HOST:PORT", ran.stderr)


@pytest.mark.parametrize(("index", "missing"), [(0, "the other 1 processes"), (1, "'{address}'")])
def test_an_address_where_nobody_answers_is_named(index: int, missing: str):
    address = f"127.0.0.1:{free_port()}"
    code = f"from storyjax.parallel.distributed import start\nstart('{address},2,{index}', answer=3)"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment(1), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert ran.returncode == 2
    assert f"no answer from {missing.format(address=address)} within 3 s" in ran.stderr
    assert f"is process 0 running at '{address}'" in ran.stderr
