"""What was read in which story, kept on disk line by line, so that a long evaluation can be stopped at any moment.

`stories.jsonl`: the first line says which evaluation this is, every further line holds one story by label names:
{"story": 3, "id": "...", "generated": {"characters": [["Poppy"], ...], "place": ["beach", ...], ...}, "real": {...}}.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from storyjax.checkpoints.paths import write_whole
from storyjax.checkpoints.workdir import differences
from storyjax.data.labels import Labels
from storyjax.errors import StoryjaxError
from storyjax.evals.networks.recogniser import KINDS, Reading

LINES = "stories.jsonl"


def names_of(reading: Reading, frames: slice, labels: Labels) -> dict[str, list[Any]]:
    """A part of a reading with names instead of numbers: kind -> one entry per frame (a list of names for characters)."""
    present = [[labels.characters[k] for k in np.flatnonzero(row)] for row in reading.characters[frames]]
    return {"characters": present} | {
        kind: [getattr(labels, kind)[number] for number in getattr(reading, kind)[frames]]
        for kind in KINDS
        if kind != "characters"
    }


def labels_of(names: Mapping[str, list[Any]], labels: Labels) -> dict[str, np.ndarray]:
    """The way back: `characters` (F, K) bool, the others (F,) int32."""
    characters = [[name in present for name in labels.characters] for present in names["characters"]]
    return {"characters": np.array(characters, bool)} | {
        kind: np.array([getattr(labels, kind).index(name) for name in names[kind]], np.int32)
        for kind in KINDS
        if kind != "characters"
    }


class StoryLog:
    """Stories read so far, in memory and, with a folder, in its `stories.jsonl`."""

    def __init__(self, folder: str | Path | None, about: dict[str, Any]):
        """Errors: the folder holds another evaluation (naming what differs), or lines that cannot be read."""
        self.about, self._stories = about, dict[int, dict[str, Any]]()
        self._folder = None if folder is None else Path(folder)
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = self._folder / LINES
        if self._file.is_file():
            self._load()
        # A line that a killed run left half-written is gone after this.
        lines = [{"about": about}, *({"story": i} | story for i, story in self._stories.items())]
        write_whole(self._file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def has(self, stories: range) -> bool:
        return all(story in self._stories for story in stories)

    def __getitem__(self, story: int) -> dict[str, Any]:
        return self._stories[story]

    def add(self, stories: Mapping[int, dict[str, Any]]) -> None:
        """Keep these stories; when this returns they are on the disk."""
        self._stories |= stories
        if self._folder is None:
            return
        with self._file.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"story": i} | s, ensure_ascii=False) + "\n" for i, s in stories.items())
            file.flush()
            os.fsync(file.fileno())

    def _load(self) -> None:
        whole = self._file.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last newline was cut off
        try:
            lines = [json.loads(line) for line in whole]
            if not lines:
                return
            there = lines[0]["about"]
            stories = {line.pop("story"): line for line in lines[1:]}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoryjaxError(
                f"'{self._file}' is no log of an evaluation ({error}); move it away or choose another folder"
            ) from None
        changed = [line for _, line in differences(there, json.loads(json.dumps(self.about)))]
        if changed:
            raise StoryjaxError(
                f"'{self._folder}' holds another evaluation: {'; '.join(changed)}. Choose another folder, or remove it"
            )
        self._stories = stories
