"""Text in pictures: the faces, which characters they hold, and lines of even length.

Vollkorn (text, title) and Comic Neue (comic) ship with the package; a text with characters they lack is set whole in the
first font of this machine that holds them all.
"""

import dataclasses
import functools
import math
import os
import unicodedata
import warnings
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_FONTS = Path(__file__).parent / "fonts"
FACES = {"text": "Vollkorn-Regular.ttf", "title": "Vollkorn-SemiBold.ttf", "comic": "ComicNeue-Bold.ttf"}
SYSTEM_FONTS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
)
LEADING = 1.3  # line distance over font size
_FINE = 4


@dataclasses.dataclass(frozen=True)
class Block:
    """Lines set in one face; `width`, `height` and `leading` in pixels. `font` is `_FINE` times as large as what is seen."""

    lines: tuple[str, ...]
    font: ImageFont.FreeTypeFont
    leading: int

    @property
    def width(self) -> int:
        """The longest line."""
        return math.ceil(max((self.font.getlength(line) / _FINE for line in self.lines), default=0))

    @property
    def height(self) -> int:
        """All lines, from the top of the first to the bottom of the last."""
        return self.leading * len(self.lines)

    def draw(self, canvas: Image.Image, left: int, top: int, width: int, colour: str, stroke: float = 0) -> None:
        """Draw centred into a column of `width` pixels, line by line; `stroke` pixels make the letters heavier all round.

        Each line is drawn large and scaled down: set at its own size, letters would snap to whole pixels and words run together.
        """
        over = self.leading  # accents and tails reach beyond a line
        for number, line in enumerate(self.lines):
            mask = Image.new("L", ((width + 2 * over) * _FINE, (self.leading + 2 * over) * _FINE), 0)
            middle = (mask.width / 2, mask.height / 2)
            ImageDraw.Draw(mask).text(middle, line, font=self.font, fill=255, anchor="mm", stroke_width=stroke * _FINE)
            mask = mask.resize((mask.width // _FINE, mask.height // _FINE), Image.Resampling.BOX)
            canvas.paste(colour, (left - over, top + self.leading * number - over), mask)


def set_text(text: str, face: str, size: int, width: int, smallest: int | None = None, lines: int = 6) -> Block:
    """Break `text` into lines of at most `width` pixels, as even as they can be without taking more lines.

    A text of more than `lines` lines is set smaller, down to `smallest` pixels; then it takes as many lines as it needs.
    """
    while True:
        font = font_for(text, face, size * _FINE)
        broken = break_lines(text, font, width * _FINE)
        if len(broken) <= lines or size <= (smallest or size):
            return Block(_even(text, font, width * _FINE, broken), font, round(LEADING * size))
        size -= 1


def break_lines(text: str, font: ImageFont.FreeTypeFont, width: float) -> tuple[str, ...]:
    """Greedy line breaking to `width` in pixels of `font`; a word wider than the column is broken between characters."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while font.getlength(word) > width and len(word) > 1:
            head = _fitting_head(word, font, width)
            lines.append(word[:head])
            word = word[head:]
        line = word
    return (*lines, line) if line else tuple(lines)


def _fitting_head(word: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """How many characters of `word` fit, at least one; marks stay with the character they stand on."""
    low, high = 1, len(word) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(word[:middle]) <= width else (low, middle - 1)
    while low < len(word) and unicodedata.combining(word[low]):
        low += 1
    return low


def _even(text: str, font: ImageFont.FreeTypeFont, width: float, greedy: tuple[str, ...]) -> tuple[str, ...]:
    """The narrowest column that needs no more lines: no lonely word at the end of a centred text."""
    if not 1 < len(greedy) <= 12:
        return greedy
    low, high, best = width / 2, width, greedy
    for _ in range(7):
        middle = (low + high) / 2
        lines = break_lines(text, font, middle)
        low, high, best = (low, middle, lines) if len(lines) <= len(greedy) else (middle, high, best)
    return best


def font_for(text: str, face: str, size: int) -> ImageFont.FreeTypeFont:
    """The face itself if it holds all characters of `text`, else the font on this machine that lacks the fewest."""
    needed = frozenset(c for c in text if not c.isspace() and unicodedata.category(c) != "Cf")
    return ImageFont.truetype(_path_for(needed, face), size)


@functools.lru_cache(maxsize=512)
def _path_for(needed: frozenset[str], face: str) -> str:
    own = [str(_FONTS / name) for name in dict.fromkeys((FACES[face], FACES["title" if face == "title" else "text"]))]
    best, fewest = own[0], None
    for candidates in (lambda: own, _system_fonts):  # the machine's fonts are listed only when the own ones do not do
        for path in candidates():
            lacking = sum(not _holds(path, character) for character in needed)
            if lacking == 0:
                return path
            if fewest is None or lacking < fewest:
                best, fewest = path, lacking
    lacking_here = "".join(sorted(c for c in needed if not _holds(best, c)))[:20]
    warnings.warn(f"no font on this machine holds all of '{lacking_here}'; they are drawn as boxes", stacklevel=4)
    return best


@functools.lru_cache(maxsize=1)
def _system_fonts() -> tuple[str, ...]:
    """Scalable fonts of this machine, upright ones first, in the same order every time."""
    found: set[str] = set()
    for folder in SYSTEM_FONTS:
        for root, _, names in os.walk(Path(folder).expanduser()):
            found.update(str(Path(root) / name) for name in names if name.lower().endswith((".ttf", ".otf", ".ttc")))
    slanted = ("italic", "oblique", "bold", "mono", "condensed")
    usable = [path for path in found if _opens(path)]
    return tuple(sorted(usable, key=lambda path: (sum(word in Path(path).name.lower() for word in slanted), path)))


def _opens(path: str) -> bool:
    try:
        ImageFont.truetype(path, 16)
    except OSError:  # a bitmap-only or damaged font
        return False
    return True


@functools.lru_cache(maxsize=100_000)
def _holds(path: str, character: str) -> bool:
    """A character a font lacks is drawn as the same box as a code point that is no character."""
    font = _probe(path)
    return _ink(font, character) != _ink(font, "\U0010fffe")


def _ink(font: ImageFont.FreeTypeFont, character: str) -> bytes:
    drawn = Image.new("L", (32, 32), 0)
    ImageDraw.Draw(drawn).text((8, 8), character, font=font, fill=255)
    return drawn.tobytes()


@functools.lru_cache(maxsize=64)
def _probe(path: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, 16)
