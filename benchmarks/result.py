"""What a run leaves: a table on the terminal and a JSON file with device, versions, date and every condition."""

import dataclasses
import datetime
import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import jax
from rich.table import Table

from benchmarks.measure import Row, Setting
from storyjax.story.manifest import device_here, versions_here

TORCH_PACKAGES = ("torch", "diffusers", "transformers")


@dataclasses.dataclass(frozen=True)
class Result:
    """One run of one benchmark."""

    name: str
    device: str
    devices: int
    date: str  # YYYY-MM-DD, UTC
    setting: Setting
    versions: dict[str, str]
    rows: list[Row]

    @classmethod
    def of(cls, name: str, setting: Setting, rows: list[Row]) -> "Result":
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        versions = versions_here() | (_torch_versions() if setting.against else {})
        return cls(name, device_here(), len(jax.devices()), today, setting, versions, rows)

    @property
    def file_name(self) -> str:
        """`<name>-<device>-<date>.json`."""
        device = re.sub(r"[^a-z0-9]+", "-", self.device.lower()).strip("-")
        return f"{self.name}-{device}-{self.date}.json"

    def write(self, folder: Path) -> Path:
        """Into `folder`, replacing a result of the same day."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.file_name
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        return path

    @property
    def heading(self) -> str:
        """One line: what the numbers were measured on."""
        devices = f"{self.devices} x {self.device}" if self.devices > 1 else self.device
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        few = "" if self.setting.steps >= 20 else " (few: take the ratios, not the digits)"
        runs = f"median of {self.setting.steps} executions after {self.setting.warmup}{few}"
        return f"{self.name}: {devices}; {versions}; {self.date}; {runs}; compilation excluded"

    def table(self) -> Table:
        """The rows; columns that nobody has something for are left out."""
        columns = {
            "work": [row.work for row in self.rows],
            "conditions": [", ".join(f"{name} {value}" for name, value in row.conditions.items()) for row in self.rows],
            "side": [row.side for row in self.rows],
            "ms": [f"{1e3 * row.seconds:.2f}" for row in self.rows],
            "ms an item": [f"{1e3 * row.per_item:.2f} / {row.unit}" if row.items != 1 else "" for row in self.rows],
            "items/s": [f"{1 / row.per_item:.2f}" if row.unit != "run" else "" for row in self.rows],
            "ratio": [_shown(row.ratio, ".2f") for row in self.rows],
            "TFLOP": [_shown(row.tflop, ".4g") for row in self.rows],
            "of peak": [_shown(row.utilisation, ".1%") for row in self.rows],
            "peak GiB": [_shown(row.peak_bytes and row.peak_bytes / 2**30, ".2f") for row in self.rows],
            "communication": [_talk(row) for row in self.rows],
        }
        kept = {name: cells for name, cells in columns.items() if any(cells)}
        table = Table(*kept)
        for cells in zip(*kept.values()):
            table.add_row(*cells)
        return table

    @property
    def notes(self) -> list[str]:
        """Each note once."""
        return list(dict.fromkeys(note for row in self.rows for note in row.notes))


def _shown(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _talk(row: Row) -> str:
    spoken = row.communication or {}
    return "; ".join(f"{kind} {told['payload'] / 2**20:.4g} MiB" for kind, told in spoken.items())


def _torch_versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in TORCH_PACKAGES}
