"""What every host runs: the environment, the command, and the status that is handed on."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from storyjax.launch.plan import FOLDER
from tests.launch.examples import on_path, program

# What an environment would bring that is set where the tests run.
OWN = {
    "JAX_PLATFORMS": "",
    "JAX_COMPILATION_CACHE_DIR": "",
    "XLA_FLAGS": "",
    "LIBTPU_INIT_ARGS": "",
    "STORYJAX_SHARED": "",
}
SHOW = "printf '%s\\n' \"$@\"; env; pwd"


@pytest.fixture
def checkout(tmp_path):
    """launch/ as in a checkout without an environment of its own."""
    shutil.copytree(FOLDER, tmp_path / "checkout" / "launch")
    (tmp_path / "bin").mkdir()
    return tmp_path


def run(checkout, *words, **more):
    done = subprocess.run(
        ["bash", str(checkout / "checkout" / "launch" / "host.sh"), *words],
        env=on_path(checkout / "bin", **OWN | more),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def variables(text):
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


@pytest.mark.parametrize(
    ("accelerator", "expected"),
    [
        ("tpu", {"JAX_PLATFORMS": "tpu,cpu"}),
        ("gpu", {"JAX_PLATFORMS": "cuda,cpu", "NCCL_DEBUG": "WARN", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}),
    ],
)
def test_the_command_gets_its_words_and_the_environment(checkout, accelerator, expected):
    program(checkout / "bin", "storyjax", SHOW)
    status, said, _ = run(checkout, accelerator, "train", "a b", STORYJAX_SHARED="/shared")
    assert status == 0
    assert said.splitlines()[:2] == ["train", "a b"]
    assert said.splitlines()[-1] == str(checkout / "checkout")
    assert expected.items() <= variables(said).items()
    assert variables(said)["JAX_COMPILATION_CACHE_DIR"] == "/shared/.cache/compiled"


def test_flags_reach_the_compiler_they_are_for_and_those_of_the_caller_come_last(checkout):
    program(checkout / "bin", "storyjax", SHOW)
    given = {"LIBTPU_INIT_ARGS": "--xla_tpu_mine=1", "XLA_FLAGS": "--xla_mine=1"}
    tpu = variables(run(checkout, "tpu", "train", **given)[1])
    gpu = variables(run(checkout, "gpu", "train", **given)[1])
    assert re.fullmatch(r"--xla_tpu_\S+=true .* --xla_tpu_mine=1", tpu["LIBTPU_INIT_ARGS"])
    assert tpu["XLA_FLAGS"] == "--xla_mine=1"
    assert re.fullmatch(r"--xla_gpu_\S+=true --xla_mine=1", gpu["XLA_FLAGS"])
    assert gpu["LIBTPU_INIT_ARGS"] == "--xla_tpu_mine=1"


def test_what_is_set_already_stays(checkout):
    program(checkout / "bin", "storyjax", SHOW)
    given = {"JAX_PLATFORMS": "cpu", "NCCL_DEBUG": "INFO", "JAX_COMPILATION_CACHE_DIR": "/elsewhere"}
    assert given.items() <= variables(run(checkout, "gpu", "train", STORYJAX_SHARED="/shared", **given)[1]).items()


@pytest.mark.parametrize("words", [(), ("gpu",), ("npu", "train")])
def test_a_call_that_makes_no_sense_is_refused(checkout, words):
    program(checkout / "bin", "storyjax", SHOW)
    status, said, wrong = run(checkout, *words)
    assert (status, said) == (2, "")
    assert "tpu" in wrong
    assert "gpu" in wrong


@pytest.mark.parametrize("status", [0, 7])
@pytest.mark.parametrize("stopped_status", ["", "143"])
def test_the_status_of_the_training_is_handed_on(checkout, status, stopped_status):
    program(checkout / "bin", "storyjax", f"exit {status}")
    assert run(checkout, "gpu", "train", STORYJAX_STOPPED_STATUS=stopped_status)[0] == status


@pytest.mark.parametrize(("stopped_status", "status"), [("", 0), ("143", 143)])
def test_a_training_that_was_told_to_stop_is_told_once_and_counts_as_unfinished_where_asked(
    checkout, stopped_status, status
):
    # As the training does: save when the signal comes, end with status 0.
    program(
        checkout / "bin",
        "storyjax",
        "trap 'echo told; sleep 0.5; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.1; done",
    )
    host = subprocess.Popen(
        ["bash", str(checkout / "checkout" / "launch" / "host.sh"), "gpu", "train"],
        env=on_path(checkout / "bin", **OWN, STORYJAX_STOPPED_STATUS=stopped_status),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert host.stdout is not None
    assert host.stdout.readline() == "ready\n"
    time.sleep(0.2)
    host.send_signal(signal.SIGTERM)
    assert host.stdout.read().splitlines() == ["told", "saved"]
    assert host.wait(60) == status


def test_every_flag_says_why():
    lines = (FOLDER / "environment.sh").read_text().splitlines()
    flags = [number for number, line in enumerate(lines) if re.match(r"\s+--|\s*export (?!LIBTPU|XLA_FLAGS)", line)]
    assert len(flags) > 10
    for number in flags:
        reason = lines[number - 1].strip()
        assert reason.startswith("# ") or "if [ -n" in reason, f"{lines[number].strip()} has no reason above it"


def test_jax_starts_with_the_flags_for_gpus():
    """An unknown flag ends the process. Those for TPUs are libtpu's business and cannot be tried without it."""
    script = f'accelerator=gpu; source "{FOLDER}/environment.sh"; {{}} JAX_PLATFORMS=cpu exec "$0" -c "import jax; jax.devices()"'
    environment = {**os.environ, **OWN}

    def starts(change):
        words = ["bash", "-c", script.format(change), sys.executable]
        return subprocess.run(words, env=environment, capture_output=True, check=False).returncode == 0

    assert starts("")
    assert not starts('XLA_FLAGS="$XLA_FLAGS --xla_gpu_no_such_flag=true"')
