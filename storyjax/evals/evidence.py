"""What metrics saw in which story, kept on disk block by block, so that a long evaluation can be stopped at any moment.

A folder belongs to one metric on one data set; `about.json` says which. Each file holds some stories, appears whole or not at all,
and is never changed: processes write theirs beside each other, and whoever reads the folder finds the evidence of all of them.
Evidence belongs to pictures: it is found again by the story's number and a digest of its pictures, so a picture that was replaced
is measured anew.
"""

import contextlib
import hashlib
import json
import os
import uuid
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Evidence

ABOUT = "about.json"
REAL = "real"  # how names of evidence of real frames alone begin
ALONE = ""  # the digest of what depends on the data alone


class EvidenceFolder:
    """The evidence of one metric. Without a folder it is kept in memory."""

    def __init__(self, root: str | Path | None, name: str, about: Mapping[str, Any]):
        """root: where folders of many metrics lie; this one's is named by `name` and a hash of `about`."""
        self._known: dict[tuple[int, str], Evidence] = {}
        self._read: set[str] = set()
        self.folder: Path | None = None
        if root is None:
            return
        text = json.dumps(about, sort_keys=True, indent=1, ensure_ascii=False, default=str)
        self.folder = Path(root) / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        with disk_errors_told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / ABOUT).is_file():
                _write_once(self.folder / ABOUT, text + "\n")
        self.refresh()

    @classmethod
    def at(cls, folder: Path) -> "EvidenceFolder":
        """What an earlier evaluation left in a folder."""
        found = cls(None, "", {})
        found.folder = folder
        found.refresh()
        return found

    def refresh(self) -> None:
        """Take in the files that are new, of this process or another."""
        if self.folder is None:
            return
        for path in sorted(self.folder.glob("*.npz")):
            if path.name not in self._read:
                self._read.add(path.name)
                self._known |= _stories_of(path)

    def get(self, story: int, digest: str) -> Evidence | None:
        """The evidence of a story with these pictures; None: not measured."""
        return self._known.get((story, digest))

    def add(self, stories: Mapping[int, tuple[str, Evidence]]) -> None:
        """Keep the evidence of stories, number -> (digest, evidence); when this returns it is on the disk."""
        self._known |= {(story, digest): evidence for story, (digest, evidence) in stories.items()}
        if self.folder is None or not stories:
            return
        numbers = sorted(stories)
        arrays: dict[str, np.ndarray] = {
            "stories": np.array(numbers, np.int64),
            "digests": np.array([stories[n][0] for n in numbers], np.str_),
        }
        for number in numbers:
            arrays |= {f"{number}/{name}": np.asarray(value) for name, value in stories[number][1].items()}
        # The digests are part of the name: other pictures of the same stories are another file.
        told = hashlib.sha256("".join(arrays["digests"]).encode()).hexdigest()[:8]
        path = self.folder / f"{numbers[0]:05d}-{numbers[-1]:05d}-{told}.npz"
        beside = _beside(path)
        with disk_errors_told(self.folder):
            with beside.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        self._read.add(path.name)


def _beside(path: Path) -> Path:
    """Where a file is written before it appears: a name of its own in every process."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


def _write_once(path: Path, text: str) -> None:
    beside = _beside(path)
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _stories_of(path: Path) -> dict[tuple[int, str], Evidence]:
    """Everything in one file; nothing, with a warning, where it cannot be read: it is measured anew then."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found: dict[int, dict[str, np.ndarray]] = {int(n): {} for n in arrays["stories"]}
            for key in arrays.files:
                story, slash, name = key.partition("/")
                if slash:
                    found[int(story)][name] = arrays[key]
            return {(n, str(digest)): found[int(n)] for n, digest in zip(arrays["stories"].tolist(), arrays["digests"])}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        warnings.warn(f"'{path}' is damaged ({error}); what it held is measured again", stacklevel=2)
        return {}


def joined(generated: Evidence | None, real: Evidence | None) -> Evidence:
    """The evidence of a story from its two halves, either of which may be missing."""
    return {**(generated or {}), **(real or {})}


def filled(evidence: Sequence[Evidence]) -> list[Evidence]:
    """The same, with empty arrays where a story lacks what others have: one that is in one of the two sets only."""
    shapes = {name: value for each in evidence for name, value in each.items()}
    empty = {name: np.zeros((0, *value.shape[1:]), value.dtype) for name, value in shapes.items()}
    return [each if len(each) == len(empty) else {**empty, **each} for each in evidence]


def real_half(evidence: Evidence) -> Evidence:
    """What of a story's evidence depends on its real frames alone."""
    return {name: value for name, value in evidence.items() if name.startswith(REAL)}


def other_half(evidence: Evidence) -> Evidence:
    """The rest."""
    return {name: value for name, value in evidence.items() if not name.startswith(REAL)}


@contextlib.contextmanager
def disk_errors_told(folder: Path) -> Iterator[None]:
    """Within it, what a disk refuses becomes one sentence."""
    try:
        yield
    except OSError as error:
        raise StoryjaxError(
            f"'{folder}' cannot be written ({error.strerror or error}); what is complete there is kept: make room and run the same "
            "again"
        ) from error
