"""A training and settings for each target, as tests need them; and programs that note what they were called with."""

import os
import stat
from pathlib import Path

from storyjax.launch.training import Training

CONFIG = "configs/contextual_story/cartoon.py"
IMAGE = "us-docker.pkg.dev/my-project/storyjax/tpu:1"
TRAINING = Training(CONFIG, "/shared/runs/first")

# What each target needs at least, for several hosts.
ON = {
    "tpu-vm": ("zone=us-west4-a", "project=my-project", f"image={IMAGE}", "nfs=10.0.0.2:/share"),
    "gke": (f"image={IMAGE}", "volume=shared"),
    "slurm": ("nodes=2", "checkout=/home/you/storyjax"),
}
XPK = (*ON["gke"], "via=xpk", "cluster=my-cluster", "zone=us-west4-a", "project=my-project")


def program(folder: Path, name: str, body: str) -> Path:
    """A shell script on the PATH of `on_path`; `$NOTES` is a file that words can be noted in, each ended by a zero byte."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def on_path(folder: Path, **more: str) -> dict[str, str]:
    """The environment in which the programs of `folder` come first."""
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "NOTES": str(folder / "notes"), **more}


def noted(folder: Path) -> list[str]:
    """The words that programs noted, in order."""
    notes = folder / "notes"
    return notes.read_bytes().decode().split("\0")[:-1] if notes.exists() else []
