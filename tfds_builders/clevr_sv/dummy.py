"""A small tree with the names and contents of the released files; its stories are drawn.

python -m tfds_builders.clevr_sv.dummy FOLDER
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tfds_builders.clevr_sv.released import IMAGES, NUMBERS_FILE, draw_story, mask_name, picture_name
from tfds_builders.clevr_sv.scene import FRAMES, attributes

STORIES = (0, 9_999, 10_000, 13_000, 13_001)  # both ends of both splits, and one that is in neither


def write_tree(
    folder: str | Path, stories: Sequence[int] = STORIES, size: tuple[int, int] | None = (18, 24), seed: int = 0
) -> Path:
    """size: (H, W) of pictures and masks; None is the release's 240 x 320."""
    folder, numbers = Path(folder), {}
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    for index in stories:
        scene, pictures, masks = draw_story(seed, index)
        rows = attributes(scene.things)
        for frame in range(1, FRAMES + 1):
            numbers[picture_name(index, frame)] = rows[frame - 1]
            (folder / IMAGES / picture_name(index, frame)).write_bytes(
                _small(pictures[frame - 1], size, Image.Resampling.BOX)
            )
            (folder / IMAGES / mask_name(index, frame)).write_bytes(
                _small(masks[frame - 1], size, Image.Resampling.NEAREST)
            )
    np.save(folder / NUMBERS_FILE, np.array(numbers, dtype=object), allow_pickle=True)
    return folder


def _small(content: bytes, size: tuple[int, int] | None, method: Image.Resampling) -> bytes:
    if size is None:
        return content
    out = io.BytesIO()
    Image.open(io.BytesIO(content)).resize(size[::-1], method).save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    write_tree(sys.argv[1])
