"""The verbs of `storyjax data`: `build`, `bench`, `check`."""

import sys
from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def build(
    name: Positional[str],
    /,
    *,
    manual_dir: Path | None = None,
    data_dir: Path | None = None,
    config: str | None = None,
    processes: int | None = None,
    skip_broken: bool = False,
    overwrite: bool = False,
    runner: Literal["direct", "dataflow", "flink"] | None = None,
    beam_option: tuple[str, ...] = (),
) -> None:
    """Build a dataset: `storyjax data build cartoon_stories`.

    Args:
        name: A folder of tfds_builders/.
        manual_dir: The folder of your copy, for published data sets.
        data_dir: Where built datasets lie.
        config: A named configuration of the dataset, such as its size.
        processes: Processes that draw or read; default: one for each core.
        skip_broken: Leave out stories that cannot be built, and list them at the end.
        overwrite: Build again what is built already.
        runner: Build on Apache Beam (an environment of its own: `make beam`), on this machine or on a cluster.
        beam_option: Options for Beam, such as `--beam-option flink_master=host:8081 parallelism=64`.
    """
    from storyjax.data.build import build

    folder = build(
        name,
        data_dir=data_dir,
        config=config,
        processes=processes,
        overwrite=overwrite,
        manual_dir=manual_dir,
        skip_broken=skip_broken,
        runner=runner,
        beam_options=beam_option,
    )
    print(folder)


def bench(
    name: Positional[str],
    /,
    *,
    split: str = "train",
    data_dir: Path | None = None,
    size: int | None = None,
    frames: int | None = None,
    batch_size: int = 16,
    threads: tuple[int, ...] = (4,),
    workers: tuple[int, ...] | None = None,
    step_ms: float | None = None,
    cache: tuple[Path, ...] = (),
    seconds: float = 3.0,
    out: Path | None = None,
) -> None:
    """Say whether reading keeps up with training: frames a second of the input, and what a step needs.

    Args:
        name: A built dataset, or a folder of your own stories.
        split: Which stories.
        data_dir: Where built datasets lie.
        size: Pixels on a side as trained on; default: as the pictures are.
        frames: Use the first frames of every story; default: all.
        batch_size: Stories that one process reads for a step.
        threads: Threads that read; each number is measured.
        workers: Processes that read; each number is measured, 0 leaves them out; default: one for each core.
        step_ms: What a training step takes; default: 13 ms a story.
        cache: Folders with cached latents or states of the text, as training keeps them.
        seconds: How long each way of reading is measured.
        out: Also write what was found as JSON here.
    """
    from rich import print as show

    from storyjax.data.bench import bench

    report = bench(
        name,
        split=split,
        data_dir=data_dir,
        size=size,
        frames=frames,
        batch_size=batch_size,
        threads=threads,
        workers=workers,
        step_ms=step_ms,
        caches=cache,
        seconds=seconds,
        out=out,
    )
    show(report.table())


def check(
    folder: Positional[Path], /, *, name: str | None = None, config: str | None = None, pictures: bool = False
) -> None:
    """Say what is missing or broken in your copy of a published dataset; exit status 1 if anything is.

    Args:
        folder: The copy.
        name: Which dataset it is; default: recognised by the names of its files.
        config: Which configuration of its builder; default: the first.
        pictures: Decode every picture, too (minutes).
    """
    from storyjax.data.check import check

    report = check(folder, name, config, pictures=pictures)
    print(report.text())
    if not report.whole:
        sys.exit(1)
