"""Pictures in: reading with errors that name the file, and the resize policies of the data room.

Policy "crop", the usual one: the short side is scaled to the wanted size (bilinear, antialiased, as torchvision's
`Resize` does on PIL pictures and the ContextualStory loaders use), then the middle is cut out. Nothing is stretched.
Masks go the same way with nearest neighbour, boxes with the same arithmetic.

Policy "stretch", StoryGen's: width and height are scaled each on its own (bicubic, antialiased, as `Image.resize` does
unasked), so all of the picture is there and its shape is not kept. Figure masks go the same way and are not made binary.
"""

import io
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from storyjax.errors import StoryjaxError

Size = tuple[int, int]  # height, width
Fit = Literal["crop", "stretch"]  # the policies


def as_size(size: int | tuple[int, int] | None) -> Size | None:
    """(H, W) of a size given as one number (square) or as height and width."""
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise StoryjaxError(f"expected a picture size of at least 1 pixel, got {size}")
    return int(height), int(width)


def read_picture(content: bytes | str | Path, what: str = "") -> Image.Image:
    """The picture as RGB: upright after its EXIF note, transparent parts on white.

    `what` names the picture in errors (default: its path). Errors: the file is missing, is no picture, or is cut off.
    """
    what = what or "picture" + ("" if isinstance(content, bytes) else f" '{content}'")
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.has_transparency_data:
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
            return picture.convert("RGB")
    except FileNotFoundError:
        raise StoryjaxError(f"{what} does not exist; check the path") from None
    except UnidentifiedImageError:
        raise StoryjaxError(f"{what} is no picture that can be read; expected PNG, JPEG, WebP or GIF") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow says SyntaxError for a broken PNG
        raise StoryjaxError(f"{what} cannot be read ({error}); save it again or replace it") from None


def picture_size(path: Path, what: str = "") -> Size:
    """(H, W) of an upright picture from its header alone. Errors as `read_picture`."""
    what = what or f"picture '{path}'"
    try:
        with Image.open(path) as opened:
            width, height = opened.size
            exif = Image.Exif()
            exif.load(opened.info.get("exif", b""))  # opened.getexif() would decode a whole PNG
            turned = exif.get(0x0112, 1) in (5, 6, 7, 8)  # orientations that swap the sides
            return (width, height) if turned else (height, width)
    except FileNotFoundError:
        raise StoryjaxError(f"{what} does not exist; check the path") from None
    except (OSError, SyntaxError, Image.DecompressionBombError):
        raise StoryjaxError(f"{what} is no picture that can be read; expected PNG, JPEG, WebP or GIF") from None


def scaled_and_offset(source: Size, size: Size) -> tuple[Size, Size]:
    """Size after scaling the short side, and the (top, left) corner of the centre crop of `size` in it."""
    scale = max(size[0] / source[0], size[1] / source[1])
    scaled = max(size[0], int(source[0] * scale + 1e-6)), max(size[1], int(source[1] * scale + 1e-6))
    return scaled, (round((scaled[0] - size[0]) / 2), round((scaled[1] - size[1]) / 2))


def cut_from_strip(strip: Image.Image, number: int, height: int, width: int) -> Image.Image:
    """Picture `number` (from 0) of pictures of `height` x `width` pixels below each other."""
    return strip.crop((0, number * height, width, (number + 1) * height))


def fit_picture(picture: Image.Image, size: Size, nearest: bool = False) -> np.ndarray:
    """`picture` as (H, W, 3) uint8 (or (H, W) of a one-channel mask) of `size`, resized and centre-cropped if needed."""
    source = picture.height, picture.width
    if source != size:
        (height, width), (top, left) = scaled_and_offset(source, size)
        method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        picture = picture.resize((width, height), method).crop((left, top, left + size[1], top + size[0]))
    return np.asarray(picture, dtype=np.uint8)


def stretch_picture(picture: Image.Image, size: Size, nearest: bool = False) -> np.ndarray:
    """`picture` as (H, W, 3) uint8 (or (H, W) of a one-channel mask) of `size`, whatever its shape was.

    The policy of StoryGen's loaders; nearest: for masks whose values are numbers.
    """
    if (picture.height, picture.width) != size:
        method = Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC
        picture = picture.resize((size[1], size[0]), method)
    return np.asarray(picture, dtype=np.uint8)


def fit_boxes(boxes: np.ndarray, source: Size, size: Size) -> np.ndarray:
    """Boxes (..., 4) = (ymin, xmin, ymax, xmax) in 0..1 of a `source`-sized picture, in 0..1 of the fitted one."""
    scaled, offset = scaled_and_offset(source, size)
    scale = np.array([*scaled, *scaled], dtype=np.float64)
    shift, out = np.array([*offset, *offset]), np.array([*size, *size])
    return np.clip((boxes * scale - shift) / out, 0.0, 1.0).astype(np.float32)
