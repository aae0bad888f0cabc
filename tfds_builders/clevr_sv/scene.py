"""What a CLEVR-SV story is made of: four things on a ground, their 75 numbers a frame, and sentences about them.

Sources: the data set's generator (StoryGAN's changed CLEVR script) for sampling, directions, relations and vectors; CP-CSV's
loader for the labels. Coordinates are world units: the ground is z = 0, x and y run from -3 to 3.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfds_builders.chance import Dice

FRAMES = 4
HEIGHT, WIDTH = 240, 320  # pixels
SHAPES = ("cube", "sphere", "cylinder")
COLORS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
MATERIALS = ("rubber", "metal")
SIZES = ("large", "small")
LABELS = SHAPES + COLORS + MATERIALS + SIZES  # columns of the multi-hot rows, and the first 15 numbers of a slot
RADII = {"large": 0.7, "small": 0.35}
SLOT, NUMBERS = 18, FRAMES * 18 + 3  # a slot: 15 label columns, then x, y, z; at the end the direction "right"
# Positions of camera and lamps in the base scene; each story moves every coordinate by up to the second number.
CAMERA, CAMERA_JITTER = (7.48113, -6.50764, 5.34367), 0.5
LIGHTS = {"key": (6.447, -2.905, 4.258), "back": (-1.169, 2.646, 5.816), "fill": (-4.671, -4.014, 3.011)}
LIGHT_JITTER = 1.0
RIGHT = (0.65631, 0.75449, 0.0)  # of the camera without jitter, along the ground


@dataclasses.dataclass(frozen=True)
class Thing:
    """One object: names from the tuples above, the place (x, y) it stands on, and its turn about z in radians."""

    shape: str
    color: str
    material: str
    size: str
    x: float
    y: float
    turn: float = 0.0

    @property
    def radius(self) -> float:
        """Half the side of a cube, radius of a sphere, radius and half the height of a cylinder."""
        return RADII[self.size]

    @property
    def center(self) -> tuple[float, float, float]:
        return self.x, self.y, self.radius

    @property
    def words(self) -> str:
        return f"{self.material} {self.color} {self.size} {self.shape}"


@dataclasses.dataclass(frozen=True)
class Scene:
    """The whole fourth picture: `things` in the order in which they appear; camera and lights as positions (x, y, z)."""

    camera: tuple[float, float, float]
    lights: dict[str, tuple[float, float, float]]
    things: tuple[Thing, ...]


def directions(right: Sequence[float] = RIGHT) -> dict[str, tuple[float, float]]:
    """Unit vectors on the ground (x, y) by name; "behind" is "right" turned left by 90 degrees."""
    x, y = float(right[0]), float(right[1])
    return {"front": (y, -x), "behind": (-y, x), "right": (x, y), "left": (-x, -y)}


def related(name: str, one: Thing, other: Thing, right: Sequence[float] = RIGHT, margin: float = 0.2) -> bool:
    """Whether `one` lies in direction `name` of `other`, by more than `margin`."""
    dx, dy = directions(right)[name]
    return (one.x - other.x) * dx + (one.y - other.y) * dy > margin


_SAID = {"front": "in front of", "behind": "behind", "right": "to the right of", "left": "to the left of"}


def sentences(things: Sequence[Thing], name: str, right: Sequence[float] = RIGHT) -> list[str]:
    """One sentence a thing: the first is there, each later one stands in a relation to an earlier one.

    The release stores no sentences; this is the form its own script prints. Which earlier thing is chosen by `name` (the story's),
    so a story always tells the same.
    """
    dice, told = Dice(f"clevr_sv sentences {name}"), [f"there is a {things[0].words}"]
    for number, thing in enumerate(things[1:], start=1):
        for other in dice.sample(things[:number], number):
            relation = next((word for word in _SAID if related(word, thing, other, right)), None)
            if relation:
                told.append(f"a {thing.words} is {_SAID[relation]} the {other.words}")
                break
        else:
            told.append(f"there is a {thing.words}")
    return told


def slot(thing: Thing) -> np.ndarray:
    """The 18 numbers of one thing, float64: 15 columns of `LABELS`, then x, y, z."""
    out = np.zeros(SLOT)
    out[[LABELS.index(name) for name in (thing.shape, thing.color, thing.material, thing.size)]] = 1
    out[15:] = thing.center
    return out


def attributes(things: Sequence[Thing], right: Sequence[float] = RIGHT) -> np.ndarray:
    """(4, 75) float64: in frame k the slots of the first k things are filled, later ones are zero."""
    out = np.zeros((FRAMES, NUMBERS))
    out[:, -3:] = right
    for number, thing in enumerate(things):
        out[number:, number * SLOT : (number + 1) * SLOT] = slot(thing)
    return out


def things_of(numbers: np.ndarray) -> list[Thing]:
    """The things of the filled slots of one frame's 75 numbers. Errors: ValueError that names slot and field."""
    things = []
    for number, row in enumerate(np.asarray(numbers, float)[: FRAMES * SLOT].reshape(FRAMES, SLOT)):
        if not row.any():
            continue
        names, start = [], 0
        for field, known in (("shape", SHAPES), ("color", COLORS), ("material", MATERIALS), ("size", SIZES)):
            part = row[start : start + len(known)]
            if sorted(part) != [0.0] * (len(known) - 1) + [1.0]:
                raise ValueError(f"slot {number + 1} must have one {field} of {', '.join(known)}, got {part.tolist()}")
            names.append(known[int(part.argmax())])
            start += len(known)
        shape, color, material, size = names
        things.append(Thing(shape, color, material, size, float(row[15]), float(row[16])))
    return things


def labels(numbers: np.ndarray) -> np.ndarray:
    """(..., 75) to (..., 15) uint8: which names any thing of the frame has, as CP-CSV's loader makes them."""
    slots = np.asarray(numbers)[..., : FRAMES * SLOT].reshape(*np.shape(numbers)[:-1], FRAMES, SLOT)
    return (slots[..., :15].sum(-2) > 0).astype(np.uint8)
