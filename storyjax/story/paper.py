"""What all pictures of a story share: the colours of paper and ink, soft shadows, rounded corners, enlarging."""

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from storyjax.errors import StoryjaxError

PAPER = "#f6efe2"
CARD = "#fffdf8"
INK = "#3a2e25"
SOFT_INK = "#94836f"
ACCENT = "#c4573a"
SHADOW = "#6b4f33"
_SMOOTH = 4  # corners are drawn this much larger and scaled down, so their edges are smooth


def as_frames(images: np.ndarray | Sequence[np.ndarray], count: int | None = None) -> np.ndarray:
    """The pictures as one (F,H,W,3) uint8 array; an error says what came instead, or that there are not `count` of them."""
    frames = np.asarray(images)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise StoryjaxError(
            f"expected pictures (F,H,W,3) of uint8 in 0..255, got {frames.shape} of {frames.dtype}; convert them first"
        )
    if count is not None and len(frames) != count:
        raise StoryjaxError(f"the story has {count} frames, but {len(frames)} pictures came; give one picture a frame")
    return frames


def at_width(pixels: np.ndarray, width: int) -> Image.Image:
    """A (H,W,3) picture scaled to `width` pixels, its proportions kept; exact pixels when the width is its own."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    height = max(1, round(width * picture.height / picture.width))
    if picture.size == (width, height):
        return picture
    return picture.resize((width, height), Image.Resampling.LANCZOS)


@functools.lru_cache(maxsize=64)
def rounded_mask(width: int, height: int, radius: int) -> Image.Image:
    """A white rounded rectangle on black, (H,W) with smooth edges; not to be drawn on."""
    large = Image.new("L", (width * _SMOOTH, height * _SMOOTH), 0)
    corners = (0, 0, width * _SMOOTH - 1, height * _SMOOTH - 1)
    ImageDraw.Draw(large).rounded_rectangle(corners, radius * _SMOOTH, fill=255)
    return large.resize((width, height), Image.Resampling.BOX)


def paste_rounded(canvas: Image.Image, what: Image.Image | str, box: tuple[int, int, int, int], radius: int) -> None:
    """Paste a picture or a colour into `box` (left, top, right, bottom) with rounded corners."""
    left, top, right, bottom = box
    canvas.paste(what, box, rounded_mask(right - left, bottom - top, radius))


def cast_shadows(
    canvas: Image.Image, boxes: Sequence[tuple[int, int, int, int]], radius: int, blur: float, drop: int
) -> None:
    """Soft shadows of rounded boxes, `drop` pixels lower than they, on the whole canvas at once."""
    darkness = Image.new("L", canvas.size, 0)
    for left, top, right, bottom in boxes:
        darkness.paste(255, (left, top + drop, right, bottom + drop), rounded_mask(right - left, bottom - top, radius))
    darkness = darkness.filter(ImageFilter.GaussianBlur(blur))
    faint = ImageChops.multiply(darkness, Image.new("L", canvas.size, 70))
    canvas.paste(SHADOW, (0, 0, *canvas.size), faint)
