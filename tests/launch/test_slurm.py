"""The job script: sbatch would take it, and JAX finds what it reads in Slurm's environment."""

import pytest

from storyjax.launch.start import plan
from storyjax.launch.training import Training
from tests.launch.examples import CONFIG, ON, TRAINING
from tests.launch.sbatch import complaints, options

ALL = (*ON["slurm"], "partition=gpu,long", "account=team-7", "qos=high", "constraint=a100|h100", "time=2-12:00:00")
CONTAINER = (*ON["slurm"], "image=registry.example.com/storyjax:1", "shared=/shared")


def script(*on, training=TRAINING):
    return plan("slurm", training, on).file


@pytest.mark.parametrize("on", [(), ON["slurm"], ALL, CONTAINER], ids=["one node", "two nodes", "all", "container"])
def test_sbatch_would_take_the_script(on):
    assert complaints(script(*on)) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("--nodes=2", "--node=2", "unrecognized option '--node'"),
        ("--nodes=2", "--nodes=0", "invalid argument '0' of --nodes"),
        ("--signal=TERM@300", "--signal=STOP-IT", "invalid argument 'STOP-IT' of --signal"),
        ("--requeue", "--requeue=yes", "'--requeue' doesn't allow an argument"),
        ("set -euo pipefail", "set -euo pipefail\n#SBATCH --mem=0", "after the first command"),
        ("#!/bin/bash", "", "first line must start with #!"),
    ],
)
def test_the_check_sees_what_sbatch_refuses(old, new, said):
    assert any(said in complaint for complaint in complaints(script(*ON["slurm"]).replace(old, new)))


def test_every_field_reaches_its_option():
    found = options(script(*ALL, "gpus_per_node=4", "cpus_per_task=6", "name=first"))
    assert {
        "job-name": "first",
        "nodes": "2",
        "ntasks-per-node": "4",
        "gpus-per-node": "4",
        "cpus-per-task": "6",
        "time": "2-12:00:00",
        "partition": "gpu,long",
        "account": "team-7",
        "qos": "high",
        "constraint": "a100|h100",
        "chdir": "/home/you/storyjax",
    }.items() <= found.items()


def test_there_is_one_process_for_each_gpu():
    """JAX shows a process of Slurm the one GPU that has its local number, so fewer processes would leave GPUs idle."""
    found = options(script(*ON["slurm"], "gpus_per_node=4"))
    assert found["ntasks-per-node"] == found["gpus-per-node"] == "4"


def test_jobs_of_a_name_wait_for_each_other_and_are_told_before_the_time_is_over():
    found = options(script())
    assert found["dependency"] == "singleton"
    assert found["signal"] == "TERM@300"
    assert {"requeue", "open-mode"} <= set(found)


def test_processes_look_for_each_other_only_where_there_are_several():
    assert "--distributed auto" in script("nodes=1", "gpus_per_node=2")
    assert "--distributed" not in script("nodes=1", "gpus_per_node=1", training=Training(CONFIG, "/home/you/first"))


def test_a_container_sees_the_shared_folder():
    text = script(*CONTAINER)
    assert "--container-image=registry.example.com/storyjax:1 --container-mounts=/shared:/shared" in text
    assert "export STORYJAX_SHARED=/shared" in text
    assert "--container" not in script(*ON["slurm"])
