"""Skies, falling things, and how the light of a weather colours what it falls on."""

import numpy as np
from PIL import Image

from tfds_builders.cartoon_stories.pen import Color, Pen, mix, shade
from tfds_builders.chance import Dice

# Top, middle and horizon of the sky.
SKY = {
    "sunny": ("#2f9df4", "#7fcbff", "#dff4ff"),
    "night": ("#141a4d", "#27347f", "#4a58ad"),
    "rain": ("#5f738c", "#8296ab", "#a9b9c7"),
    "snow": ("#a9c4e6", "#c9dcf2", "#eef5fd"),
    "sunset": ("#7a4fb5", "#f5708b", "#ffc46b"),
}
# (light colour, share): the scenery is moved this far towards the colour of the light.
_SCENERY = {
    "sunny": ("#fff6c9", 0.06),
    "night": ("#1d2775", 0.5),
    "rain": ("#6b7f96", 0.3),
    "snow": ("#f4f9ff", 0.27),
    "sunset": ("#e0603a", 0.24),
}
# Factors of red, green and blue for whoever stands in front: milder, so that friends keep their colours.
_FIGURES = {
    "sunny": (1.0, 1.0, 1.0),
    "night": (0.89, 0.87, 1.0),
    "rain": (0.89, 0.92, 0.96),
    "snow": (0.97, 0.99, 1.0),
    "sunset": (1.0, 0.93, 0.86),
}


def tone(color: Color, weather: str) -> tuple[int, int, int, int]:
    """Scenery colour in this weather's light."""
    return mix(color, *_SCENERY[weather])


def ground(color: Color, weather: str) -> tuple[int, int, int, int]:
    """Colour of flat ground: as scenery, but covered where it snows."""
    return mix(color, "#ffffff", 0.62) if weather == "snow" else tone(color, weather)


def figure_light(weather: str) -> list[int]:
    """Lookup table (3 x 256) that tints figures and props."""
    return [round(level * factor) for factor in _FIGURES[weather] for level in range(256)]


def _gradient(size: int, colors: tuple[str, ...], end: float) -> Image.Image:
    """Opaque square that runs through `colors` from the top to the height `end`."""
    rows = np.clip(np.arange(size) / (size * end), 0, 1)
    stops = np.linspace(0, 1, len(colors))
    table = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in colors], float)
    lines = np.stack([np.interp(rows, stops, table[:, channel]) for channel in range(3)], -1)
    return Image.fromarray(np.repeat(np.rint(lines)[:, None].astype(np.uint8), size, 1), "RGB").convert("RGBA")


def _cloud(pen: Pen, x: float, y: float, scale: float, color: Color) -> None:
    puff = pen.at(x, y, scale)
    low = shade(color, -0.05)
    for dx, dy, r in ((-0.5, 0.06, 0.3), (0.55, 0.07, 0.28), (0.0, 0.08, 0.38)):
        puff.ellipse(dx, dy + 0.05, r, r * 0.8, low)
    for dx, dy, r in ((-0.52, 0.05, 0.27), (-0.18, -0.14, 0.36), (0.22, -0.06, 0.34), (0.57, 0.06, 0.24)):
        puff.ellipse(dx, dy, r, r * 0.86, color)


def draw_sky(pen: Pen, weather: str, variant: int) -> None:
    """Sky with its sun, moon, stars or clouds; the arrangement mirrors and slides with `variant`."""
    image = pen.canvas[0]
    image.paste(_gradient(image.width, SKY[weather], 0.66))
    side = (0.2, 0.8, 0.34)[variant]
    if weather == "sunny":
        for radius, glow in ((0.2, 60), (0.155, 90)):
            pen.ellipse(side, 0.17, radius, radius, (255, 244, 176, glow))
        pen.ellipse(side, 0.17, 0.112, 0.112, "#ffdf3f")
        for x, y, scale in ((side + 0.42, 0.16, 0.13), (side - 0.36, 0.28, 0.11), (side + 0.62, 0.34, 0.1)):
            _cloud(pen, x % 1.2 - 0.1, y, scale, "#ffffff")
    elif weather == "night":
        dice = Dice(f"stars {variant}")
        for _ in range(26):
            radius = 0.006 + 0.011 * dice.fraction()
            pen.star(dice.fraction(), 0.5 * dice.fraction(), radius * 1.5, "#fff7c2", 4, 0.35)
        for radius, glow in ((0.19, 34), (0.145, 50)):
            pen.ellipse(side, 0.17, radius, radius, (255, 250, 214, glow))
        pen.ellipse(side, 0.17, 0.105, 0.105, "#fff3b8")
        for dx, dy, r in ((-0.03, -0.03, 0.022), (0.04, 0.0, 0.016), (-0.01, 0.045, 0.018)):
            pen.ellipse(side + dx, 0.17 + dy, r, r, "#efdc93")
    elif weather == "rain":
        for x, y, scale in ((0.12, 0.08, 0.26), (0.55, 0.05, 0.3), (0.95, 0.1, 0.25)):
            _cloud(pen, x + 0.06 * (variant - 1), y, scale, "#56677e")
        for x, y, scale in ((0.32, 0.16, 0.17), (0.78, 0.19, 0.16)):
            _cloud(pen, x - 0.06 * (variant - 1), y, scale, "#6c7e95")
    elif weather == "snow":
        for x, y, scale in ((0.15, 0.1, 0.2), (0.62, 0.07, 0.24), (0.95, 0.2, 0.15)):
            _cloud(pen, x - 0.05 * (variant - 1), y, scale, "#f7fbff")
    else:
        sun = (0.28, 0.72, 0.5)[variant]
        for radius, glow in ((0.32, 50), (0.24, 70)):
            pen.ellipse(sun, 0.47, radius, radius, (255, 226, 130, glow))
        pen.ellipse(sun, 0.47, 0.15, 0.15, "#ffe27a")
        for x, y, scale in ((sun + 0.38, 0.2, 0.12), (sun - 0.34, 0.13, 0.13)):
            _cloud(pen, x % 1.2 - 0.1, y, scale, "#ffa9a0")


def draw_falling(pen: Pen, weather: str, variant: int) -> None:
    """Rain streaks or snow flakes in front of everything, thick enough to survive a small picture, thin enough for faces."""
    dice = Dice(f"falling {weather} {variant}")
    for row in range(7):
        for column in range(6):
            x = (column + 0.15 + 0.7 * dice.fraction()) / 6 + (0.08 if row % 2 else 0.0)
            y = (row + 0.15 + 0.7 * dice.fraction()) / 7
            if weather == "rain":
                pen.at(x, y, 1.0, 14).polygon(
                    [(-0.0055, -0.045), (0.0055, -0.045), (0.0075, 0.045), (-0.0075, 0.045)], (205, 232, 255, 175)
                )
            elif weather == "snow":
                radius = 0.009 + 0.011 * dice.fraction()
                pen.ellipse(x, y, radius, radius, (255, 255, 255, 240))
