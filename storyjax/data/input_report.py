"""What `storyjax data bench` found: the rates, the step's need, which of them is slower, and what to change."""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import RenderableType

ENOUGH = 1.2  # times the step's need: with less, a busy moment of the machine makes the device wait


@dataclasses.dataclass(frozen=True)
class Rate:
    """What one way of reading gives.

    threads, workers: as of `make_batches`. frames_per_s: once warm. start_s: until the first batch, in seconds.
    """

    threads: int
    workers: int
    frames_per_s: float
    start_s: float

    @property
    def name(self) -> str:
        if self.workers:
            return _count(self.workers, "worker process", "worker processes")
        return _count(self.threads, "thread", "threads")


@dataclasses.dataclass(frozen=True)
class InputReport:
    """One measurement of the input of training, on one machine.

    size: (H, W) in pixels of a frame as trained on; stored_size: as it lies on the disk, None if nothing is decoded or sizes
    differ. step_ms: of `batch_size` stories; step_from: in words, who says so. ms: milliseconds of one frame on one core, by
    what is done. rates: in the order they were measured.
    """

    data: str
    split: str
    stories: int
    frames: int
    size: tuple[int, int]
    stored_size: tuple[int, int] | None
    fields: tuple[str, ...]
    batch_size: int
    cores: int
    step_ms: float
    step_from: str
    ms: dict[str, float]
    rates: tuple[Rate, ...]

    @property
    def need(self) -> float:
        """Frames a second that the step takes."""
        return self.batch_size * self.frames / self.step_ms * 1e3

    @property
    def best(self) -> Rate:
        return max(self.rates, key=lambda rate: rate.frames_per_s)

    @property
    def bottleneck(self) -> Literal["input", "step"]:
        return "input" if self.best.frames_per_s < self.need else "step"

    @property
    def verdict(self) -> str:
        """One sentence: which of the two is slower, and by how much."""
        share = self.best.frames_per_s / self.need
        if share >= ENOUGH:
            return f"The step is the bottleneck, not the input: with {self.best.name} it is {share:.1f} times as fast as needed."
        if share >= 1:
            return (
                f"The input just keeps up: with {self.best.name} it is {share:.2f} times as fast as needed; whatever else runs "
                "on this machine can make the device wait."
            )
        return f"The input is the bottleneck: at best, with {self.best.name}, the device waits {1 - share:.0%} of the time."

    @property
    def advice(self) -> list[str]:
        """What to change, the cheapest first; empty where the first way of reading is fast enough."""
        if self.rates[0].frames_per_s >= ENOUGH * self.need:
            return []
        best, lines = self.best, []
        if best is not self.rates[0]:
            lines.append(f"Read with data.threads={best.threads} and data.workers={best.workers}.")
        if best.frames_per_s >= ENOUGH * self.need:
            return lines
        per_frame = sum(self.ms.values())
        wanted = ENOUGH * self.need * per_frame / 1e3
        if wanted > self.cores:
            lines.append(
                f"Give it more cores: about {wanted:.0f} for {per_frame:.2f} ms a frame; this process may use {self.cores}."
            )
        if "images" in self.fields:
            lines.append(
                "If the codec stays as it is, train on a cache of its latents (build_cache, docs/data.md): no picture is decoded."
            )
        resizing = self.ms.get("resize and crop", 0.0)
        if self.stored_size and resizing > 0.2 * per_frame:
            (height, width), (to_height, to_width) = self.stored_size, self.size
            lines.append(
                f"Store the pictures at {to_width}x{to_height} instead of {width}x{height}: resizing takes {resizing:.2f} of "
                f"{per_frame:.2f} ms, and smaller pictures are decoded faster."
            )
        return lines

    def as_json(self) -> dict[str, Any]:
        """Everything above as JSON values."""
        found = {"need_frames_per_s": self.need, "bottleneck": self.bottleneck}
        return dataclasses.asdict(self) | found | {"verdict": self.verdict, "advice": self.advice}

    def table(self) -> "RenderableType":
        """For a rich console."""
        from rich.console import Group
        from rich.table import Table

        height, width = self.size
        what = f"{self.data}, {self.split}: {self.stories:,} stories of {self.frames} frames, {width}x{height}"
        head = f"{what}; batches of {self.batch_size}: {', '.join(self.fields)}"
        table = Table()
        for name in ("read with", "frames/s", "of the need", "first batch after"):
            table.add_column(name, justify="left" if name == "read with" else "right")
        for rate in self.rates:
            share = f"{rate.frames_per_s / self.need:.0%}"
            table.add_row(rate.name, f"{rate.frames_per_s:,.0f}", share, f"{rate.start_s:.1f} s")
        table.add_section()
        table.add_row("the step needs", f"{self.need:,.0f}", "", f"{self.step_ms:g} ms a step")
        spent = ", ".join(f"{what} {ms:.2f} ms" for what, ms in self.ms.items())
        lines = [
            f"The step: {self.step_from}.",
            f"A frame on one of {self.cores} cores: {spent}.",
            self.verdict,
            *self.advice,
        ]
        return Group(head, table, *lines)


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
