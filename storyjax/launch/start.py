"""`storyjax launch TARGET`: from what was asked to a plan, and its start."""

from collections.abc import Sequence
from typing import Any

from storyjax.config import nearest, override
from storyjax.errors import StoryjaxError
from storyjax.launch import shell
from storyjax.launch.gke import Gke
from storyjax.launch.plan import Plan
from storyjax.launch.slurm import Slurm
from storyjax.launch.target import Target
from storyjax.launch.tpu_vm import TpuVm
from storyjax.launch.training import Training

TARGETS: dict[str, Any] = {"tpu-vm": TpuVm, "gke": Gke, "slurm": Slurm}


def plan(name: str, training: Training, on: Sequence[str] = ()) -> Plan:
    """What is to be run on the target of that name, with the fields `on`, such as ["nodes=4", "partition=gpu"].

    Errors: no such target, no such field, a value it cannot have, something that is missing; before anything is started.
    """
    if name not in TARGETS:
        raise StoryjaxError(f"there is no launch target '{name}'{nearest(name, list(TARGETS))}")
    try:
        target: Target = override(TARGETS[name](), on)
    except StoryjaxError as error:
        raise StoryjaxError(f"--on of {name}: {error}") from None
    return target.plan(training, _command(name, training, on))


def launch(name: str, training: Training, on: Sequence[str] = (), *, dry_run: bool = False) -> None:
    """Start the training there, or (`dry_run`) print a shell script that would. Error: the command that starts it failed."""
    chosen = plan(name, training, on)
    if dry_run:
        print(chosen.script(), end="")
        return
    status = chosen.run()
    if status:
        raise StoryjaxError(f"'{chosen.words[0]}' ended with status {status}; see what it said above")


def _command(name: str, training: Training, on: Sequence[str]) -> str:
    """What the user typed, on one line."""
    words = ["storyjax", "launch", name, training.config, "--workdir", training.workdir]
    words += ["--mesh", training.mesh] if training.mesh != Training.mesh else []
    words += ["--set", *training.changes] if training.changes else []
    return shell.join([*words, *(["--on", *on] if on else [])])
