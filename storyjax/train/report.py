"""What a person sees of a training run: progress bar or lines, `metrics.jsonl`, TensorBoard where it is installed."""

import contextlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from clu import parameter_overview
from PIL import Image
from tqdm import tqdm

from storyjax.checkpoints.workdir import write_beside
from storyjax.train.task import Params

CURVE = "metrics.jsonl"


class Report:
    """Writes to the terminal (a bar; lines when it is no terminal), to `metrics.jsonl` and to TensorBoard."""

    def __init__(self, workdir: Path, steps: int, start: int, progress: bool):
        self.workdir, self.progress = workdir, progress
        self._steps, self._start = steps, start
        self._curve = workdir / CURVE
        self._bar = tqdm(
            total=steps, initial=start, unit="step", dynamic_ncols=True, disable=not (progress and sys.stderr.isatty())
        )
        self._boards = _tensorboard(workdir / "tensorboard")
        self._began = time.monotonic()
        self._cut(start)

    def overview(self, params: Params, title: str) -> None:
        """clu's table of the parameters, on the terminal (shortened) and whole in `parameters.txt`."""
        table = parameter_overview.get_parameter_overview(params, include_stats=False)
        write_beside(self.workdir / "parameters.txt", f"{title}\n{table}\n")
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
        with self._curve.open("a") as file:
            file.write(json.dumps({name: _finite(value) for name, value in row.items()}) + "\n")
        numbers = {name: value for name, value in row.items() if isinstance(value, (int, float)) and name != "step"}
        if self._boards and numbers:
            self._boards.write_scalars(step, numbers)
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
        folder = self.workdir / "samples" / f"step_{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        self.log(step, {"samples": str(folder.relative_to(self.workdir))})
        if self._boards:
            for path in sorted(folder.glob("*.png")):
                with Image.open(path) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                self._boards.write_images(step, {f"samples/{path.stem}": pixels[None]})

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
        write_beside(self._curve, "".join(line + "\n" for line in kept))


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


def _tensorboard(folder: Path) -> Any:
    """clu's writer, which needs TensorFlow (the `[tensorboard]` extra); None without it."""
    try:
        from clu.metric_writers import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60):02d} s"
