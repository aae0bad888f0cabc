"""Pictures as networks of other libraries want them, resized as Pillow does: bicubic, antialiased, in whole numbers."""

from typing import Literal

import numpy as np
from PIL import Image

from storyjax.data.images import scaled_and_offset
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Box

Corner = Literal["rounded", "floor"]


def as_picture(picture: np.ndarray) -> Image.Image:
    """(H, W, 3) uint8 -> the picture. Error: any other array."""
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise StoryjaxError(f"expected pictures as uint8 (H, W, 3), got {picture.dtype} {picture.shape}")
    return Image.fromarray(picture)


def centre_crop(picture: np.ndarray, size: int, *, corner: Corner = "rounded") -> np.ndarray:
    """The short side scaled to `size`, then the middle: (H, W, 3) -> (size, size, 3) uint8.

    corner: where an odd number of pixels is cut off, OpenAI's CLIP (torchvision) rounds half of it to the even number,
    transformers' processor rounds it down.
    """
    opened = as_picture(picture)
    (height, width), (top, left) = scaled_and_offset((opened.height, opened.width), (size, size))
    if corner == "floor":
        top, left = (height - size) // 2, (width - size) // 2
    scaled = opened.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(scaled.crop((left, top, left + size, top + size)))


def stretched(picture: np.ndarray, size: int) -> np.ndarray:
    """Both sides scaled to `size`, whatever their ratio was: (H, W, 3) -> (size, size, 3) uint8."""
    return np.asarray(as_picture(picture).resize((size, size), Image.Resampling.BICUBIC))


def cut_out(picture: np.ndarray, box: Box) -> np.ndarray:
    """What is inside a box, its sides rounded to whole pixels, at least one pixel large."""
    as_picture(picture)
    height, width = picture.shape[:2]
    top, bottom = _pixels(box.top, box.bottom, height)
    left, right = _pixels(box.left, box.right, width)
    return picture[top:bottom, left:right]


def _pixels(start: float, end: float, length: int) -> tuple[int, int]:
    first = min(max(round(start * length), 0), length - 1)
    return first, min(max(round(end * length), first + 1), length)
