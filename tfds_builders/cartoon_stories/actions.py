"""The ten actions as pictures: who stands where, how they hold themselves, and the big props behind, in hand and in front."""

import dataclasses
from collections.abc import Callable

from tfds_builders.cartoon_stories.characters import Pose
from tfds_builders.cartoon_stories.pen import Pen, shade


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where one character stands: feet at (x, y), `height` of the unit body in picture heights."""

    x: float
    y: float
    height: float


def _row(
    xs: tuple[tuple[float, ...], ...], y: float, heights: tuple[float, float, float] = (0.66, 0.57, 0.47)
) -> tuple[tuple[Slot, ...], ...]:
    """Slots for one, two and three characters side by side on the line `y`."""
    return tuple(tuple(Slot(x, y, height) for x in line) for line, height in zip(xs, heights, strict=True))


_MIDDLE = ((0.5,), (0.29, 0.71), (0.185, 0.5, 0.815))
_LEFT = ((0.33,), (0.2, 0.51), (0.14, 0.39, 0.64))
_STAND = _row(_MIDDLE, 0.93)


def _nothing(pen: Pen, slots: tuple[Slot, ...]) -> None:
    """No shared prop on this side of the group."""


def _no_prop(pen: Pen, place: int) -> None:
    """Nothing in hand."""


@dataclasses.dataclass(frozen=True)
class Staging:
    """One action. `slots[n - 1]` are the places of n characters; `pose(i)` is the body of the i-th.

    `back` and `front` draw shared props in picture coordinates behind and before the group; `prop` draws what the i-th
    character holds, in its own coordinates, between body and arms.
    Nothing of a figure shows below the height `cut`: it is inside something.
    """

    slots: tuple[tuple[Slot, ...], ...]
    pose: Callable[[int], Pose]
    back: Callable[[Pen, tuple[Slot, ...]], None] = _nothing
    prop: Callable[[Pen, int], None] = _no_prop
    front: Callable[[Pen, tuple[Slot, ...]], None] = _nothing
    shadow: bool = True
    cut: float = 1.0


def _kite(pen: Pen, slots: tuple[Slot, ...]) -> None:
    last = slots[-1]
    hand = (last.x + 0.32 * last.height, last.y - 0.62 * last.height)
    pen.stroke([hand, (hand[0] + 0.05, hand[1] - 0.08), (0.78, 0.3)], 0.009, "#fffdf5")
    kite = pen.at(0.79, 0.185, 0.165, 24)
    kite.stroke([(0, 0.95), (0.2, 1.2), (-0.05, 1.45), (0.15, 1.7)], 0.07, "#ffd23e")
    for x, y in ((0.17, 1.18), (0.0, 1.45), (0.14, 1.7)):
        kite.polygon([(x - 0.2, y - 0.12), (x + 0.2, y + 0.12), (x + 0.2, y - 0.12), (x - 0.2, y + 0.12)], "#ff9f1c")
    kite.polygon([(0, -1), (0.78, -0.1), (0, 1), (-0.78, -0.1)], "#e5202e")
    kite.polygon([(0, -1), (0.78, -0.1), (0, -0.1)], "#ffd23e")
    kite.polygon([(0, 1), (-0.78, -0.1), (0, -0.1)], "#ff7a1c")


def _book(pen: Pen, place: int) -> None:
    for sign in (-1, 1):
        pen.polygon([(0, -0.40), (sign * 0.27, -0.445), (sign * 0.27, -0.125), (0, -0.07)], "#fffaf0")
        pen.polygon(
            [(0, -0.375), (sign * 0.285, -0.42), (sign * 0.285, -0.10), (0, -0.05)],
            "#1f6fe5" if sign < 0 else "#2f86ff",
        )
    pen.stroke([(0, -0.36), (0, -0.06)], 0.025, "#124aa8", bend=False)
    pen.star(0.14, -0.25, 0.075, "#ffd23e")
    pen.star(-0.14, -0.25, 0.075, "#ffd23e")


def _cake(pen: Pen, slots: tuple[Slot, ...]) -> None:
    left, right = (0.17, 0.83) if len(slots) == 1 else (0.06, 0.94)
    for x in (left + 0.06, right - 0.06):
        pen.box(x - 0.022, 0.86, x + 0.022, 1.0, "#9a5f35")
    pen.box(left, 0.795, right, 0.835, "#ffffff", 0.018)
    count = round((right - left) / 0.11)
    wide = (right - left - 0.02) / count
    pen.box(left + 0.01, 0.81, right - 0.01, 0.875, "#ffffff")
    for i in range(count):
        x = left + 0.01 + (i + 0.5) * wide
        pen.ellipse(x, 0.875, wide / 2, 0.035, "#ff6b6b" if i % 2 else "#ffffff")
        if i % 2:
            pen.box(x - wide / 2, 0.825, x + wide / 2, 0.877, "#ff6b6b")
    cake = pen.at(0.5, 0.81, 0.86)
    cake.ellipse(0, 0, 0.17, 0.02, "#d7dbe8")
    cake.box(-0.14, -0.095, 0.14, 0.0, "#ff7fb5", 0.02)
    cake.box(-0.14, -0.05, 0.14, -0.03, "#fff3f8")
    cake.box(-0.095, -0.17, 0.095, -0.09, "#ffa3cb", 0.02)
    cake.box(-0.095, -0.17, 0.095, -0.145, "#fffafc", 0.012)
    for i in range(4):
        cake.ellipse(-0.072 + i * 0.048, -0.142, 0.024, 0.02, "#fffafc")
    for i in range(6):
        cake.ellipse(-0.117 + i * 0.0468, -0.088, 0.0234, 0.02, "#fffafc")
    for x in (-0.055, 0.0, 0.055):
        cake.box(x - 0.008, -0.215, x + 0.008, -0.168, "#3fb8ff")
        cake.ellipse(x, -0.23, 0.012, 0.02, "#ffc21a")


def _bed_width(slots: tuple[Slot, ...]) -> tuple[float, float]:
    return {1: (0.2, 0.8), 2: (0.08, 0.92), 3: (0.03, 0.97)}[len(slots)]


def _bed_back(pen: Pen, slots: tuple[Slot, ...]) -> None:
    left, right = _bed_width(slots)
    top = 0.42
    pen.box(left, top, right, 0.97, "#a9632f", 0.06)
    pen.box(left + 0.035, top + 0.035, right - 0.035, 0.9, "#c98245", 0.04)
    for slot in slots:
        wide = (0.42 if len(slots) == 1 else 0.31) * slot.height
        pen.box(slot.x - wide, 0.52, slot.x + wide, 0.74, "#ffffff", 0.055)


def _bed_front(pen: Pen, slots: tuple[Slot, ...]) -> None:
    left, right = _bed_width(slots)
    pen.box(left + 0.012, 0.745, right - 0.012, 0.95, "#5b4fd6", 0.035)
    pen.box(left + 0.012, 0.735, right - 0.012, 0.795, "#f4f0ff", 0.025)
    count = round((right - left) / 0.12)
    for i in range(count):
        pen.star(left + (i + 0.5) * (right - left) / count, 0.865, 0.034, "#ffd84d")
    pen.box(left - 0.005, 0.925, right + 0.005, 0.965, "#a9632f", 0.015)
    for x in (left + 0.03, right - 0.03):
        pen.box(x - 0.025, 0.93, x + 0.025, 1.0, "#8a4f24", 0.01)
    for x, y, size in ((0.7, 0.33, 0.05), (0.79, 0.22, 0.068), (0.89, 0.1, 0.085)):
        letter = pen.at(x, y, size)
        for width, color in ((0.62, "#3b2f8f"), (0.32, "#ffffff")):
            letter.stroke([(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)], width, color, bend=False)


def _guitar(pen: Pen, place: int) -> None:
    body = pen.at(-0.06, -0.20, 1.0, -32)
    body.stroke([(0.1, 0), (0.52, 0)], 0.06, "#7a4526", bend=False)
    body.box(0.5, -0.055, 0.62, 0.055, "#5b3018", 0.02)
    body.ellipse(-0.1, 0, 0.165, 0.155, "#ff9d2e")
    body.ellipse(0.09, 0, 0.12, 0.115, "#ff9d2e")
    body.ellipse(-0.1, 0, 0.135, 0.125, "#ffb54f")
    body.ellipse(0.09, 0, 0.09, 0.085, "#ffb54f")
    body.ellipse(0.03, 0, 0.06, 0.06, "#6b3413")
    body.box(-0.19, -0.05, -0.16, 0.05, "#6b3413")
    body.stroke([(-0.17, 0), (0.52, 0)], 0.012, "#fff6dc", bend=False)


def _car_span(slots: tuple[Slot, ...]) -> tuple[float, float]:
    return {1: (0.14, 0.88), 2: (0.05, 0.95), 3: (0.02, 0.98)}[len(slots)]


def _car_back(pen: Pen, slots: tuple[Slot, ...]) -> None:
    left, right = _car_span(slots)
    pen.ellipse((left + right) / 2, 0.965, (right - left) * 0.5, 0.03, (20, 20, 50, 70))
    pen.box(left + 0.05, 0.62, right - 0.12, 0.8, "#8c1420", 0.05)


def _car_front(pen: Pen, slots: tuple[Slot, ...]) -> None:
    left, right = _car_span(slots)
    red, dark = "#f0303c", "#c41f2e"
    pen.polygon([(right - 0.17, 0.73), (right - 0.225, 0.61), (right - 0.19, 0.6), (right - 0.115, 0.73)], "#cdf3ff")
    pen.stroke([(right - 0.228, 0.605), (right - 0.17, 0.73)], 0.016, "#ffffff", bend=False)
    pen.blob(
        [
            (left, 0.8),
            (left + 0.03, 0.71),
            (left + 0.14, 0.69),
            (right - 0.24, 0.7),
            (right - 0.07, 0.73),
            (right, 0.8),
            (right - 0.01, 0.9),
            (left + 0.01, 0.9),
        ],
        red,
    )
    pen.box(left + 0.005, 0.86, right - 0.005, 0.915, dark, 0.025)
    pen.box(left + 0.05, 0.765, right - 0.13, 0.79, "#ffffff", 0.012)
    pen.ellipse(right - 0.045, 0.79, 0.026, 0.034, "#ffe680")
    for x in (left + 0.17, right - 0.17):
        pen.ellipse(x, 0.905, 0.085, 0.085, "#2c2a3a")
        pen.ellipse(x, 0.905, 0.048, 0.048, "#e8ebf5")
        pen.ellipse(x, 0.905, 0.018, 0.018, "#2c2a3a")


def _pool_span(slots: tuple[Slot, ...]) -> float:
    return {1: 0.36, 2: 0.45, 3: 0.48}[len(slots)]


def _pool_back(pen: Pen, slots: tuple[Slot, ...]) -> None:
    half = _pool_span(slots)
    pen.ellipse(0.5, 0.765, half, 0.115, "#0f86d6")
    pen.ellipse(0.5, 0.77, half - 0.035, 0.09, "#5cd0ff")


def _pool_front(pen: Pen, slots: tuple[Slot, ...]) -> None:
    half = _pool_span(slots)
    for slot in slots:
        pen.ellipse(slot.x, 0.805, 0.27 * slot.height, 0.03, "#d9f6ff")
    wall = [
        (0.5 - half, 0.765),
        (0.5 - half * 0.72, 0.828),
        (0.5, 0.856),
        (0.5 + half * 0.72, 0.828),
        (0.5 + half, 0.765),
    ]
    low = [
        (0.5 + half * 0.94, 0.9),
        (0.5 + half * 0.6, 0.955),
        (0.5, 0.975),
        (0.5 - half * 0.6, 0.955),
        (0.5 - half * 0.94, 0.9),
    ]
    pen.polygon([*wall, *low], "#1a9bf0")
    pen.stroke(wall, 0.034, "#8fe3ff")
    pen.stroke([(x, y - 0.012) for x, y in reversed(low)], 0.03, "#0f7fd0")
    for i in range(7):
        share = (i - 3) / 3.0
        pen.star(0.5 + half * 0.84 * share, 0.917 - 0.042 * share * share, 0.024, "#fff27a")
    edges = [slots[0].x - 0.36 * slots[0].height, slots[-1].x + 0.36 * slots[-1].height]
    for x, sign in zip(edges, (-1, 1), strict=True):
        for dx, dy, r in ((0.0, 0.0, 0.026), (0.035, -0.09, 0.021), (-0.015, -0.16, 0.016), (0.06, -0.2, 0.014)):
            pen.polygon(
                [
                    (x + sign * dx, 0.71 + dy - 2 * r),
                    (x + sign * dx + r * 0.8, 0.71 + dy - r * 0.4),
                    (x + sign * dx - r * 0.8, 0.71 + dy - r * 0.4),
                ],
                "#7fdcff",
            )
            pen.ellipse(x + sign * dx, 0.71 + dy, r, r, "#7fdcff")


def _balloons(pen: Pen, place: int) -> None:
    hand = (0.3, -0.42)
    turns = (("#f2303d", "#ffd22e", "#2f86ff"), ("#35b559", "#ff5fa2", "#ff8a1f"), ("#8d55d6", "#2fc4d6", "#f2303d"))[
        place % 3
    ]
    for (x, y), color in zip(((0.22, -1.03), (0.5, -0.98), (0.37, -1.22)), turns, strict=True):
        pen.stroke([hand, (x, y + 0.17)], 0.014, "#fffdf5", bend=False)
        pen.polygon([(x, y + 0.13), (x + 0.035, y + 0.19), (x - 0.035, y + 0.19)], shade(color, -0.1))
        pen.ellipse(x, y, 0.135, 0.155, color)
        pen.ellipse(x - 0.045, y - 0.055, 0.03, 0.045, (255, 255, 255, 190), 25)


def _dance_floor(pen: Pen, slots: tuple[Slot, ...]) -> None:
    colors = ("#ff4fa3", "#ffd22e", "#3fd0ff", "#8ce24a")
    pen.polygon([(0.13, 0.8), (0.87, 0.8), (1.0, 0.985), (0.0, 0.985)], "#4b2a86")
    for row in range(3):
        for column in range(6):
            tile = []
            for u, v in ((column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)):
                y = 0.81 + 0.165 * (v / 3) ** 1.15
                half = 0.36 + 0.13 * (y - 0.8) / 0.185
                tile.append((0.5 + half * (u / 3 - 1), y))
            pen.polygon(tile, colors[(column + row * 2) % 4])


def _note(pen: Pen, x: float, y: float, size: float, color: str, turn: float) -> None:
    note = pen.at(x, y, size, turn)
    note.ellipse(-0.5, 0.55, 0.34, 0.26, color, -20)
    note.ellipse(0.42, 0.4, 0.34, 0.26, color, -20)
    note.polygon(
        [
            (-0.3, 0.55),
            (-0.3, -0.72),
            (0.76, -0.92),
            (0.76, 0.4),
            (0.6, 0.4),
            (0.6, -0.5),
            (-0.14, -0.34),
            (-0.14, 0.55),
        ],
        color,
    )


def _dance_front(pen: Pen, slots: tuple[Slot, ...]) -> None:
    for x, y, size, color, turn in (
        (0.12, 0.18, 0.085, "#ff4fa3", -12),
        (0.88, 0.2, 0.085, "#ffd22e", 12),
        (0.36, 0.1, 0.062, "#3fd0ff", 8),
        (0.65, 0.09, 0.062, "#8ce24a", -8),
    ):
        _note(pen, x, y, size, color, turn)


def _easel(pen: Pen, slots: tuple[Slot, ...]) -> None:
    wide = 0.21 if len(slots) == 1 else 0.155
    easel = pen.at(0.97 - wide, 0.0)
    wood = "#a5642f"
    for x0, x1 in ((-0.02, -wide + 0.01), (0.02, wide - 0.01)):
        easel.stroke([(x0, 0.3), (x1, 0.95)], 0.026, wood, bend=False)
    easel.box(-0.013, 0.27, 0.013, 0.4, wood)
    easel.box(-wide, 0.37, wide, 0.74, "#d8d2c8", 0.012)
    easel.box(-wide + 0.008, 0.378, wide - 0.008, 0.732, "#ffffff", 0.01)
    easel.box(-wide, 0.74, wide, 0.77, wood, 0.01)
    scale = wide / 0.21
    for radius, color in ((0.16, "#f2303d"), (0.13, "#ff9d1e"), (0.1, "#ffe02e"), (0.07, "#35b559"), (0.04, "#ffffff")):
        arc = [
            (-radius * scale, 0.67),
            (-radius * scale * 0.71, 0.67 - radius * 1.1),
            (0, 0.67 - radius * 1.55),
            (radius * scale * 0.71, 0.67 - radius * 1.1),
            (radius * scale, 0.67),
        ]
        easel.blob([*arc], color)
    easel.box(-wide + 0.02, 0.66, wide - 0.02, 0.722, "#ffffff")
    for i, color in enumerate(("#8d55d6", "#2f86ff", "#35b559", "#ff4fa3")):
        easel.ellipse((-0.12 + i * 0.08) * scale, 0.692, 0.026 * scale, 0.02, color)


def _brush(pen: Pen, place: int) -> None:
    pen.stroke([(0.27, -0.36), (0.40, -0.53)], 0.038, "#8a4f24", bend=False)
    pen.stroke([(0.395, -0.525), (0.43, -0.57)], 0.062, "#d7dbe8", bend=False)
    pen.ellipse(0.45, -0.6, 0.05, 0.062, ("#f2303d", "#2f86ff", "#ff9d1e")[place % 3], 38)
    pen.ellipse(-0.28, -0.27, 0.165, 0.115, "#d99a5b", -14)
    for x, y, color in (
        (-0.38, -0.27, "#f2303d"),
        (-0.31, -0.33, "#ffe02e"),
        (-0.22, -0.33, "#2f86ff"),
        (-0.28, -0.235, "#35b559"),
    ):
        pen.ellipse(x, y, 0.032, 0.028, color)


def _dance_pose(place: int) -> Pose:
    lean = (9.0, -9.0, 9.0)[place]
    return Pose((-0.36, -0.60), (0.36, -0.60), "happy", lean, kick=True)


STAGINGS: dict[str, Staging] = {
    "fly_kite": Staging(
        _row(_LEFT, 0.93),
        lambda i: Pose(left=(-0.27, -0.24), right=(0.31, -0.60)),
        back=_kite,
    ),
    "read_book": Staging(
        _STAND,
        lambda i: Pose((-0.255, -0.25), (0.255, -0.25)),
        prop=_book,
    ),
    "eat_cake": Staging(
        _row(_MIDDLE, 0.955, (0.66, 0.6, 0.5)),
        lambda i: Pose((-0.30, -0.45), (0.30, -0.45), "happy"),
        front=_cake,
        shadow=False,
    ),
    "sleep": Staging(
        _row(_MIDDLE, 1.0, (0.62, 0.6, 0.52)),
        lambda i: Pose((-0.2, -0.3), (0.2, -0.3), "closed", tail=False),
        _bed_back,
        front=_bed_front,
        shadow=False,
        cut=0.85,
    ),
    "play_guitar": Staging(
        _STAND,
        lambda i: Pose((-0.16, -0.17), (0.29, -0.42), "happy"),
        prop=_guitar,
    ),
    "drive_car": Staging(
        _row(((0.43,), (0.25, 0.56), (0.16, 0.44, 0.7)), 0.925, (0.64, 0.57, 0.49)),
        lambda i: Pose((-0.3, -0.52), (0.31, -0.54)),
        _car_back,
        front=_car_front,
        shadow=False,
        cut=0.85,
    ),
    "splash_pool": Staging(
        _row(_MIDDLE, 1.0, (0.66, 0.6, 0.5)),
        lambda i: Pose((-0.36, -0.60), (0.36, -0.60), "happy"),
        _pool_back,
        front=_pool_front,
        shadow=False,
        cut=0.87,
    ),
    "hold_balloons": Staging(
        _row(((0.44,), (0.24, 0.66), (0.15, 0.46, 0.77)), 0.93, (0.62, 0.55, 0.46)),
        lambda i: Pose((-0.27, -0.24), (0.31, -0.44)),
        prop=_balloons,
    ),
    "dance": Staging(
        _row(_MIDDLE, 0.93, (0.64, 0.56, 0.46)),
        _dance_pose,
        _dance_floor,
        front=_dance_front,
    ),
    "paint": Staging(
        _row(((0.3,), (0.19, 0.5), (0.14, 0.375, 0.61)), 0.93, (0.64, 0.54, 0.45)),
        lambda i: Pose((-0.2, -0.24), (0.3, -0.40)),
        _easel,
        prop=_brush,
    ),
}
