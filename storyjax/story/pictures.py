"""Reading the picture a story is continued from: any file Pillow reads, brought to the model's size, never in silence."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from storyjax.errors import StoryjaxError

MOST_ENLARGED = 2  # beyond this a picture has less detail than the frames that should follow it


class Picture(NamedTuple):
    """pixels: (H,W,3) uint8; note: in words what was done to the picture, "" when its pixels are as in the file."""

    pixels: np.ndarray
    note: str


def read_picture(path: str | Path, size: int | tuple[int, int], what: str = "first picture") -> Picture:
    """Read a picture and bring it to `size`, one number for a square or (height, width). what: how the note calls it.

    A photograph is turned upright as its camera noted, transparent parts are laid on white, then the middle is cropped to
    the proportions of `size` and scaled with a LANCZOS filter; `note` names each step taken, as in
    "first picture 'cat.jpg' resized: 640x480 -> centre crop 480x480 -> 128x128 LANCZOS" (sizes are width x height).

    Errors: no such file, no picture, a damaged or endless one, one that would have to be enlarged more than twice.
    """
    path = Path(path)
    height, width = (size, size) if isinstance(size, int) else size
    picture, steps = _upright_rgb(_open(path))
    crop = _middle(picture, height, width)
    if crop.width * MOST_ENLARGED < width or crop.height * MOST_ENLARGED < height:
        raise StoryjaxError(
            f"the picture '{path}' is too small: {_size(picture)} for frames of {width}x{height}, enlarged more than "
            f"{MOST_ENLARGED} times it would be a blur; give one of at least {-(-width // 2)}x{-(-height // 2)}"
        )
    if crop.size != picture.size:
        steps.append(f"centre crop {_size(crop)}")
    if crop.size != (width, height):
        steps.append(f"{width}x{height} LANCZOS{' (enlarged)' if crop.width < width else ''}")
        crop = crop.resize((width, height), Image.Resampling.LANCZOS)
    verb = "resized" if steps and "LANCZOS" in steps[-1] else "changed"
    note = f"{what} '{path.name}' {verb}: {' -> '.join([_size(picture), *steps])}" if steps else ""
    return Picture(np.array(crop, np.uint8), note)


def _open(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.load()
                return picture.copy()
    except (FileNotFoundError, IsADirectoryError):
        raise StoryjaxError(f"there is no picture at '{path}'; check the name") from None
    except UnidentifiedImageError:
        raise StoryjaxError(f"'{path}' is not a picture that can be read; give a PNG or JPEG") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise StoryjaxError(f"the picture '{path}' has far too many pixels; scale it down first") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's readers raise over damaged files
        raise StoryjaxError(f"the picture '{path}' is damaged or cannot be read ({error}); save it anew") from None


def _upright_rgb(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    """The picture in RGB, and the names of the steps that this took if they change what is seen."""
    steps = []
    if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
        steps.append("turned upright")
    if picture.mode.startswith("I;16"):  # Pillow itself would cut 16-bit values off at 255
        picture = Image.fromarray((np.asarray(picture).astype(np.uint32) // 257).astype(np.uint8))
        steps.append("16 bits to 8")
    if picture.has_transparency_data:
        coloured = picture.convert("RGBA")
        if coloured.getchannel("A").getextrema() != (255, 255):
            picture = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
            steps.append("transparency laid on white")
    return picture.convert("RGB"), steps


def _middle(picture: Image.Image, height: int, width: int) -> Image.Image:
    """The largest middle part with the proportions of (height, width)."""
    scale = min(picture.width / width, picture.height / height)
    crop_width = min(picture.width, max(1, round(width * scale)))
    crop_height = min(picture.height, max(1, round(height * scale)))
    left, top = (picture.width - crop_width) // 2, (picture.height - crop_height) // 2
    return picture.crop((left, top, left + crop_width, top + crop_height))


def _size(picture: Image.Image) -> str:
    return f"{picture.width}x{picture.height}"
