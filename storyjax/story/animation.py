"""The story as a moving picture: one frame after the other, its sentence beneath."""

import dataclasses
import importlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from storyjax.errors import StoryjaxError
from storyjax.story import lettering, paper
from storyjax.story.files import cannot_write, write_whole

WIDTH = 480
SECONDS = 1.2
_READING = 0.24  # seconds a word, about the pace of reading to a child
_FADE_STEPS, _FADE_SECONDS = 4, 0.32
_MARGIN, _CAPTION_SIZE, _SMALLEST_CAPTION = 20, 25, 17


@dataclasses.dataclass(frozen=True)
class _Moment:
    """A whole view and how long it stays; outside `box` (left, top, right, bottom) there is only paper and text."""

    view: Image.Image
    box: tuple[int, int, int, int]
    seconds: float


def reading_time(sentence: str) -> float:
    """Seconds to look at a picture and read its sentence: never under the 1.2 s of a picture alone, never over 6 s."""
    return min(6.0, max(SECONDS, 0.6 + _READING * len(sentence.split())))


def film_width(count: int) -> int:
    """Width in pixels of the GIF of `count` frames: a long one is smaller, so that its file and the memory for it stay so."""
    return WIDTH if count <= 50 else WIDTH * 2 // 3


def write_gif(
    path: str | Path,
    images: np.ndarray | Sequence[np.ndarray],
    sentences: Sequence[str] = (),
    seconds: float = SECONDS,
    fade: bool = False,
    width: int = WIDTH,
) -> Path:
    """Write an endless GIF; all frames share one palette, made from all of them, so that no colour flickers.

    images: (F,H,W,3) uint8. With `sentences` each stands under its picture, which stays long enough to read it (at least
    `seconds`). `fade` blends each picture into the next.
    """
    moments = _moments(images, sentences, seconds, fade, width)
    palette = _shared_palette([moment.view for moment in moments])
    pictures = [_in_palette(moment, palette) for moment in moments]
    durations = [round(moment.seconds * 100) * 10 for moment in moments]  # GIF counts in hundredths of a second
    file = io.BytesIO()
    more = {
        "append_images": pictures[1:],
        "duration": durations,
        "loop": 0,
        "disposal": 1,
        "palette": bytes(palette.getpalette() or []),
    }
    pictures[0].save(file, "GIF", save_all=True, **more)
    write_whole(Path(path), file.getvalue())
    return Path(path)


def write_mp4(
    path: str | Path,
    images: np.ndarray | Sequence[np.ndarray],
    sentences: Sequence[str] = (),
    seconds: float = SECONDS,
    fade: bool = True,
    width: int = 2 * WIDTH,
) -> Path:
    """Write an H.264 film at 25 pictures a second, arguments as for `write_gif`; needs the package imageio with ffmpeg."""
    try:
        imageio = importlib.import_module("imageio.v2")
        importlib.import_module("imageio_ffmpeg")  # without it imageio fails late and unclearly
    except ImportError:
        raise StoryjaxError(
            f"'{path}' needs imageio with ffmpeg; run: pip install 'imageio[ffmpeg]', or write a .gif"
        ) from None
    path, rate = Path(path), 25
    beside = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
    try:
        with imageio.get_writer(beside, fps=rate, codec="libx264", quality=8, macro_block_size=2) as film:
            for moment in _moments(images, sentences, seconds, fade, width):
                pixels = np.asarray(moment.view)
                even = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]  # H.264 halves the colour planes
                for _ in range(max(1, round(moment.seconds * rate))):
                    film.append_data(even)
        beside.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        beside.unlink(missing_ok=True)
    return path


def _moments(
    images: np.ndarray | Sequence[np.ndarray], sentences: Sequence[str], seconds: float, fade: bool, width: int
) -> list[_Moment]:
    frames = paper.as_frames(images, len(sentences) or None)
    column = width - 2 * _MARGIN if sentences else width
    captions = [
        lettering.set_text(s, "text", _CAPTION_SIZE * width // WIDTH, column - 2 * _MARGIN, _SMALLEST_CAPTION, lines=3)
        for s in sentences
    ]
    band = max((caption.height for caption in captions), default=0)
    stills = []
    for number, pixels in enumerate(frames):
        still = _still(paper.at_width(pixels, column), captions[number] if captions else None, width, band)
        stay = max(seconds, reading_time(sentences[number])) if sentences else seconds
        stills.append(dataclasses.replace(still, seconds=stay))
    return _faded(stills) if fade else stills


def _still(picture: Image.Image, caption: lettering.Block | None, width: int, band: int) -> _Moment:
    if caption is None:
        return _Moment(picture, (0, 0, *picture.size), SECONDS)
    under = _MARGIN + picture.height
    canvas = Image.new("RGB", (width, under + band + 2 * _MARGIN), paper.PAPER)
    box = (_MARGIN, _MARGIN, width - _MARGIN, under)
    paper.paste_rounded(canvas, picture, box, 14)
    caption.draw(canvas, _MARGIN, under + _MARGIN + (band - caption.height) // 2, picture.width, paper.INK)
    return _Moment(canvas, box, SECONDS)


def _faded(stills: list[_Moment]) -> list[_Moment]:
    """Every still, then a few blends into the next one; the last blends into the first, for the film goes round."""
    moments = []
    for now, after in zip(stills, [*stills[1:], stills[0]]):
        moments.append(now)
        for step in range(1, _FADE_STEPS + 1) if len(stills) > 1 else ():
            blend = Image.blend(now.view, after.view, step / (_FADE_STEPS + 1))
            moments.append(_Moment(blend, now.box, _FADE_SECONDS / _FADE_STEPS))
    return moments


def _shared_palette(views: list[Image.Image]) -> Image.Image:
    """256 colours for all views together, the paper's exactly; found on a sheet of all of them, small enough to search fast."""
    width, height = views[0].size
    shrink = min(1.0, (400_000 / (width * height * len(views))) ** 0.5)
    small = max(1, round(width * shrink)), max(1, round(height * shrink))
    sheet = Image.new("RGB", (small[0], small[1] * len(views)))
    for number, view in enumerate(views):
        sheet.paste(view.resize(small, Image.Resampling.NEAREST), (0, number * small[1]))
    found = sheet.quantize(256, Image.Quantize.FASTOCTREE).getpalette() or []
    colours = _settled(np.asarray(sheet).reshape(-1, 3), np.array(found, np.float32).reshape(-1, 3))
    plain = np.array(ImageColor.getrgb(paper.PAPER))
    colours[np.argmin(((colours - plain) ** 2).sum(1))] = plain
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.unique(colours.round().astype(np.uint8), axis=0).tobytes())
    return palette


def _settled(pixels: np.ndarray, colours: np.ndarray, rounds: int = 8) -> np.ndarray:
    """Move each of the K `colours` (K,3) to the mean of the pixels (N,3) nearest to it (Lloyd), so flat areas keep theirs.

    Pixels are counted in bins of 4x4x4 shades first, which makes this a hundred times as fast as Pillow's own `kmeans`.
    """
    keys = (pixels.astype(np.int32) >> 2) @ np.array([1 << 12, 1 << 6, 1], np.int32)
    _, where, counts = np.unique(keys, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(where, pixels[:, c]) for c in range(3)], 1) / counts[:, None]
    for _ in range(rounds):
        nearest = np.argmin((colours**2).sum(1) - 2 * means @ colours.T, axis=1)
        members = np.bincount(nearest, counts, len(colours))
        sums = np.stack([np.bincount(nearest, means[:, c] * counts, len(colours)) for c in range(3)], 1)
        colours = np.where(members[:, None] > 0, sums / np.maximum(members, 1)[:, None], colours)
    return colours


def _in_palette(moment: _Moment, palette: Image.Image) -> Image.Image:
    """Dither the picture, where shades are soft, and leave the paper around it clean."""
    view = moment.view.quantize(palette=palette, dither=Image.Dither.NONE)
    picture = moment.view.crop(moment.box).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    view.paste(picture, moment.box)
    return view
