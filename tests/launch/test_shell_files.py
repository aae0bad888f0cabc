"""Every shell file of launch/, plain or rendered, parses and has nothing that shellcheck minds."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from storyjax.launch.plan import FOLDER
from storyjax.launch.start import plan
from storyjax.launch.training import Training
from tests.launch.examples import CONFIG, ON, XPK

AWKWARD = Training(CONFIG, "/shared/it's $HOME", ("a=b c", "d='e'", "f=\n"))
CONTAINER = (*ON["slurm"], "image=registry.example.com/storyjax:1", "shared=/shared")
PLAIN = {path.name: path for path in (*FOLDER.glob("*.sh"), *FOLDER.glob("*/*.sh"), *FOLDER.glob("*/*.sbatch"))}
RENDERED = {
    "tpu-vm": lambda: plan("tpu-vm", AWKWARD, ON["tpu-vm"]).file,
    "tpu-vm alone": lambda: (
        plan("tpu-vm", AWKWARD, (*ON["tpu-vm"], "accelerator=v6e-1", "spot=true", "network=n")).file
    ),
    "slurm": lambda: plan("slurm", AWKWARD, ON["slurm"]).file,
    "slurm container": lambda: plan("slurm", Training(CONFIG, "/shared/a b"), CONTAINER).file,
    "xpk": lambda: "#!/bin/bash\n" + plan("gke", AWKWARD, XPK).script(),
}


def on_workers(script):
    """What a TPU VM's script runs on the workers, which shellcheck sees as a mere here-document."""
    return "#!/bin/bash\n" + script.split("<< 'END_OF_WORKER' || true\n")[1].split("END_OF_WORKER\n")[0]


def texts():
    for name, path in PLAIN.items():
        yield pytest.param(path.read_text, id=name)
    for name, make in RENDERED.items():
        yield pytest.param(make, id=f"rendered {name}")
    yield pytest.param(lambda: on_workers(RENDERED["tpu-vm"]()), id="on the workers")


def checked(words, text):
    return subprocess.run(words, input=text, text=True, capture_output=True, check=False, cwd=FOLDER)


def test_there_are_files_to_look_at():
    assert {"host.sh", "environment.sh", "example.sh", "example.sbatch"} <= set(PLAIN)


@pytest.mark.parametrize("text", list(texts()))
def test_bash_can_read_it(text):
    done = checked(["bash", "-n"], text())
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_sees_what_is_broken():
    assert checked(["bash", "-n"], RENDERED["slurm"]() + "\nif true").returncode != 0


@pytest.mark.parametrize("text", list(texts()))
def test_shellcheck_minds_nothing(text):
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not shellcheck:
        pytest.skip("shellcheck is not installed; it comes with the dev extra")
    # SC2016: a $ in single quotes is meant as it is.
    done = checked([shellcheck, "--external-sources", f"--source-path={FOLDER}", "--exclude=SC2016", "-"], text())
    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize("text", list(texts()))
def test_a_failure_ends_the_script(text):
    """A command that fails, also the first of a pipe, and a variable that does not exist."""
    script = text()
    if "shellcheck shell=bash" not in script and "xpk workload" not in script:  # sourced, or a single command
        assert re.search(r"^set -euo pipefail$", script, re.MULTILINE)
