"""Speed and memory, every comparison made side by side in one run on the device that JAX finds.

    python -m benchmarks.run                        what there is
    python -m benchmarks.run story_train            one of them, released sizes; result in benchmarks/results/
    python -m benchmarks.run story_train --size tiny --against none     in seconds, to see that it runs

See docs/benchmarks.md for how to read the numbers.
"""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Literal

import jax
import tyro
from rich.console import Console

from benchmarks.measure import Setting
from benchmarks.result import Result
from benchmarks.suite import BENCHMARKS
from benchmarks.torch_sides import check_torch
from storyjax.config import nearest
from storyjax.errors import StoryjaxError

RESULTS = Path(__file__).parent / "results"
DEVICES_OF_A_CPU = 8  # for the benchmarks of several devices, where there are no others


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure, and how often."""

    name: tyro.conf.Positional[str] = ""
    """A benchmark; without one they are listed."""
    size: Literal["full", "tiny"] = "full"
    """The released sizes, or toys whose numbers mean nothing and are not kept."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the arithmetic on all sides; default: float32 on a CPU, bfloat16 elsewhere."""
    against: Literal["all", "eager", "compile", "none"] = "all"
    """PyTorch's sides; each but none needs the extra [parity]."""
    batch: int | None = None
    """Stories or pictures in a batch (of each device), instead of the benchmark's own."""
    steps: int | None = None
    """Measured executions of each side; default: 20, on a CPU 5."""
    warmup: int | None = None
    """Executions before these; default: 5, on a CPU 1."""
    results: Path | None = None
    """Folder for the result; default: benchmarks/results for released sizes, nowhere for toys."""


def main(options: Options) -> None:
    if options.name in (
        "scaling",
        "communication",
    ):  # before JAX looks for devices; without effect where there are better ones
        jax.config.update("jax_num_cpu_devices", DEVICES_OF_A_CPU)
    if options.against != "none":  # two frameworks share the memory of one device
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    console = Console()
    if not options.name:
        for name, run in BENCHMARKS.items():
            console.print(f"{name:14} {run.__doc__}")
        return
    if options.name not in BENCHMARKS:
        raise StoryjaxError(f"no benchmark '{options.name}'{nearest(options.name, list(BENCHMARKS))}")
    setting = setting_of(options)
    check_torch(setting)
    result = Result.of(options.name, setting, BENCHMARKS[options.name](setting))
    console.print(result.heading)
    console.print(result.table())
    for note in result.notes:
        console.print(f"- {note}")
    folder = options.results or (RESULTS if setting.full else None)
    if folder:
        console.print(f"written to {result.write(folder)}")


def setting_of(options: Options) -> Setting:
    """The options with what depends on the device filled in."""
    if options.warmup == 0 and options.size == "full":
        raise StoryjaxError("expected a warm-up of at least 1: the first execution compiles")
    cpu = jax.default_backend() == "cpu"
    kinds = {"all": ("eager", "compile"), "none": ()}
    return Setting(
        full=options.size == "full",
        dtype=options.dtype or ("float32" if cpu else "bfloat16"),
        steps=options.steps or (5 if cpu else 20),
        warmup=(1 if cpu else 5) if options.warmup is None else options.warmup,
        against=kinds.get(options.against, (options.against,)),
        batch=options.batch,
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except StoryjaxError as error:
        sys.exit(f"error: {error}")
