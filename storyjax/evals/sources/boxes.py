"""Where characters and things are in generated frames, as a JSON file beside them:

    {"<story id>": [[{"name": "Pororo", "box": [0.1, 0.25, 0.9, 0.75]}, ...], ... one list a frame], ...}

A box is top, left, bottom, right in 0..1 of height and width; null says that it was looked for and is not there. That is
held as a `Box` without area.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from storyjax.checkpoints.paths import write_whole
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Box
from storyjax.weights.checkpoint import read_object

Boxes = Sequence[Sequence[Box]]  # of one story, a list a frame


def is_there(box: Box) -> bool:
    """Whether the box has an area: what was looked for was found."""
    return box.bottom > box.top and box.right > box.left


def not_found(name: str) -> Box:
    """Somebody who should be in a frame and is not."""
    return Box(name, 0.0, 0.0, 0.0, 0.0)


def read_boxes(path: str | Path) -> dict[str, list[list[Box]]]:
    """Story id -> a list of boxes a frame. Errors name the story and the frame that are not as described above."""
    path = Path(path)
    return {story: _story(frames, f"'{path}', story '{story}'") for story, frames in read_object(path).items()}


def write_boxes(path: str | Path, boxes: Mapping[str, Boxes]) -> None:
    """The file that `read_boxes` reads."""
    content = {
        story: [
            [{"name": b.name, "box": [b.top, b.left, b.bottom, b.right] if is_there(b) else None} for b in frame]
            for frame in frames
        ]
        for story, frames in boxes.items()
    }
    write_whole(Path(path), json.dumps(content, ensure_ascii=False) + "\n")


def _story(frames: Any, where: str) -> list[list[Box]]:
    if not isinstance(frames, list) or not all(isinstance(frame, list) for frame in frames):
        raise StoryjaxError(f"{where}: expected a list of frames, each a list of boxes")
    return [[_box(box, f"{where}, frame {n}") for box in frame] for n, frame in enumerate(frames)]


def _box(said: Any, where: str) -> Box:
    if not isinstance(said, dict) or set(said) != {"name", "box"} or not isinstance(said["name"], str):
        raise StoryjaxError(
            f"{where}: expected {{'name': text, 'box': [top, left, bottom, right] or null}}, got {said!r}"
        )
    sides = said["box"]
    if sides is None:
        return not_found(said["name"])
    numbers = isinstance(sides, list) and len(sides) == 4 and all(type(side) in (int, float) for side in sides)
    if not numbers or not (0 <= sides[0] < sides[2] <= 1 and 0 <= sides[1] < sides[3] <= 1):
        raise StoryjaxError(
            f"{where}: the box of '{said['name']}' is {sides!r}; expected [top, left, bottom, right] in 0..1 of height and width, "
            "top before bottom and left before right"
        )
    return Box(said["name"], *map(float, sides))
