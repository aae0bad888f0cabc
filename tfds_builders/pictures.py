"""Pictures of the user's copy: read whole, so that a corrupt one is found before it is in the records."""

import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from tfds_builders.layout import BrokenStory


def read_bytes(file: Path, what: str = "picture") -> bytes:
    """The content of `file`. Errors: BrokenStory."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise BrokenStory(f"{what} '{file}' does not exist") from None
    except OSError as error:
        raise BrokenStory(f"{what} '{file}' cannot be read ({error.strerror})") from None


def decoded(content: bytes, what: str) -> Image.Image:
    """The picture, all of it decoded. `what` names it. Errors: BrokenStory where it is no picture, cut off or damaged."""
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    except UnidentifiedImageError:
        raise BrokenStory(f"{what} is no picture ({len(content)} bytes); get it again") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises for damage
        raise BrokenStory(f"{what} is damaged ({error}); get it again") from None
    return picture


def size_of(content: bytes) -> tuple[int, int]:
    """(H, W) from the header of a picture that is whole."""
    with Image.open(io.BytesIO(content)) as picture:
        return picture.height, picture.width
