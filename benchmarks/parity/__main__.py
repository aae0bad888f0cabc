"""The parity table: every network at its released size, PyTorch in one process, storyjax in another, weights through a file.

    python -m benchmarks.parity                                    tiny networks of every kind, a few minutes
    python -m benchmarks.parity --full --write docs/weights.md     the released sizes; hours, 24 GB of memory, 12 GB of disk
    python -m benchmarks.parity --full --component unet-sdxl       one of them

Each finished network leaves a JSON file and is not run again, so a run that was stopped goes on where it was (`--again` forgets).
Ends with status 1 if an error is above its bound. Needs the extra `[parity]`.
"""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import tyro

from benchmarks.parity.cases import BY_NAME, CASES, Case
from benchmarks.parity.table import DTYPES, Result, read, region, table, too_large, write_into
from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.story.files import write_whole


@dataclasses.dataclass(frozen=True)
class Options:
    """What to compare, and where the table goes."""

    full: bool = False
    """The released sizes instead of tiny networks."""
    component: tuple[str, ...] = ()
    """Names of networks (see `benchmarks/parity/cases.py`); all if none is given."""
    write: Path | None = None
    """A page whose marked region is replaced by the table; for released sizes only."""
    work: Path = Path("build/parity")
    """Where weights pass from one process to the other, and where results are kept."""
    again: bool = False
    """Run also what has a result already."""


def main(options: Options) -> int:
    if options.write and not options.full:
        raise StoryjaxError("a page states released sizes only: add --full, or leave --write out")
    if options.write:
        region(options.write)  # before hours of work
    for name in options.component:
        if name not in BY_NAME:
            raise StoryjaxError(f"no component '{name}'{nearest(name, sorted(BY_NAME))}")
    folder = options.work / ("full" if options.full else "tiny")
    chosen = [BY_NAME[name] for name in options.component] or CASES
    for case in chosen:
        result = None if options.again else read(folder, case)
        if result is None:
            print(f"{case.title}: running", flush=True)
            compare(case, folder, options.full)
            result = read(folder, case)
            assert result is not None
        errors = ", ".join(f"{dtype} {result.error(dtype):.1e}" for dtype in DTYPES)
        print(f"{case.title}: {result.parameters / 1e6:,.1f} M parameters, {errors}", flush=True)
    results = {case.name: result for case in CASES if (result := read(folder, case))}
    print("\n" + table(results))
    if options.write:
        write_into(options.write, table(results))
    wrong = [line for case in chosen for line in too_large(case, results[case.name])]
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


def compare(case: Case, folder: Path, full: bool) -> None:
    """Both sides, one after the other; the weights are deleted afterwards. A result is there only when all of it is."""
    passing, size = folder / f"{case.name}.passing", ["--full"] if full else []
    shutil.rmtree(passing, ignore_errors=True)
    try:
        _side("torch_side", case.name, str(passing), *size)
        for dtype in DTYPES:
            _side("jax_side", case.name, str(passing), dtype, *size)
        result = Result.collect(passing)
        write_whole(folder / f"{case.name}.json", result.as_json().encode())
    finally:
        shutil.rmtree(passing, ignore_errors=True)


def _side(module: str, *arguments: str) -> None:
    """One side in a process of its own, so that neither's memory counts for the other."""
    done = subprocess.run([sys.executable, "-m", f"benchmarks.parity.{module}", *arguments])
    if done.returncode:
        raise StoryjaxError(
            f"{module} {' '.join(arguments)} ended with status {done.returncode}; its own words are above"
        )


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Options, description=__doc__)))
    except StoryjaxError as error:
        sys.exit(f"error: {error}")
