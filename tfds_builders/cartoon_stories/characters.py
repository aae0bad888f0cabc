"""The eight friends: one body plan, one head per species, each with its own colours, silhouette and something it wears.

A character is drawn in its own coordinates: feet at (0, 0), top of the head near (0, -0.93), ears and hats above.
"""

import dataclasses

from tfds_builders.cartoon_stories.pen import Color, Pen, Point, mix, shade

DARK = "#2b2233"


@dataclasses.dataclass(frozen=True)
class Pose:
    """How a body is held. Hands are points in the character's coordinates; `turn` leans it (degrees clockwise)."""

    left: Point = (-0.25, -0.22)
    right: Point = (0.25, -0.22)
    eyes: str = "open"  # open | closed | happy
    turn: float = 0.0
    kick: bool = False
    tail: bool = True


@dataclasses.dataclass(frozen=True)
class Coat:
    """Colours of one character: fur, belly or face patch, limbs, and the clothes' two colours."""

    fur: Color
    light: Color
    limb: Color
    cloth: Color
    trim: Color


COATS = {
    "fox": Coat("#f0702a", "#fff1de", "#5a2d22", "#12a594", "#0c7f74"),
    "bear": Coat("#94562f", "#e9b987", "#7c4525", "#2f6be0", "#ffd23e"),
    "rabbit": Coat("#fff4ea", "#ffb7cf", "#fff4ea", "#ff4f9a", "#ffd9e8"),
    "penguin": Coat("#26366f", "#ffffff", "#ff9d1e", "#ea2f3d", "#ffffff"),
    "cat": Coat("#8d55d6", "#d9b8ff", "#7a45c2", "#ffd02e", "#ffec9e"),
    "frog": Coat("#52b947", "#c9f09a", "#41a038", "#ff8a1f", "#fff0d6"),
    "duck": Coat("#ffd22f", "#ffe98c", "#ff8c1a", "#ffffff", "#2566d8"),
    "elephant": Coat("#93a9cf", "#c3d1ea", "#8399c2", "#1f9d55", "#f7c948"),
}
HEAD_Y, HEAD_X, HEAD_H = -0.67, 0.275, 0.25


def _tail(pen: Pen, species: str, coat: Coat) -> None:
    if species == "fox":
        pen.blob(
            [(0.08, -0.12), (0.22, -0.10), (0.40, -0.22), (0.44, -0.44), (0.34, -0.36), (0.22, -0.28), (0.08, -0.22)],
            coat.fur,
        )
        pen.blob([(0.44, -0.46), (0.46, -0.34), (0.41, -0.25), (0.34, -0.31), (0.35, -0.38)], coat.light)
    elif species == "cat":
        pen.stroke([(0.1, -0.12), (0.28, -0.08), (0.35, -0.24), (0.31, -0.38), (0.38, -0.44)], 0.07, coat.fur)
        pen.ellipse(0.375, -0.435, 0.04, 0.04, coat.light)
    elif species == "rabbit":
        pen.ellipse(0.2, -0.14, 0.09, 0.09, "#ffffff")
    elif species == "duck":
        pen.blob([(0.1, -0.1), (0.25, -0.14), (0.33, -0.27), (0.2, -0.26), (0.1, -0.24)], coat.fur)


def _ears(pen: Pen, species: str, coat: Coat) -> None:
    """What stands up behind the head."""
    for flip in (False, True):
        side = pen.at(0, 0, flip=flip)
        if species in ("fox", "cat"):
            tip = (0.25, -1.06) if species == "fox" else (0.235, -1.02)
            side.polygon([(0.04, -0.88), tip, (0.275, -0.70)], coat.fur)
            inner = mix(coat.fur, coat.light, 0.8)
            side.polygon([(0.11, -0.86), (tip[0] - 0.012, tip[1] + 0.07), (0.24, -0.76)], inner)
            if species == "fox":
                side.polygon([tip, (0.176, -0.99), (0.254, -0.965)], coat.limb)
        elif species == "bear":
            side.ellipse(0.205, -0.885, 0.105, 0.105, coat.fur)
            side.ellipse(0.21, -0.88, 0.058, 0.058, coat.light)
        elif species == "rabbit":
            side.ellipse(0.125, -1.06, 0.08, 0.245, coat.fur, 9)
            side.ellipse(0.13, -1.05, 0.042, 0.18, coat.light, 9)
        elif species == "frog":
            side.ellipse(0.155, -0.885, 0.105, 0.105, coat.fur)
        elif species == "elephant":
            side.blob(
                [(0.18, -0.86), (0.34, -0.92), (0.43, -0.76), (0.39, -0.57), (0.30, -0.50), (0.18, -0.56)], coat.fur
            )
            side.blob(
                [(0.22, -0.82), (0.33, -0.86), (0.385, -0.74), (0.35, -0.61), (0.30, -0.56), (0.22, -0.60)], "#ffb9c9"
            )


def _body(pen: Pen, species: str, coat: Coat, pose: Pose) -> None:
    """Legs, trunk and clothes."""
    for sign in (-1, 1):
        lift = 0.06 if pose.kick and sign > 0 else 0.0
        x, y = sign * (0.1 + lift), -0.035 - lift
        if species in ("penguin", "duck"):
            pen.ellipse(x + sign * 0.03, y, 0.1, 0.045, coat.limb)
            continue
        pen.stroke([(sign * 0.09, -0.16), (x, y - 0.02)], 0.115, coat.limb)
        pen.ellipse(x + sign * 0.015, y - 0.008, 0.083, 0.052, coat.limb)
    trunk = [(0.0, -0.50), (0.14, -0.46), (0.195, -0.28), (0.185, -0.13), (0.1, -0.075), (0.0, -0.07)]
    pen.mirror_blob(trunk, coat.fur)
    if species == "fox":
        pen.mirror_blob([(0.0, -0.46), (0.1, -0.38), (0.11, -0.2), (0.0, -0.1)], coat.light)
    elif species == "bear":
        pen.mirror_blob(
            [(0.0, -0.31), (0.12, -0.32), (0.197, -0.26), (0.187, -0.13), (0.1, -0.073), (0.0, -0.07)], coat.cloth
        )
        pen.box(-0.11, -0.42, 0.11, -0.26, coat.cloth, 0.02)
        for sign in (-1, 1):
            pen.stroke([(sign * 0.1, -0.4), (sign * 0.13, -0.5)], 0.05, coat.cloth)
            pen.ellipse(sign * 0.085, -0.39, 0.026, 0.026, coat.trim)
        pen.box(-0.05, -0.27, 0.05, -0.18, shade(coat.cloth, -0.12), 0.02)
    elif species in ("rabbit", "cat", "duck"):
        pen.polygon([(-0.1, -0.5), (0.1, -0.5), (0.265, -0.1), (-0.265, -0.1)], coat.cloth)
        pen.mirror_blob([(0.0, -0.12), (0.24, -0.13), (0.262, -0.085), (0.0, -0.06)], coat.cloth)
        hem = coat.trim
        pen.polygon([(-0.238, -0.165), (0.238, -0.165), (0.258, -0.118), (-0.258, -0.118)], hem)
        if species == "duck":
            pen.polygon([(-0.16, -0.47), (0.16, -0.47), (0.0, -0.27)], coat.trim)
    elif species == "penguin":
        pen.mirror_blob([(0.0, -0.48), (0.11, -0.42), (0.145, -0.27), (0.13, -0.13), (0.0, -0.085)], coat.light)
    elif species == "frog":
        pen.mirror_blob([(0.0, -0.50), (0.145, -0.46), (0.2, -0.28), (0.19, -0.14), (0.0, -0.12)], coat.cloth)
        for y in (-0.36, -0.24):
            pen.box(-0.178 - (y > -0.3) * 0.02, y - 0.025, 0.178 + (y > -0.3) * 0.02, y + 0.025, coat.trim)
    elif species == "elephant":
        pen.mirror_blob([(0.0, -0.50), (0.145, -0.46), (0.2, -0.28), (0.19, -0.15), (0.0, -0.13)], coat.cloth)
        pen.polygon([(-0.07, -0.5), (0.07, -0.5), (0.025, -0.12), (-0.025, -0.12)], "#ffffff")
        for y in (-0.36, -0.27, -0.18):
            pen.ellipse(0.0, y, 0.02, 0.02, coat.trim)


def _eyes(pen: Pen, pose: Pose, x: float, y: float, size: float) -> None:
    for sign in (-1, 1):
        if pose.eyes == "closed":
            pen.stroke([(sign * x - 0.05, y), (sign * x, y + 0.03), (sign * x + 0.05, y)], 0.024, DARK)
        elif pose.eyes == "happy":
            pen.stroke([(sign * x - 0.045, y + 0.02), (sign * x, y - 0.028), (sign * x + 0.045, y + 0.02)], 0.026, DARK)
        else:
            pen.ellipse(sign * x, y, size * 0.82, size, DARK)
            pen.ellipse(sign * x + 0.014, y - size * 0.4, size * 0.34, size * 0.36, "#ffffff")


def _smile(pen: Pen, y: float, width: float, open_mouth: bool) -> None:
    if open_mouth:
        pen.blob(
            [(-width, y), (0, y + 0.008), (width, y), (width * 0.6, y + 0.06), (0, y + 0.08), (-width * 0.6, y + 0.06)],
            "#8d1f3a",
        )
        pen.ellipse(0, y + 0.058, width * 0.45, 0.02, "#ff7d8f")
    else:
        pen.stroke([(-width, y), (0, y + 0.035), (width, y)], 0.02, DARK)


def _head(pen: Pen, species: str, coat: Coat, pose: Pose) -> None:
    """Head, face and what is worn on it."""
    _ears(pen, species, coat)
    pen.ellipse(0, HEAD_Y, HEAD_X, HEAD_H, coat.fur)
    smiling = pose.eyes == "happy"
    eye_y, eye_x = HEAD_Y - 0.01, 0.115
    if species == "fox":
        for sign in (-1, 1):
            pen.blob(
                [(0, -0.60), (sign * 0.13, -0.66), (sign * 0.285, -0.63), (sign * 0.2, -0.48), (0, -0.425)], coat.light
            )
        _smile(pen, -0.535, 0.05, smiling)
        pen.ellipse(0, -0.585, 0.046, 0.034, DARK)
    elif species in ("bear", "cat", "rabbit"):
        if species != "rabbit":
            pen.ellipse(0, -0.565, 0.125, 0.09, coat.light)
        _smile(pen, -0.55, 0.05, smiling)
        pen.ellipse(
            0,
            -0.60,
            *((0.05, 0.036) if species == "bear" else (0.034, 0.026)),
            DARK if species == "bear" else "#ff6f91",
        )
        if species == "cat":
            for sign in (-1, 1):
                for rise in (-0.03, 0.02):
                    pen.stroke([(sign * 0.16, -0.575 + rise * 0.4), (sign * 0.31, -0.58 + rise)], 0.012, coat.light)
    elif species == "penguin":
        for sign in (-1, 1):
            pen.ellipse(sign * 0.095, -0.665, 0.125, 0.15, coat.light)
        pen.ellipse(0, -0.575, 0.19, 0.125, coat.light)
        pen.polygon([(-0.075, -0.615), (0.075, -0.615), (0, -0.52)], coat.limb)
        eye_x = 0.1
    elif species == "frog":
        pen.ellipse(0, -0.56, 0.2, 0.105, coat.light)
        _smile(pen, -0.575, 0.12, smiling)
        eye_x, eye_y = 0.155, -0.88
        for sign in (-1, 1):
            pen.ellipse(sign * eye_x, eye_y, 0.075, 0.075, "#ffffff")
    elif species == "duck":
        pen.ellipse(0, -0.575, 0.155, 0.062, coat.limb)
        pen.ellipse(0, -0.545, 0.11, 0.045, shade(coat.limb, -0.1) if not smiling else "#b5341f")
        pen.ellipse(0, -0.592, 0.15, 0.036, shade(coat.limb, 0.05))
    elif species == "elephant":
        trunk = shade(coat.fur, -0.07)
        pen.stroke([(0, -0.61), (0.0, -0.50), (0.03, -0.42), (0.11, -0.40)], 0.11, trunk)
        for y in (-0.56, -0.50):
            pen.stroke([(-0.03, y), (0.03, y)], 0.014, shade(coat.fur, -0.16))
    _eyes(pen, pose, eye_x, eye_y, 0.056 if species != "frog" else 0.05)
    cheek = (255, 110, 120, 120) if species != "frog" else (255, 190, 70, 150)
    for sign in (-1, 1):
        pen.ellipse(sign * 0.2, -0.595 if species != "frog" else -0.63, 0.05, 0.035, cheek)
    _worn(pen, species, coat)


def _worn(pen: Pen, species: str, coat: Coat) -> None:
    """Scarf, hat, bow or flower: on top of everything else."""
    if species == "fox":
        pen.blob([(-0.2, -0.47), (0, -0.44), (0.2, -0.47), (0.2, -0.39), (0, -0.35), (-0.2, -0.39)], coat.cloth)
        pen.polygon([(0.08, -0.41), (0.18, -0.41), (0.2, -0.19), (0.1, -0.19)], coat.cloth)
        pen.polygon([(0.1, -0.24), (0.194, -0.24), (0.2, -0.19), (0.1, -0.19)], coat.trim)
    elif species == "rabbit":
        for x, y in ((-0.03, -0.05), (0.03, -0.05), (0.05, 0.01), (-0.05, 0.01), (0, 0.05)):
            pen.ellipse(0.17 + x, -0.86 + y, 0.038, 0.038, coat.cloth)
        pen.ellipse(0.17, -0.86, 0.03, 0.03, "#ffd23e")
    elif species == "penguin":
        pen.mirror_blob([(0.0, -1.03), (0.15, -0.97), (0.235, -0.83), (0.225, -0.79), (0.0, -0.80)], coat.cloth)
        pen.box(-0.25, -0.845, 0.25, -0.765, coat.trim, 0.035)
        pen.ellipse(0, -1.04, 0.07, 0.07, coat.trim)
    elif species == "cat":
        for sign in (-1, 1):
            pen.blob([(0, -0.885), (sign * 0.12, -0.97), (sign * 0.15, -0.885), (sign * 0.12, -0.81)], coat.cloth)
        pen.ellipse(0, -0.885, 0.042, 0.042, shade(coat.cloth, -0.1))
    elif species == "duck":
        pen.mirror_blob([(0.0, -1.0), (0.13, -0.985), (0.2, -0.91), (0.17, -0.85), (0.0, -0.83)], coat.cloth)
        pen.box(-0.2, -0.875, 0.2, -0.815, coat.trim, 0.025)
        pen.ellipse(0, -1.0, 0.045, 0.045, coat.trim)
    elif species == "elephant":
        pen.ellipse(0, -0.885, 0.23, 0.045, coat.trim)
        pen.mirror_blob([(0.0, -1.04), (0.11, -1.02), (0.135, -0.89), (0.0, -0.87)], coat.trim)
        pen.polygon([(-0.132, -0.93), (0.132, -0.93), (0.136, -0.885), (-0.136, -0.885)], coat.cloth)


def draw_body(pen: Pen, species: str, pose: Pose) -> None:
    """Everything but the arms."""
    coat = COATS[species]
    if pose.tail:
        _tail(pen, species, coat)
    _body(pen, species, coat, pose)
    _head(pen, species, coat, pose)


def draw_arms(pen: Pen, species: str, pose: Pose) -> None:
    """Both arms, to be drawn after what the hands hold."""
    coat = COATS[species]
    arm = {"frog": coat.cloth, "elephant": coat.fur, "fox": coat.fur}.get(species, coat.fur)
    hand = {"penguin": coat.fur, "duck": coat.fur, "rabbit": coat.fur, "fox": coat.limb}.get(species, coat.limb)
    for sign, target in ((-1, pose.left), (1, pose.right)):
        shoulder = (sign * 0.145, -0.40)
        elbow = ((shoulder[0] + target[0]) / 2 + sign * 0.04, (shoulder[1] + target[1]) / 2 + 0.03)
        wide = 0.12 if species in ("penguin", "duck") else 0.098
        edge = shade(arm, -0.07)
        pen.stroke([shoulder, elbow, target], wide, edge)
        pen.ellipse(*target, 0.062, 0.062, hand if hand != arm else edge)
