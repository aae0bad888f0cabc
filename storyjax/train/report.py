"""What a person sees of a training run: progress bar or lines, `metrics.jsonl`, TensorBoard where it is installed."""

import contextlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from clu import parameter_overview
from PIL import Image
from tqdm import tqdm

from storyjax.checkpoints.paths import AnyPath, PathLike, append_line, at, is_local, write_whole
from storyjax.train.task import Params

CURVE = "metrics.jsonl"


class Report:
    """Writes to the terminal (a bar; lines when it is no terminal), to `metrics.jsonl` and to TensorBoard."""

    def __init__(self, workdir: PathLike, steps: int, start: int, progress: bool):
        self.workdir, self.progress = at(workdir), progress
        self._steps, self._start = steps, start
        self._curve = self.workdir / CURVE
        self._bar = tqdm(
            total=steps, initial=start, unit="step", dynamic_ncols=True, disable=not (progress and sys.stderr.isatty())
        )
        self._boards = Boards.of(self.workdir / "tensorboard")
        self._began = time.monotonic()
        self._cut(start)

    def overview(self, params: Params, title: str) -> None:
        """clu's table of the parameters, on the terminal (shortened) and whole in `parameters.txt`."""
        table = parameter_overview.get_parameter_overview(params, include_stats=False)
        write_whole(self.workdir / "parameters.txt", f"{title}\n{table}\n")
        lines = table.splitlines()
        short = (
            lines if len(lines) < 24 else [*lines[:10], f"... (all in {self.workdir / 'parameters.txt'})", *lines[-3:]]
        )
        self.say("\n".join([title, *short]))

    def say(self, text: str) -> None:
        """One message beside the bar."""
        if self.progress:
            tqdm.write(text, file=sys.stderr)

    def step(self, step: int, loss: float | None, speed: float | None) -> None:
        """Move the bar."""
        shown = {"loss": f"{loss:.4f}"} if loss is not None else {}
        shown |= {"stories/s": f"{speed:.2f}"} if speed is not None else {}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(step - self._bar.n)

    def log(self, step: int, row: dict[str, Any]) -> None:
        """One line of the learning curve."""
        row = {"step": step} | row
        append_line(self._curve, json.dumps({name: _finite(value) for name, value in row.items()}))
        numbers = {name: value for name, value in row.items() if isinstance(value, (int, float)) and name != "step"}
        if self._boards and numbers:
            self._boards.scalars(step, numbers)
        if self._bar.disable and "loss" in row:
            spent = time.monotonic() - self._began
            left = spent / max(step - self._start, 1) * (self._steps - step)
            speed = row.get("examples_per_second", math.nan)
            self.say(
                f"step {step}/{self._steps}  loss {row['loss']:.4f}  {speed:.2f} stories/s  {_duration(left)} left"
            )

    @contextlib.contextmanager
    def folder_for_pictures(self, step: int) -> Iterator[Path]:
        """A folder for sample strips; afterwards it is named in the log, and the pictures are in TensorBoard."""
        name = f"samples/step_{step:08d}"
        with _drawn_into(self.workdir / name) as folder:
            yield folder
            self.log(step, {"samples": name})
            if self._boards:
                self._boards.pictures(step, folder)

    def close(self) -> None:
        """End the bar and flush TensorBoard."""
        self._bar.close()
        if self._boards:
            self._boards.close()

    def _cut(self, step: int) -> None:
        """Drop lines after the step that is resumed from, and a line cut off by a kill: they will be written again."""
        if not self._curve.is_file():
            return
        kept = []
        for line in self._curve.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (json.JSONDecodeError, KeyError, TypeError):
                continue
        write_whole(self._curve, "".join(line + "\n" for line in kept))


class Silence:
    """What every process but one has instead: nothing is shown and nothing is kept."""

    def __getattr__(self, name: str) -> Any:
        if name not in ("overview", "say", "step", "log", "close"):
            raise AttributeError(name)
        return lambda *_: None

    @contextlib.contextmanager
    def folder_for_pictures(self, step: int) -> Iterator[Path]:
        """A folder that goes away again: all processes draw, one of them keeps."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


@contextlib.contextmanager
def _drawn_into(folder: AnyPath) -> Iterator[Path]:
    """A folder here for pictures: `folder` itself, or one whose files are copied there when the block ends."""
    if is_local(folder):
        folder.mkdir(parents=True, exist_ok=True)
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory() as here:
        yield Path(here)
        _copy_files(Path(here), folder)


def _copy_files(here: Path, folder: AnyPath) -> None:
    for path in sorted(path for path in here.rglob("*") if path.is_file()):
        (folder / path.relative_to(here).as_posix()).write_bytes(path.read_bytes())


class Boards:
    """TensorBoard's files. Those for a bucket are written on this machine and copied now and then: they only grow."""

    EVERY = 60.0  # seconds between two copies

    def __init__(self, writer: Any, folder: AnyPath, here: tempfile.TemporaryDirectory | None):
        self._writer, self._folder, self._here, self._copied = writer, folder, here, time.monotonic()

    @classmethod
    def of(cls, folder: AnyPath) -> "Boards | None":
        """By clu's writer, which needs TensorFlow (the `[tensorboard]` extra); None without it."""
        try:
            from clu.metric_writers import SummaryWriter
        except ImportError:
            return None
        here = None if is_local(folder) else tempfile.TemporaryDirectory()
        return cls(SummaryWriter(here.name if here else str(folder)), folder, here)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step."""
        self._writer.write_scalars(step, values)
        if self._here and time.monotonic() - self._copied > self.EVERY:
            self._writer.flush()
            self._copy()

    def pictures(self, step: int, folder: Path) -> None:
        """The PNG files of a folder."""
        for path in sorted(folder.glob("*.png")):
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self._writer.write_images(step, {f"samples/{path.stem}": pixels[None]})

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
        if self._here:
            self._copy()
            self._here.cleanup()

    def _copy(self) -> None:
        if self._here:
            _copy_files(Path(self._here.name), self._folder)
            self._copied = time.monotonic()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60):02d} s"
