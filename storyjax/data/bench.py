"""Is the input fast enough? Frames a second of the stream that training reads, beside what the training step takes."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from storyjax.data.batch import BatchSpec
from storyjax.data.cache import CachedSource, made_from
from storyjax.data.input_report import InputReport, Rate
from storyjax.data.pipeline import make_batches
from storyjax.data.records import open_source
from storyjax.data.source import StorySource
from storyjax.errors import StoryjaxError
from tfds_builders.reading import cores

STORY_MS = (
    13.0  # a story's share of a training step of ContextualStory on one H200, latents cached: what storyjax aims at
)
LOOKED_AT = 32  # stories that are read one by one to see where the time goes


def bench(
    name: str | Path,
    *,
    split: str = "train",
    data_dir: str | Path | None = None,
    size: int | tuple[int, int] | None = None,
    frames: int | None = None,
    batch_size: int = 16,
    threads: Sequence[int] = (4,),
    workers: Sequence[int] | None = None,
    step_ms: float | None = None,
    caches: Sequence[str | Path] = (),
    seconds: float = 3.0,
    out: str | Path | None = None,
    progress: bool = True,
) -> InputReport:
    """Measure the stream of batches (B, F, ...) that `make_batches` gives from `name`, as training reads it.

    Opening a data set reads all of it, so what is measured is reading from memory, decoding, resizing and batching; a disk
    that is slower is not seen. A script that measures workers needs the `if __name__ == "__main__"` guard.

    Args:
        name, split, data_dir, size, frames: as of `open_source`.
        batch_size: stories that this process reads for one step.
        threads: of this process; each number is measured.
        workers: processes with one thread each; each number is measured, 0 measures none. None: one for each core.
        step_ms: milliseconds of a training step of `batch_size` stories; None: `STORY_MS` for each story.
        caches: folders made by `build_cache`, for training on latents or on states of the text.
        seconds: how long each way of reading is measured, once it is warm.
        out: also write the report as JSON here.
    """
    _check(batch_size, threads, workers, step_ms, seconds)
    source = open_source(name, split, data_dir, size, frames)
    for folder in caches:
        source = CachedSource(source, folder, made_from(folder))
    spec = _spec(source)
    ways = [(n, 0) for n in threads] + [(1, n) for n in ([cores()] if workers is None else workers) if n]
    with _bar(len(ways) + 1, progress) as begin:
        begin("one frame on one core")
        ms = {"read": _read_ms(source, spec)}
        stored_size = None
        if "images" in spec.fields:
            ms, stored_size = _apart(ms["read"], source, lambda: open_source(name, split, data_dir, None, frames))
        rates = []
        for count, processes in ways:
            begin(f"{processes} workers" if processes else f"{count} threads")
            rates.append(_rate(source, spec, batch_size, count, processes, seconds))
    report = InputReport(
        data=source.name,
        split=split,
        stories=len(source),
        frames=source.frames,
        size=source.size,
        stored_size=stored_size,
        fields=spec.fields,
        batch_size=batch_size,
        cores=cores(),
        step_ms=step_ms or STORY_MS * batch_size,
        step_from="as given"
        if step_ms
        else f"what storyjax aims at for ContextualStory on one H200, {STORY_MS:g} ms a story",
        ms=ms,
        rates=tuple(rates),
    )
    if out:
        Path(out).write_text(json.dumps(report.as_json(), indent=1) + "\n")
    return report


def _check(
    batch_size: int, threads: Sequence[int], workers: Sequence[int] | None, step_ms: float | None, seconds: float
) -> None:
    if batch_size < 1 or seconds <= 0 or (step_ms is not None and step_ms <= 0):
        given = f"{batch_size}, {seconds:g} and {'none' if step_ms is None else f'{step_ms:g}'}"
        raise StoryjaxError(f"batch_size, seconds and step_ms must be positive, got {given}")
    if not threads or min([*threads, *(workers or ())]) < 0:
        given = f"{[*threads]} and {[*workers] if workers else workers}"
        raise StoryjaxError(f"expected numbers of threads and of workers that are 0 or more, got {given}")


def _spec(source: StorySource) -> BatchSpec:
    """What a model trained on this source reads; tokens are left out, they are ready before the first step."""
    pictures = "latents" if "latents_mean" in source.fields else "images"
    return BatchSpec(pictures=pictures, text="states" if "text" in source.fields else None)


def _rate(source: StorySource, spec: BatchSpec, batch_size: int, threads: int, workers: int, seconds: float) -> Rate:
    begun = time.perf_counter()
    with make_batches(source, spec, batch_size, seed=0, threads=threads, workers=workers) as batches:
        next(batches)
        first = time.perf_counter()
        ahead = 2 * (workers + 1)  # batches that lie ready: they were not made in the time measured
        while ahead or time.perf_counter() < first + min(1.0, seconds / 2):
            next(batches)
            ahead = max(0, ahead - 1)
        start, seen, passed = time.perf_counter(), 0, 0.0
        while passed < seconds:
            next(batches)
            seen += batch_size * source.frames
            passed = time.perf_counter() - start
    return Rate(threads, workers, seen / passed, first - begun)


def _apart(
    whole: float, source: StorySource, reopen: Callable[[], StorySource]
) -> tuple[dict[str, float], tuple[int, int] | None]:
    """`whole` (ms a frame) apart into decoding and resizing, and the (H, W) of the pictures as they are stored."""
    try:
        stored = reopen()
        decode = _read_ms(stored, BatchSpec(text=None))
    except StoryjaxError:  # pictures of several sizes: they cannot be stacked as they are
        return {"read, decode, resize and crop": whole}, None
    if stored.size == source.size:
        return {"read and decode": whole}, stored.size
    return {"read and decode": min(decode, whole), "resize and crop": max(0.0, whole - decode)}, stored.size


def _read_ms(source: StorySource, spec: BatchSpec) -> float:
    """Milliseconds of a frame, read alone: the least of a few passes, for others on the machine only make it slower."""
    stories = range(min(LOOKED_AT, len(source)))
    passes = []
    for _ in range(3):
        start = time.perf_counter()
        for index in stories:
            source.arrays(index, spec.fields)
        passes.append(time.perf_counter() - start)
    return min(passes) / (len(stories) * source.frames) * 1e3


@contextlib.contextmanager
def _bar(total: int, progress: bool) -> Iterator[Callable[[str], None]]:
    """A bar on stderr of the ways that are done; what it yields names the next."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not progress) as bar:
        task = bar.add_task("", total=total, completed=-1)
        yield lambda what: bar.update(task, advance=1, description=f"measuring {what}")
