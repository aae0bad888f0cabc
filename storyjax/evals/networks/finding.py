"""Where boxes come from that a story does not bring: a file beside the pictures, or a detector with names to look for."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from storyjax.errors import StoryjaxError
from storyjax.evals.metric import StoryFrames
from storyjax.evals.networks.detector import OwlDetector
from storyjax.evals.networks.published import sha256_of
from storyjax.evals.sources.boxes import Boxes, read_boxes
from storyjax.weights.checkpoint import read_object

Names = Sequence[str] | Mapping[str, Sequence[str]]  # for every story, or by story id


class Finder(abc.ABC):
    """Gives a story's boxes; `about` says what they depend on."""

    about: dict[str, Any]

    @abc.abstractmethod
    def find(self, story: StoryFrames) -> Boxes:
        """A list of boxes for each frame."""


class BoxFile(Finder):
    """The file that `boxes.read_boxes` reads."""

    def __init__(self, path: str | Path):
        self._path, self._boxes = Path(path), read_boxes(path)
        self.about = {"file": self._path.name, "sha256": sha256_of(self._path)}

    def find(self, story: StoryFrames) -> Boxes:
        """Error: the file has nothing about the story."""
        if story.story_id not in self._boxes:
            raise StoryjaxError(
                f"'{self._path}' has no boxes for story '{story.story_id}'; an empty list a frame says there are none"
            )
        return self._boxes[story.story_id]


class Detected(Finder):
    """What a detector finds of `names`, which are looked for in every frame."""

    def __init__(self, detector: OwlDetector, names: Names):
        self._detector, self._names = detector, names
        self.about = detector.about | {"names": dict(names) if isinstance(names, Mapping) else list(names)}

    def find(self, story: StoryFrames) -> Boxes:
        """Error: names go by story, and there are none for this one."""
        names = self._names
        if isinstance(names, Mapping):
            if story.story_id not in names:
                raise StoryjaxError(f"no names to look for in story '{story.story_id}'; name its characters and things")
            names = names[story.story_id]
        wanted = list(dict.fromkeys(names))
        return self._detector.find(story.generated, [wanted] * len(story.generated))


def read_names(names: Names | str | Path) -> Names:
    """Names as they are, or of a JSON file {"<story id>": ["<name>", ...], ...}. Error: something else."""
    if not isinstance(names, str | Path):
        return names
    found = read_object(Path(names))
    for story, said in found.items():
        if not isinstance(said, list) or not all(isinstance(name, str) for name in said):
            raise StoryjaxError(f"'{names}': expected a list of names for story '{story}', got {said!r}")
    return found


def finder_of(
    boxes: str | Path | None, detector: str | Path | None, names: Names | str | Path | None, threshold: float
) -> Finder | None:
    """What the options of a metric ask for; None: the stories bring their boxes. Error: options that contradict each other."""
    if boxes is not None and detector is not None:
        raise StoryjaxError("give either a file of boxes or a detector, not both")
    if (detector is None) != (names is None):
        raise StoryjaxError("a detector needs names to look for, and names a detector; give both")
    if boxes is not None:
        return BoxFile(boxes)
    if detector is None or names is None:
        return None
    return Detected(OwlDetector.open(detector, threshold=threshold), read_names(names))
