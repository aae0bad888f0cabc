"""The eight places, each with its own palette and its own big shapes, in the light of the weather."""

from collections.abc import Callable

from tfds_builders.cartoon_stories.pen import Color, Pen, Point, shade, smooth
from tfds_builders.cartoon_stories.weather import draw_sky, ground, tone
from tfds_builders.chance import Dice

HORIZON = 0.6


def _hill(pen: Pen, points: list[Point], color: Color) -> None:
    """Ground below a smooth line through `points` (left to right, beyond both edges)."""
    pen.polygon([*smooth(points, closed=False), (1.3, 1.1), (-0.3, 1.1)], color)


def _flower(pen: Pen, x: float, y: float, size: float, color: Color, weather: str) -> None:
    pen.stroke([(x, y), (x, y + size * 2.2)], size * 0.35, tone("#2d8a3a", weather))
    for dx, dy in ((0, -1), (0.95, -0.3), (0.6, 0.8), (-0.6, 0.8), (-0.95, -0.3)):
        pen.ellipse(x + dx * size * 0.62, y + dy * size * 0.62, size * 0.55, size * 0.55, tone(color, weather))
    pen.ellipse(x, y, size * 0.42, size * 0.42, tone("#ffd43b", weather))


def _round_tree(pen: Pen, x: float, y: float, scale: float, color: Color, weather: str) -> None:
    tree = pen.at(x, y, scale)
    tree.box(-0.07, -0.5, 0.07, 0.02, tone("#8a5a35", weather))
    tree.ellipse(0, -0.72, 0.36, 0.38, tone(shade(color, -0.05), weather))
    tree.ellipse(-0.06, -0.78, 0.27, 0.28, tone(color, weather))
    if weather == "snow":
        tree.blob([(-0.3, -0.86), (-0.1, -1.12), (0.14, -1.1), (0.31, -0.86), (0.1, -0.94), (-0.1, -0.9)], "#ffffff")


def _meadow(pen: Pen, weather: str, variant: int) -> None:
    _hill(pen, [(-0.2, 0.56), (0.12, 0.43), (0.45, 0.55), (0.78, 0.41), (1.2, 0.56)], ground("#8fd16a", weather))
    for x, scale in ((0.1, 0.2), (0.82, 0.23), (0.93, 0.16)):
        _round_tree(pen, x, 0.52, scale, "#4fb04a", weather)
    _hill(pen, [(-0.2, 0.66), (0.2, 0.6), (0.55, 0.53), (0.9, 0.6), (1.2, 0.57)], ground("#6cc24a", weather))
    _hill(pen, [(-0.2, 0.72), (0.3, 0.7), (0.7, 0.76), (1.2, 0.7)], ground("#57b03c", weather))
    dice = Dice(f"flowers {variant}")
    colors = ("#ff5f8f", "#ffffff", "#ffb52e", "#b06bff")
    for i in range(15):
        x, y = (i + 0.5 * dice.fraction() + 0.25) / 15, 0.63 + 0.33 * dice.fraction()
        _flower(pen, x, y, 0.012 + 0.016 * (y - 0.55), colors[i % 4], weather)


def _beach(pen: Pen, weather: str, variant: int) -> None:
    pen.box(-0.2, 0.47, 1.2, 1.0, tone("#1fa7d8", weather))
    pen.box(-0.2, 0.535, 1.2, 1.0, tone("#35c3e0", weather))
    sail = pen.at(0.78, 0.475, 0.15)
    sail.polygon([(-0.02, -0.1), (-0.02, -0.85), (0.45, -0.1)], tone("#ffffff", weather))
    sail.polygon([(-0.08, -0.1), (-0.08, -0.7), (-0.4, -0.1)], tone("#ff7a59", weather))
    sail.polygon([(-0.45, -0.04), (0.45, -0.04), (0.3, 0.16), (-0.3, 0.16)], tone("#a4512e", weather))
    _hill(pen, [(-0.2, 0.63), (0.1, 0.66), (0.4, 0.61), (0.75, 0.66), (1.2, 0.61)], tone("#d8f6f7", weather))
    _hill(pen, [(-0.2, 0.66), (0.1, 0.69), (0.4, 0.64), (0.75, 0.69), (1.2, 0.64)], ground("#f9dc97", weather))
    _hill(pen, [(-0.2, 0.83), (0.3, 0.86), (0.7, 0.8), (1.2, 0.85)], ground("#f2cd7c", weather))
    palm = pen.at(0.1, 0.8, 0.62)
    palm.stroke([(0.0, 0.0), (0.03, -0.3), (0.1, -0.6)], 0.06, tone("#a86b3c", weather))
    leaf = tone("#2fa35b", weather) if weather != "snow" else tone("#5dbb86", weather)
    for dx, dy in ((0.33, 0.1), (0.3, -0.12), (-0.27, 0.1), (-0.24, -0.13), (0.05, -0.25)):
        palm.blob(
            [
                (0.1, -0.6),
                (0.1 + dx * 0.5, -0.68 + dy * 0.35),
                (0.1 + dx, -0.58 + dy),
                (0.1 + dx * 0.5, -0.59 + dy * 0.45),
            ],
            leaf,
        )
    for dx in (0.07, 0.13):
        palm.ellipse(dx, -0.575, 0.03, 0.03, tone("#7a4a26", weather))
    shell = pen.at(0.9, 0.93, 0.07)
    shell.star(0, 0, 0.7, tone("#ff8f70", weather), 5, 0.5)


def _fir(pen: Pen, x: float, y: float, scale: float, color: Color, weather: str) -> None:
    tree = pen.at(x, y, scale)
    tree.box(-0.06, -0.2, 0.06, 0.03, tone("#6b4226", weather))
    for top, bottom, wide in ((-0.55, -0.12, 0.34), (-0.8, -0.38, 0.28), (-1.02, -0.64, 0.21)):
        tree.polygon([(0, top), (wide, bottom), (-wide, bottom)], tone(color, weather))
        if weather == "snow":
            tree.polygon(
                [
                    (0, top),
                    (wide * 0.52, top + (bottom - top) * 0.52),
                    (0, top + (bottom - top) * 0.4),
                    (-wide * 0.52, top + (bottom - top) * 0.52),
                ],
                "#ffffff",
            )


def _forest(pen: Pen, weather: str, variant: int) -> None:
    _hill(pen, [(-0.2, 0.42), (0.2, 0.47), (0.5, 0.5), (0.8, 0.47), (1.2, 0.42)], tone("#5fb07f", weather))
    for i in range(9):
        _fir(
            pen, i / 8 + 0.02 * (i % 2), 0.6, (0.5, 0.43, 0.36, 0.3, 0.27, 0.3, 0.37, 0.44, 0.5)[i], "#3a9166", weather
        )
    _hill(pen, [(-0.2, 0.6), (0.3, 0.57), (0.7, 0.61), (1.2, 0.58)], ground("#3c7d42", weather))
    for x, scale in ((0.02, 0.7), (0.19, 0.5), (0.82, 0.52), (0.99, 0.72)):
        _fir(pen, x, 0.72, scale, "#1c6244", weather)
    _hill(pen, [(-0.2, 0.74), (0.3, 0.72), (0.7, 0.75), (1.2, 0.72)], ground("#2f6b38", weather))
    for x in (0.08, 0.15, 0.91):
        mushroom = pen.at(x, 0.86 + 0.4 * (x - 0.1) * (x < 0.5), 0.075)
        mushroom.box(-0.2, -0.35, 0.2, 0.3, tone("#fff3df", weather), 0.1)
        mushroom.mirror_blob([(0, -0.85), (0.45, -0.6), (0.55, -0.28), (0, -0.24)], tone("#e5383b", weather))
        for dx, dy in ((-0.25, -0.45), (0.2, -0.6), (0.3, -0.38)):
            mushroom.ellipse(dx, dy, 0.09, 0.08, "#ffffff")


def _town(pen: Pen, weather: str, variant: int) -> None:
    walls = ("#ff8a80", "#ffd166", "#6ec6ff", "#c39bf2", "#8fe0b0")
    roofs = ("#b23a48", "#c06a2b", "#2c5f9e", "#6a3fa0", "#2f8a63")
    glass = "#ffe27a" if weather in ("night", "rain", "sunset") else "#dff3ff"
    for i in range(5):
        k, height = (i + variant) % 5, (0.36, 0.29, 0.4, 0.31, 0.37)[i]
        left, right, top = i * 0.2 - 0.005, i * 0.2 + 0.205, 0.665 - height
        pen.box(left, top, right, 0.7, tone(walls[k], weather))
        roof = tone(roofs[k], weather) if weather != "snow" else shade("#ffffff", 0)
        pen.polygon([(left - 0.015, top + 0.01), ((left + right) / 2, top - 0.12), (right + 0.015, top + 0.01)], roof)
        for row in range(2):
            for column in (0.055, 0.155):
                x, y = left + column, top + 0.06 + row * 0.115
                pen.box(
                    x - 0.028,
                    y - 0.034,
                    x + 0.028,
                    y + 0.034,
                    "#ffffff" if weather != "night" else tone("#ffffff", weather),
                )
                pen.box(x - 0.021, y - 0.027, x + 0.021, y + 0.027, glass)
    pen.box(-0.2, 0.665, 1.2, 1.0, ground("#cfc7d8", weather))
    pen.box(-0.2, 0.725, 1.2, 1.0, ground("#8d889f", weather))
    pen.box(-0.2, 0.72, 1.2, 0.735, ground("#e9e4ee", weather))
    for i in range(5):
        pen.polygon(
            [(i * 0.25 - 0.1, 0.955), (i * 0.25 + 0.04, 0.955), (i * 0.25 + 0.02, 0.985), (i * 0.25 - 0.12, 0.985)],
            ground("#f7d65a", weather),
        )


def _cactus(pen: Pen, x: float, y: float, scale: float, weather: str) -> None:
    plant, green = pen.at(x, y, scale), tone("#2f9e5f", weather)
    plant.stroke([(0, 0), (0, -0.8)], 0.2, green, bend=False)
    plant.stroke([(0, -0.3), (0.28, -0.32), (0.3, -0.6)], 0.14, green)
    plant.stroke([(0, -0.42), (-0.27, -0.44), (-0.28, -0.68)], 0.14, green)
    if weather == "snow":
        plant.ellipse(0, -0.86, 0.11, 0.06, "#ffffff")
    else:
        plant.ellipse(0, -0.9, 0.07, 0.06, tone("#ff5c8a", weather))


def _desert(pen: Pen, weather: str, variant: int) -> None:
    rock, dark = tone("#d9653b", weather), tone("#bb4f30", weather)
    for left, right, top in ((0.04, 0.3, 0.34), (0.66, 1.02, 0.3)):
        pen.polygon([(left, top), (right, top), (right + 0.07, 0.62), (left - 0.07, 0.62)], rock)
        pen.polygon(
            [
                (left - 0.03, top + 0.11),
                (right + 0.03, top + 0.11),
                (right + 0.04, top + 0.16),
                (left - 0.04, top + 0.16),
            ],
            dark,
        )
        if weather == "snow":
            pen.box(left - 0.01, top - 0.015, right + 0.01, top + 0.03, "#ffffff", 0.015)
    _hill(pen, [(-0.2, 0.58), (0.2, 0.53), (0.5, 0.6), (0.85, 0.52), (1.2, 0.58)], ground("#f6a94b", weather))
    _hill(pen, [(-0.2, 0.63), (0.25, 0.68), (0.6, 0.6), (1.2, 0.68)], ground("#f0963a", weather))
    _cactus(pen, 0.1, 0.74, 0.34, weather)
    _cactus(pen, 0.91, 0.7, 0.26, weather)
    _hill(pen, [(-0.2, 0.78), (0.3, 0.73), (0.75, 0.8), (1.2, 0.75)], ground("#e5842f", weather))


def _mountains(pen: Pen, weather: str, variant: int) -> None:
    for x, top, wide, color in (
        (0.18, 0.2, 0.36, "#8a7fd0"),
        (0.86, 0.16, 0.38, "#8a7fd0"),
        (0.52, 0.1, 0.42, "#6f62bd"),
    ):
        pen.polygon([(x, top), (x + wide, 0.68), (x - wide, 0.68)], tone(color, weather))
        pen.polygon([(x, top), (x + wide, 0.68), (x + wide * 0.1, 0.68)], tone(shade(color, -0.07), weather))
        reach, cap = wide * 0.34, top + (0.68 - top) * 0.34
        pen.polygon(
            [
                (x, top),
                (x + reach, cap),
                (x + reach * 0.45, cap - 0.035),
                (x, cap + 0.03),
                (x - reach * 0.45, cap - 0.03),
                (x - reach, cap),
            ],
            tone("#ffffff", weather),
        )
    _hill(pen, [(-0.2, 0.62), (0.2, 0.58), (0.5, 0.63), (0.8, 0.58), (1.2, 0.62)], ground("#4aa38f", weather))
    _hill(pen, [(-0.2, 0.72), (0.35, 0.74), (0.7, 0.69), (1.2, 0.74)], ground("#3a8c80", weather))
    for x, y, scale in ((0.06, 0.72, 0.24), (0.95, 0.71, 0.26)):
        _fir(pen, x, y, scale, "#1f6e66", weather)
    for x, y, r in ((0.08, 0.9, 0.05), (0.93, 0.93, 0.06)):
        pen.ellipse(x, y, r, r * 0.62, tone("#9aa3bd", weather))
        pen.ellipse(x - r * 0.2, y - r * 0.2, r * 0.6, r * 0.32, tone("#b8c0d6", weather))


def _farm(pen: Pen, weather: str, variant: int) -> None:
    _hill(pen, [(-0.2, 0.52), (0.3, 0.47), (0.7, 0.54), (1.2, 0.48)], ground("#a9cf5b", weather))
    barn = pen.at(0.74, 0.62, 0.52)
    red, dark = tone("#d63a3a", weather), tone("#a92a30", weather)
    roof = tone("#7d4a3a", weather) if weather != "snow" else (255, 255, 255)
    barn.polygon(
        [(-0.4, 0.05), (-0.4, -0.42), (-0.24, -0.66), (0, -0.78), (0.24, -0.66), (0.4, -0.42), (0.4, 0.05)], red
    )
    barn.stroke([(-0.45, -0.4), (-0.26, -0.68), (0, -0.82), (0.26, -0.68), (0.45, -0.4)], 0.075, roof, bend=False)
    barn.box(-0.17, -0.34, 0.17, 0.05, dark)
    for line in (
        [(-0.17, 0.03), (0.17, -0.34)],
        [(-0.17, -0.34), (0.17, 0.03)],
        [(-0.17, 0.03), (-0.17, -0.34), (0.17, -0.34), (0.17, 0.03)],
    ):
        barn.stroke(line, 0.03, tone("#ffffff", weather), bend=False)
    barn.ellipse(0, -0.54, 0.085, 0.085, tone("#ffe9a8", weather))
    _hill(pen, [(-0.2, 0.62), (0.4, 0.6), (1.2, 0.62)], ground("#f2c63e", weather))
    for row, y in enumerate((0.63, 0.69, 0.77, 0.87)):
        color, thick = ground("#dba82c", weather), 0.012 + 0.006 * row
        _hill(pen, [(-0.2, y), (0.5, y - 0.012), (1.2, y)], color)
        _hill(
            pen,
            [(-0.2, y + thick), (0.5, y - 0.012 + thick), (1.2, y + thick)],
            ground(("#f2c63e", "#f5cd4d")[row % 2], weather),
        )
    for x in (0.0, 0.12, 0.24, 0.36):
        pen.box(x - 0.014, 0.5, x + 0.014, 0.66, tone("#fff6e5", weather), 0.012)
    for y in (0.54, 0.6):
        pen.box(-0.2, y - 0.011, 0.4, y + 0.011, tone("#fff6e5", weather))


def _castle(pen: Pen, weather: str, variant: int) -> None:
    _hill(pen, [(-0.2, 0.56), (0.5, 0.46), (1.2, 0.56)], ground("#b6a6e8", weather))
    wall, dark = tone("#f3b8d0", weather), tone("#e39cbc", weather)
    roof, snow = tone("#7a45c9", weather), weather == "snow"
    pen.box(0.16, 0.38, 0.84, 0.68, wall)
    for i in range(9):
        pen.box(0.16 + i * 0.08, 0.345, 0.2 + i * 0.08, 0.4, wall)
    for x, top, wide in ((0.12, 0.28, 0.085), (0.88, 0.28, 0.085), (0.36, 0.22, 0.07), (0.64, 0.22, 0.07)):
        pen.box(x - wide, top, x + wide, 0.68, dark if wide < 0.08 else wall)
        pen.polygon([(x - wide - 0.025, top + 0.005), (x, top - 0.19), (x + wide + 0.025, top + 0.005)], roof)
        if snow:
            pen.polygon(
                [(x - wide * 0.62, top - 0.085), (x, top - 0.19), (x + wide * 0.62, top - 0.085), (x, top - 0.06)],
                "#ffffff",
            )
        pen.box(
            x - 0.022,
            top + 0.07,
            x + 0.022,
            top + 0.14,
            tone("#5b3a94", weather) if weather != "night" else "#ffe27a",
            0.02,
        )
        pen.polygon([(x, top - 0.235), (x + 0.055, top - 0.215), (x, top - 0.19)], tone("#ffcf33", weather))
    pen.box(0.42, 0.46, 0.58, 0.75, tone("#5b3a94", weather), 0.075)
    _hill(pen, [(-0.2, 0.68), (0.5, 0.64), (1.2, 0.68)], ground("#b9e3b4", weather))
    pen.polygon([(0.42, 0.65), (0.58, 0.65), (0.95, 1.05), (0.05, 1.05)], ground("#e7d9f5", weather))


_DRAW: dict[str, Callable[[Pen, str, int], None]] = {
    "meadow": _meadow,
    "beach": _beach,
    "forest": _forest,
    "town": _town,
    "desert": _desert,
    "mountains": _mountains,
    "farm": _farm,
    "castle": _castle,
}


def draw_place(pen: Pen, place: str, weather: str, variant: int) -> None:
    """The whole background. `variant` (0..2) slides the sky and mirrors the scenery of its odd member."""
    draw_sky(pen, weather, variant)
    scenery = pen.at(1.0, 0.0, flip=True) if variant == 1 else pen
    _DRAW[place](scenery, weather, variant)
