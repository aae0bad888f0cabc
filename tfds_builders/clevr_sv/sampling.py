"""Which four things stand where, by the rejection rules of the data set's generator; all four can be seen."""

import math
from collections.abc import Sequence

import numpy as np

from tfds_builders.chance import Dice
from tfds_builders.clevr_sv.geometry import things_seen
from tfds_builders.clevr_sv.scene import (
    CAMERA,
    CAMERA_JITTER,
    COLORS,
    FRAMES,
    LIGHT_JITTER,
    LIGHTS,
    MATERIALS,
    RADII,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    directions,
)

APART, MARGIN, TRIES, PIXELS = 0.25, 0.4, 50, 200


def stands_free(x: float, y: float, radius: float, things: Sequence[Thing]) -> bool:
    """Not too near any earlier thing, and clearly to one side of it along each of the four directions."""
    for other in things:
        dx, dy = x - other.x, y - other.y
        if math.hypot(dx, dy) - radius - other.radius < APART:
            return False
        if any(0 < dx * a + dy * b < MARGIN for a, b in directions().values()):
            return False
    return True


def draw_things(dice: Dice) -> tuple[Thing, ...]:
    """Four things by the rejection rules of the original script: too many failed places start the scene anew."""
    while True:
        things: list[Thing] = []
        while len(things) < FRAMES:
            size = dice.pick(SIZES)
            places = ((6 * dice.fraction() - 3, 6 * dice.fraction() - 3) for _ in range(TRIES))
            place = next((p for p in places if stands_free(*p, RADII[size], things)), None)
            if place is None:
                break
            shape, color, turn = dice.pick(SHAPES), dice.pick(COLORS), 360 * dice.fraction()
            # The script takes degrees for radians; the turns stay uniform.
            things.append(Thing(shape, color, dice.pick(MATERIALS), size, *place, turn % math.tau))
        if len(things) == FRAMES:
            return tuple(things)


def draw_scene(seed: int, index: int) -> Scene:
    """Story `index` of the stories of `seed`, the same everywhere; all four things can be seen."""
    dice = Dice(f"clevr_sv {seed} {index}")

    def moved(position: Sequence[float], by: float) -> tuple[float, float, float]:
        x, y, z = (value + by * (2 * dice.fraction() - 1) for value in position)
        return x, y, z

    camera = moved(CAMERA, CAMERA_JITTER)
    lights = {name: moved(position, LIGHT_JITTER) for name, position in LIGHTS.items()}
    while True:
        scene = Scene(camera, lights, draw_things(dice))
        seen = np.bincount(things_seen(scene).ravel(), minlength=FRAMES + 1)
        if (seen >= PIXELS).all():
            return scene
