"""The storyboard strip: all frames side by side on paper, each a card with its sentence beneath."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from storyjax.story import lettering, paper
from storyjax.story.story import Story

WIDTH = 1600
MOST_IN_A_ROW = 6
_MARGIN, _GAP, _PADDING = 64, 26, 12
_WIDEST_PICTURE = 420
_TITLE_SIZE, _CAPTION_SIZE, _SMALLEST_CAPTION = 52, 23, 17


@dataclasses.dataclass(frozen=True)
class _Card:
    picture: Image.Image
    caption: lettering.Block
    number: int


def draw_strip(story: Story, images: np.ndarray | Sequence[np.ndarray], width: int = WIDTH) -> Image.Image:
    """The strip as an RGB picture about `width` pixels wide (less when there are few frames).

    images: (F,H,W,3) uint8, scaled to the strip whatever their size. More than six frames go into rows of even length.
    """
    frames = paper.as_frames(images, len(story.frames))
    rows = rows_of(len(frames))
    columns = max(rows)
    picture_width = (width - 2 * _MARGIN - (columns - 1) * _GAP) // columns - 2 * _PADDING
    picture_width = min(picture_width, _WIDEST_PICTURE)
    cards = [
        _Card(
            paper.at_width(pixels, picture_width),
            lettering.set_text(sentence, "text", _CAPTION_SIZE, picture_width - 8, smallest=_SMALLEST_CAPTION),
            number,
        )
        for number, (pixels, sentence) in enumerate(zip(frames, story.sentences), 1)
    ]
    card_width = picture_width + 2 * _PADDING
    inner = columns * card_width + (columns - 1) * _GAP
    title = lettering.set_text(story.title, "title", _TITLE_SIZE, inner, smallest=30, lines=2)
    return _compose(title, _in_rows(cards, rows), inner, card_width)


def rows_of(count: int) -> list[int]:
    """How many frames each row holds: rows differ by at most one frame, the longer ones first."""
    rows = math.ceil(count / MOST_IN_A_ROW) if count <= 2 * MOST_IN_A_ROW else math.ceil(count / (MOST_IN_A_ROW - 1))
    return [count // rows + (row < count % rows) for row in range(rows)]


def _in_rows(cards: list[_Card], rows: list[int]) -> list[list[_Card]]:
    starts = [sum(rows[:row]) for row in range(len(rows))]
    return [cards[start : start + count] for start, count in zip(starts, rows)]


def _compose(title: lettering.Block, rows: list[list[_Card]], inner: int, card_width: int) -> Image.Image:
    head = _MARGIN - 8 + (title.height + 42 if title.lines else 8)
    heights = [max(_PADDING + card.picture.height + 44 + card.caption.height for card in row) for row in rows]
    total = head + sum(heights) + _GAP * (len(rows) - 1) + _MARGIN + 8
    canvas = Image.new("RGB", (inner + 2 * _MARGIN, total), paper.PAPER)
    if title.lines:
        _draw_title(canvas, title, inner)
    boxes = []
    top = head
    for row, height in zip(rows, heights):
        left = _MARGIN + (inner - len(row) * card_width - (len(row) - 1) * _GAP) // 2
        boxes += [
            (x, top, x + card_width, top + height)
            for x in range(left, left + len(row) * (card_width + _GAP), card_width + _GAP)
        ]
        top += height + _GAP
    paper.cast_shadows(canvas, boxes, radius=18, blur=11, drop=7)
    for card, box in zip((card for row in rows for card in row), boxes):
        _draw_card(canvas, card, box)
    return canvas


def _draw_title(canvas: Image.Image, title: lettering.Block, inner: int) -> None:
    title.draw(canvas, _MARGIN, _MARGIN - 16, inner, paper.INK)
    middle, y = canvas.width // 2, _MARGIN - 16 + title.height + 12
    pen = ImageDraw.Draw(canvas)
    pen.line((middle - 46, y, middle + 46, y), fill=paper.ACCENT, width=3)


def _draw_card(canvas: Image.Image, card: _Card, box: tuple[int, int, int, int]) -> None:
    left, top, right, _ = box
    paper.paste_rounded(canvas, paper.CARD, box, 18)
    inside, under = left + _PADDING, top + _PADDING + card.picture.height
    paper.paste_rounded(canvas, card.picture, (inside, top + _PADDING, right - _PADDING, under), 10)
    card.caption.draw(canvas, inside, under + 20, right - left - 2 * _PADDING, paper.INK)
