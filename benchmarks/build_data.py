"""`storyjax data build pororo_sv` on a fake tree of the real one's size: wall time, and memory of all its processes together.

    python -m benchmarks.build_data                    15,000 stories of 256 px; 10 GB of disk; wants 30 minutes and 2 GB at most
    python -m benchmarks.build_data --stories 1500     a tenth, which also says what 15,000 would take

The tree is written once and kept. Memory is the sum of the resident memory of the building process and of those that it starts,
looked at ten times a second; pages that they share count several times, so it is never too small. `--cold` drops the tree from the
page cache before.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import tyro
from rich.console import Console

from storyjax.story.manifest import versions_here
from tfds_builders.pororo_sv.dummy import write_tree
from tfds_builders.pororo_sv.layout import READY

WHOLE = 15_000
MOST_SECONDS, MOST_BYTES = 30 * 60, 2e9
SHARES = (10_191, 2_334, 2_208)  # of train, validation and test
DETAIL = 0.06  # noise with which a picture of 256 px takes about 80 KB, as PNG files of frames of the series do


@dataclasses.dataclass(frozen=True)
class Options:
    """What to build."""

    stories: int = WHOLE
    """Of all splits together."""
    size: int = 256
    """Side of a picture in pixels."""
    cores: int = 2
    """That the build may use."""
    cold: bool = False
    """Read the tree from the disk."""
    work: Path = Path("build/build_data")
    """Where the tree is kept and the data set is built, on the disk to be measured."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """seconds: wall time of the command. peak: bytes of memory. written: bytes of the data set."""

    seconds: float
    peak: int
    written: int


def main(options: Options) -> Measured:
    console = Console()
    tree = tree_of(options, console)
    files = list((tree / READY).rglob("*.png"))
    nbytes = sum(path.stat().st_size for path in files)
    console.print(
        f"{len(files):,} pictures of {nbytes / len(files) / 1e3:.0f} KB; {options.cores} cores; {versions_here()}"
    )
    if options.cold:
        drop_from_cache(files)
    done = build(tree, options)
    per = done.seconds / options.stories
    console.print(
        f"{options.stories:,} stories in {done.seconds:.1f} s ({1e3 * per:.1f} ms a story), {done.written / 1e9:.2f} GB written, "
        f"at most {done.peak / 1e6:.0f} MB of memory"
    )
    whole = per * WHOLE
    said = "took" if options.stories == WHOLE else "would take, at the same speed,"
    verdict = "within" if whole <= MOST_SECONDS and done.peak <= MOST_BYTES else "OVER"
    console.print(f"{WHOLE:,} stories {said} {whole / 60:.1f} minutes: {verdict} {MOST_SECONDS // 60} minutes and 2 GB")
    return done


def tree_of(options: Options, console: Console) -> Path:
    """The fake tree, written whole or not at all."""
    tree = options.work / f"tree_{options.stories}_{options.size}"
    if not tree.is_dir():
        console.print(f"writing {tree}")
        beside = tree.with_name(f"{tree.name}.part")
        shutil.rmtree(beside, ignore_errors=True)
        shares = [options.stories * share // sum(SHARES) for share in SHARES]
        shares[0] = options.stories - sum(shares[1:])
        write_tree(beside, shares, size=options.size, strips=False, detail=DETAIL)
        beside.rename(tree)
    return tree


def build(tree: Path, options: Options) -> Measured:
    """Run the command and watch it."""
    out = options.work / "built"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "storyjax.cli", "data", "build", "pororo_sv"]
    command += ["--manual-dir", str(tree), "--data-dir", str(out)]
    allowed = sorted(os.sched_getaffinity(0))[: options.cores]
    began, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, allowed))
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.1)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"the build ended with status {process.returncode}")
    written = sum(path.stat().st_size for path in out.rglob("*.array_record*"))
    shutil.rmtree(out)
    return Measured(seconds, peak, written)


def resident(pid: int) -> int:
    """Bytes of resident memory of a process and of all below it; those that end meanwhile do not count."""
    parents, pages = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            pages[int(folder.name)] = int((folder / "statm").read_text().split()[1])
        except (OSError, IndexError):  # it has ended
            continue
    family, size = {pid}, 0
    while len(family) > size:
        size = len(family)
        family |= {child for child, parent in parents.items() if parent in family}
    return sum(pages.get(member, 0) for member in family) * os.sysconf("SC_PAGE_SIZE")


def drop_from_cache(files: list[Path]) -> None:
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main(tyro.cli(Options))
