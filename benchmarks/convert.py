"""`storyjax convert` against copying: a folder with the released ContextualStory UNet's tensors, copied and converted in turns.

    python -m benchmarks.convert              once 5.7 GB of random numbers in build/convert, then three turns; 12 GB of disk
    python -m benchmarks.convert --small      a toy, which only shows that it runs

A copy is `cp -r` and fsync of every file, since a conversion too has its files on the disk before it calls itself done. Before
each the source is dropped from the page cache, so both read it from the disk. A conversion is a process of its own, whose
start counts.
"""

import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from storyjax.checkpoints.beside import check_room, written_beside
from storyjax.story.manifest import versions_here
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.weights.component import component
from storyjax.weights.stream import Planned, write_safetensors
from tests.weights.folders import STORY_UNET, diffusers_folder, original_shapes, values, write_json

# Memory from /proc: what getrusage calls the largest began as the parent's.
MEASURED = """
import json, sys, time
import jax
import numpy as np
import storyjax
from storyjax.weights.layouts import recognise

def resident(which):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(which)) * 1024

jax.devices()
before, began = resident("VmRSS"), time.perf_counter()
"""
SAID = 'print(json.dumps({"inside": time.perf_counter() - began, "memory": resident("VmHWM") - before}))'
CONVERTER = f"{MEASURED}storyjax.convert(sys.argv[1], sys.argv[2], progress=False)\n{SAID}"
# The parameters of every network of the folder, as `storyjax.load` puts them into their places.
LOADER = f"{MEASURED}jax.block_until_ready(recognise(sys.argv[1]).load(dtype=np.float32))\n{SAID}"


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    turns: int = 3
    """Copies and conversions, one after the other."""
    warm: bool = False
    """Leave the source in the page cache."""
    small: bool = False
    """A toy instead of the released size."""
    work: Path = Path("build/convert")
    """Where the source is kept and the results are written, on the disk to be measured."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """Seconds of one copy and one conversion. inside: without the start of its process. memory: bytes above those it began with."""

    copy: float
    convert: float
    inside: float
    memory: int


def main(options: Options) -> list[Turn]:
    console = Console()
    source = options.work / ("small" if options.small else "source")
    if not source.is_dir():
        console.print(f"making {source}")
        make_source(source, STORY_UNET if options.small else released_config())
    nbytes = sum(file.stat().st_size for file in files_of(source))
    check_room(source, nbytes)
    versions = ", ".join(f"{name} {version}" for name, version in versions_here().items())
    cache = "in the page cache" if options.warm else "read from the disk"
    console.print(f"{nbytes / 1e9:.2f} GB {cache}; {os.cpu_count()} cores; {versions}")
    turns = [turn(source, options.work, options.warm) for _ in range(options.turns)]
    table = Table("turn", "cp and sync s", "convert s", "without its start s", "ratio", "peak memory above start MB")
    for number, each in enumerate(turns, 1):
        seconds = [f"{value:.1f}" for value in (each.copy, each.convert, each.inside)]
        table.add_row(str(number), *seconds, f"{each.convert / each.copy:.2f}", f"{each.memory / 1e6:.0f}")
    console.print(table)
    ratio = statistics.median(each.convert for each in turns) / statistics.median(each.copy for each in turns)
    console.print(f"converting takes {ratio:.2f} times as long as copying (medians)")
    _settle(source, options.warm)
    loaded = _measured(LOADER, source)
    console.print(
        f"loading: {loaded['inside']:.1f} s, at most {loaded['memory'] / nbytes:.2f} times the files in memory"
    )
    return turns


def released_config() -> dict[str, Any]:
    """The config.json of the released visualization models."""
    return component("contextual_story").write_config(ContextualStoryConfig.visualization())


def make_source(folder: Path, config: dict[str, Any]) -> None:
    """A diffusers folder of ContextualStory, whole or not at all: that UNet in float32, everything else of toy size."""
    with written_beside(folder, what="source") as beside:
        diffusers_folder(beside, "contextual_story")
        write_json(beside / "unet" / "config.json", config)
        entries = [Planned(name, np.dtype(np.float32), shape) for name, shape in original_shapes(config).items()]
        write_safetensors(
            beside / "unet" / "diffusion_pytorch_model.safetensors",
            entries,
            lambda entry: values(entry.name, entry.shape),
            metadata={"format": "pt"},
        )


def turn(source: Path, work: Path, warm: bool) -> Turn:
    """One copy, then one conversion; both are deleted again."""
    copied, converted = work / "copied", work / "converted"
    _settle(source, warm, copied, converted)
    began = time.perf_counter()
    subprocess.run(["cp", "-r", source, copied], check=True)
    for file in files_of(copied):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    copy = time.perf_counter() - began
    _settle(source, warm, copied, converted)
    began = time.perf_counter()
    found = _measured(CONVERTER, source, converted)
    convert = time.perf_counter() - began
    _settle(source, warm, copied, converted)
    return Turn(copy, convert, **found)


def _measured(program: str, *arguments: Path) -> dict[str, Any]:
    """What a program of its own says: seconds without its start, bytes above those it began with."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"}, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def _settle(source: Path, warm: bool, *results: Path) -> None:
    """Results deleted, nothing left to write, and the source in the page cache or not."""
    for result in results:
        shutil.rmtree(result, ignore_errors=True)
    os.sync()
    for file in files_of(source):
        with file.open("rb") as stream:
            if warm:
                while stream.read(1 << 24):
                    pass
            else:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def files_of(folder: Path) -> Iterator[Path]:
    """Every file in it, at any depth."""
    return (file for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
