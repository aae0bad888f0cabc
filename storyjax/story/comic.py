"""The comic page: rows of two and three inked panels, each with its sentence lettered in a band above the picture."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from storyjax.story import lettering, paper
from storyjax.story.story import Story

WIDTH = 1240
PAGE = "#fbf7ee"
BAND = "#fde9b3"
INKED = "#241c17"
_MARGIN, _GUTTER, _BORDER = 56, 22, 5
_TITLE_SIZE, _LETTER_SIZE, _SMALLEST_LETTER = 64, 27, 18


@dataclasses.dataclass(frozen=True)
class _Panel:
    picture: Image.Image
    words: lettering.Block


def draw_comic(story: Story, images: np.ndarray | Sequence[np.ndarray], width: int = WIDTH) -> Image.Image:
    """The page as an RGB picture `width` pixels wide; whole pictures are shown, none is cropped.

    images: (F,H,W,3) uint8, scaled to their panels.
    """
    frames = paper.as_frames(images, len(story.frames))
    inner = width - 2 * _MARGIN
    rows, start = [], 0
    for count in panel_rows(len(frames)):
        panel_width = (inner - (count - 1) * _GUTTER) // count
        stop = start + count
        rows.append([_panel(*told, panel_width) for told in zip(frames[start:stop], story.sentences[start:stop])])
        start = stop
    title = lettering.set_text(story.title, "comic", _TITLE_SIZE, inner, smallest=34, lines=2)
    return _compose(title, rows, width)


def panel_rows(count: int) -> list[int]:
    """How many panels each row holds: twos and threes, about as many of each, in turn; a single frame has its own row."""
    if count == 1:
        return [1]
    pairs = [(twos, (count - 2 * twos) // 3) for twos in range(count // 2 + 1) if (count - 2 * twos) % 3 == 0]
    twos, threes = min(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    rows: list[int] = []
    while twos or threes:
        rows.append(2 if twos > threes or (twos == threes and rows[-1:] != [2]) else 3)
        twos, threes = twos - (rows[-1] == 2), threes - (rows[-1] == 3)
    return rows


def _panel(pixels: np.ndarray, sentence: str, width: int) -> _Panel:
    words = lettering.set_text(
        sentence, "comic", _LETTER_SIZE, width - 2 * _BORDER - 36, smallest=_SMALLEST_LETTER, lines=4
    )
    return _Panel(paper.at_width(pixels, width - 2 * _BORDER), words)


def _compose(title: lettering.Block, rows: list[list[_Panel]], width: int) -> Image.Image:
    head = _MARGIN + (title.height + 26 if title.lines else 0)
    bands = [max(panel.words.height for panel in row) + 28 for row in rows]
    heights = [band + 3 * _BORDER + max(panel.picture.height for panel in row) for band, row in zip(bands, rows)]
    canvas = Image.new("RGB", (width, head + sum(heights) + _GUTTER * (len(rows) - 1) + _MARGIN), PAGE)
    title.draw(canvas, _MARGIN, _MARGIN - 10, width - 2 * _MARGIN, INKED, stroke=1)
    top = head
    for row, band, height in zip(rows, bands, heights):
        panel_width = row[0].picture.width + 2 * _BORDER
        left = (width - len(row) * panel_width - (len(row) - 1) * _GUTTER) // 2
        for panel in row:
            _draw_panel(canvas, panel, (left, top), band)
            left += panel_width + _GUTTER
        top += height + _GUTTER
    return canvas


def _draw_panel(canvas: Image.Image, panel: _Panel, corner: tuple[int, int], band: int) -> None:
    left, top = corner
    right, under = left + panel.picture.width + 2 * _BORDER, top + band + 3 * _BORDER + panel.picture.height
    ImageDraw.Draw(canvas).rectangle((left, top, right - 1, under - 1), fill=INKED)
    canvas.paste(BAND, (left + _BORDER, top + _BORDER, right - _BORDER, top + _BORDER + band))
    canvas.paste(panel.picture, (left + _BORDER, top + 2 * _BORDER + band))
    words_top = top + _BORDER + (band - panel.words.height) // 2
    panel.words.draw(canvas, left + _BORDER + 18, words_top, panel.picture.width - 36, INKED)
