"""Single pictures as PNG files that say how they were made."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from storyjax.errors import StoryjaxError
from storyjax.story.files import write_whole


def picture_paths(out: str | Path, count: int) -> list[Path]:
    """Where `count` pictures go: `out` itself, or numbered beside it (fox.png: fox-1.png, fox-2.png, ...). Error: no .png."""
    out = Path(out)
    if out.suffix.lower() != ".png":
        raise StoryjaxError(
            f"expected a file name ending in .png, got '{out}'; PNG also keeps how the picture was made"
        )
    if count == 1:
        return [out]
    digits = len(str(count))
    return [out.with_name(f"{out.stem}-{i:0{digits}}{out.suffix}") for i in range(1, count + 1)]


def check_free(paths: Sequence[Path], overwrite: bool) -> None:
    """Raise where a picture would be written over a file without leave, or over a folder: before anything is drawn."""
    for path in paths:
        if path.is_dir():
            raise StoryjaxError(f"'{path}' is a folder; give the name of a picture file")
        if path.exists() and not overwrite:
            raise StoryjaxError(f"'{path}' exists; choose another name, or allow overwriting (--overwrite)")


def write_picture(path: Path, pixels: np.ndarray, said: Mapping[str, str]) -> None:
    """Write (H, W, 3) uint8 as a PNG whose text fields are `said`; whole or not at all. Errors: a full disk, no such drive."""
    info = PngInfo()
    for name, text in said.items():
        info.add_itxt(name, text)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", pnginfo=info)
    write_whole(path, stream.getvalue())


def read_said(path: str | Path) -> dict[str, str]:
    """The text fields of a PNG: how it was made, where it says so."""
    with Image.open(path) as picture:
        picture.load()
        return {name: str(text) for name, text in getattr(picture, "text", {}).items()}
