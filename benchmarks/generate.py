"""Wall time and peak memory of `storyjax generate` as a person runs it: a whole process, first with a cold compile cache,
then warm. Prints what the machine is and one row per run.

    python -m benchmarks.generate --model cartoon --runs 3
"""

import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from storyjax.story.manifest import device_here, versions_here

PARTS = """
import sys, time
start = time.perf_counter()
import storyjax
pipeline = storyjax.load(sys.argv[1])
sentences = [s.strip() for s in sys.argv[2].split("|")]
loaded = time.perf_counter()
pipeline(sentences)
first = time.perf_counter()
pipeline(sentences)
print(loaded - start, first - loaded, time.perf_counter() - first)
"""
STORY = "examples/the_red_kite.yaml"


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    model: str = "cartoon"
    story: str = STORY
    runs: int = 3  # warm runs


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall seconds of a process, and the largest resident memory in GiB of any child so far."""
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return time.perf_counter() - start, peak


def main(options: Options) -> None:
    console = Console()
    console.print(f"{device_here()}; {', '.join(f'{k} {v}' for k, v in versions_here().items())}")
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
        }
        command = [sys.executable, "-m", "storyjax.cli", "generate", options.story, "--model", options.model]
        command += ["--out", f"{folder}/story", "--overwrite"]
        table = Table("run", "wall s", "peak GiB")
        for run in ["cold cache", *(f"warm {i + 1}" for i in range(options.runs))]:
            seconds, peak = timed(command, environment)
            table.add_row(run, f"{seconds:.1f}", f"{peak:.2f}")
        console.print(table)
        sentences = "|".join(_sentences(Path(options.story)))
        parts = subprocess.run(
            [sys.executable, "-c", PARTS, options.model, sentences],
            check=True,
            env=environment,
            capture_output=True,
            text=True,
        )
        load, first, second = map(float, parts.stdout.split())
        console.print(
            f"warm, inside one process: import and load {load:.1f} s, first call {first:.1f} s, second call {second:.1f} s "
            f"(the first call's surplus is tracing and reading the compiled program: {first - second:.1f} s)"
        )


def _sentences(path: Path) -> tuple[str, ...]:
    from storyjax.story.story_file import load_story

    return load_story(path).sentences


if __name__ == "__main__":
    main(tyro.cli(Options))
