"""A small vector pen over Pillow: every shape is a polygon under a move, turn and scale, drawn large and averaged down.

Coordinates: x to the right, y down; the whole picture is the unit square. A pen made by `at` draws in its own coordinates.
"""

import colorsys
import itertools
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

Point = tuple[float, float]
Color = str | tuple[int, ...]


def rgb(color: Color) -> tuple[int, int, int, int]:
    """ "#rrggbb", "#rrggbbaa", (r, g, b) or (r, g, b, a) -> (r, g, b, a) in 0..255."""
    if isinstance(color, str):
        color = tuple(bytes.fromhex(color.lstrip("#")))
    return (*color, 255) if len(color) == 3 else tuple(color)  # type: ignore[return-value]


def mix(first: Color, second: Color, share: float) -> tuple[int, int, int, int]:
    """`first` moved by `share` (0..1) towards `second`; keeps the first colour's opacity."""
    a, b = rgb(first), rgb(second)
    return (*(round(x + (y - x) * share) for x, y in zip(a[:3], b[:3], strict=True)), a[3])  # type: ignore[return-value]


def shade(color: Color, light: float) -> tuple[int, int, int, int]:
    """Lighter (`light` > 0) or darker (< 0) with the hue kept."""
    r, g, b, a = rgb(color)
    h, v, s = colorsys.rgb_to_hls(r / 255, g / 255, b / 255)
    return (*(round(255 * x) for x in colorsys.hls_to_rgb(h, min(1.0, max(0.0, v + light)), s)), a)  # type: ignore[return-value]


def smooth(points: Sequence[Point], closed: bool, steps: int = 10) -> list[Point]:
    """Catmull-Rom spline through `points`."""
    count = len(points)
    out: list[Point] = []
    for i in range(count if closed else count - 1):
        p0, p1, p2, p3 = (
            points[(i + k) % count] if closed else points[min(max(i + k, 0), count - 1)] for k in (-1, 0, 1, 2)
        )
        for step in range(steps):
            t = step / steps
            w = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3)
            out.append(tuple(sum(a * p[k] for a, p in zip(w, (p0, p1, p2, p3), strict=True)) / 2 for k in (0, 1)))
    return out if closed else [*out, points[-1]]


class Pen:
    """Draws on one transparent RGBA picture.

    Args:
        size: side of the finished picture in pixels.
        detail: how many times larger the picture is drawn before it is averaged down.
    """

    def __init__(self, size: int, detail: int = 4):
        self.size, self.detail = size, detail
        self.canvas = [Image.new("RGBA", (size * detail, size * detail), (0, 0, 0, 0))]
        side = size * detail
        self.matrix = (side, 0.0, 0.0, 0.0, side, 0.0)

    def at(self, x: float, y: float, scale: float = 1.0, turn: float = 0.0, flip: bool = False) -> "Pen":
        """A pen on the same picture whose origin lies at (x, y), `scale` times as large, turned by `turn` degrees clockwise."""
        a, b, c, d, e, f = self.matrix
        cos, sin = math.cos(math.radians(turn)) * scale, math.sin(math.radians(turn)) * scale
        m = ((-cos if flip else cos), -sin, (-sin if flip else sin), cos)
        pen = object.__new__(Pen)
        pen.size, pen.detail, pen.canvas = self.size, self.detail, self.canvas
        pen.matrix = (
            a * m[0] + b * m[2], a * m[1] + b * m[3], a * x + b * y + c,
            d * m[0] + e * m[2], d * m[1] + e * m[3], d * x + e * y + f,
        )  # fmt: skip
        return pen

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """Fill; a colour with opacity below 255 is laid over what is there."""
        a, b, c, d, e, f = self.matrix
        where = [(a * x + b * y + c, d * x + e * y + f) for x, y in points]
        fill, image = rgb(color), self.canvas[0]
        if fill[3] == 255:
            ImageDraw.Draw(image).polygon(where, fill=fill)
            return
        left, top = max(0, int(min(p[0] for p in where)) - 1), max(0, int(min(p[1] for p in where)) - 1)
        right = min(image.width, int(max(p[0] for p in where)) + 2)
        bottom = min(image.height, int(max(p[1] for p in where)) + 2)
        if right <= left or bottom <= top:
            return
        glaze = Image.new("RGBA", (right - left, bottom - top), (*fill[:3], 0))
        ImageDraw.Draw(glaze).polygon([(x - left, y - top) for x, y in where], fill=fill)
        image.alpha_composite(glaze, (left, top))

    def ellipse(self, x: float, y: float, rx: float, ry: float, color: Color, turn: float = 0.0) -> None:
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        around = [(math.cos(math.tau * i / 48) * rx, math.sin(math.tau * i / 48) * ry) for i in range(48)]
        self.polygon([(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in around], color)

    def blob(self, points: Sequence[Point], color: Color) -> None:
        """A smooth closed shape through `points`."""
        self.polygon(smooth(points, closed=True), color)

    def mirror_blob(self, points: Sequence[Point], color: Color) -> None:
        """A smooth shape symmetric to x = 0; `points` go down its right side."""
        self.blob([*points, *((-x, y) for x, y in reversed(points) if abs(x) > 1e-9)], color)

    def box(self, left: float, top: float, right: float, bottom: float, color: Color, round_by: float = 0.0) -> None:
        if not round_by:
            self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], color)
            return
        corners = ((right, top, -90), (right, bottom, 0), (left, bottom, 90), (left, top, 180))
        points = []
        for x, y, start in corners:
            cx = x + (round_by if x == left else -round_by)
            cy = y + (round_by if y == top else -round_by)
            for step in range(9):
                angle = math.radians(start + step * 90 / 8)
                points.append((cx + round_by * math.cos(angle), cy + round_by * math.sin(angle)))
        self.polygon(points, color)

    def stroke(self, points: Sequence[Point], width: float, color: Color, bend: bool = True) -> None:
        """A line with round ends, bent smoothly through `points`; opaque colours only (its pieces overlap)."""
        path = smooth(points, closed=False, steps=8) if bend and len(points) > 2 else list(points)
        half = width / 2
        for (x0, y0), (x1, y1) in itertools.pairwise(path):
            length = math.hypot(x1 - x0, y1 - y0) or 1e-9
            u, v = (y1 - y0) / length * half, -(x1 - x0) / length * half
            self.polygon([(x0 + u, y0 + v), (x1 + u, y1 + v), (x1 - u, y1 - v), (x0 - u, y0 - v)], color)
        for x, y in path:
            self.ellipse(x, y, half, half, color)

    def star(self, x: float, y: float, radius: float, color: Color, points: int = 5, inner: float = 0.45) -> None:
        self.polygon(
            [
                (
                    x + math.sin(math.pi * i / points) * radius * (inner if i % 2 else 1),
                    y - math.cos(math.pi * i / points) * radius * (inner if i % 2 else 1),
                )
                for i in range(2 * points)
            ],
            color,
        )

    def finish(self) -> Image.Image:
        """The picture at its own size, edges averaged."""
        return self.canvas[0].reduce(self.detail)
