"""Pictures of a CLEVR-SV scene, frame by frame: three lamps and a sun, soft shadows, rubber and metal, no Blender.

Light is reckoned linearly with the lamps of the original base scene: their light alone explains the ground of real pictures
to about 5 %, and a table measured on them corrects the rest. The four pictures of a story are made by adding things, so one
frame differs from the next only where the new thing or its shadow is.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator

import numpy as np

from tfds_builders.clevr_sv.geometry import Camera, dot, hits, lit_share, normals, shadow_window, things_seen, unit
from tfds_builders.clevr_sv.scene import CAMERA, FRAMES, HEIGHT, LIGHTS, WIDTH, Scene, Thing

SCALE = 2  # things are drawn at this multiple of the picture and averaged
BACKGROUND, OBJECT = 64, 255  # of a mask, as in the release
GROUND = 0.8  # share of light that the ground gives back
SHADOW = 0.16  # what still arrives in the depth of a shadow, by way of other surfaces

RGB = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
# Medians of the ground in real pictures, sRGB, at rows 0, 60, 120, 180, 239 and columns 0, 160, 319.
_TABLE_ROWS, _TABLE_COLUMNS = (0, 60, 120, 180, 239), (0, 160, 319)
_TABLE = np.array(
    [
        [(104, 104, 103), (106, 106, 106), (103, 103, 102)],
        [(105, 105, 104), (116, 116, 116), (103, 103, 103)],
        [(132, 133, 137), (135, 134, 133), (119, 118, 117)],
        [(122, 121, 121), (143, 141, 138), (135, 133, 130)],
        [(121, 120, 118), (149, 147, 143), (148, 145, 141)],
    ],
    float,
)


@dataclasses.dataclass(frozen=True)
class Lamp:
    """A square lamp that faces the origin; a sun has no side. `power` as in the base scene, fitted to the measured ground."""

    color: tuple[float, float, float]
    power: float
    side: float
    samples: int  # on a side, for soft shadows


LAMPS = {
    "key": Lamp((1.0, 0.932, 0.817), 84.0, 0.5, 4),
    "fill": Lamp((0.762, 0.818, 1.0), 23.0, 0.5, 4),
    "back": Lamp((1.0, 1.0, 1.0), 40.0, 1.0, 5),
}
SUN_FROM, SUN_LIGHT, SUN_SPREAD = (11.66, -6.63, 25.82), 0.58, 0.6


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """0..255 as stored to linear light."""
    share = np.asarray(srgb, float) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def to_stored(linear: np.ndarray) -> np.ndarray:
    """Linear light to uint8 as stored."""
    light = np.clip(linear, 0, 1)
    share = np.where(light <= 0.0031308, light * 12.92, 1.055 * np.power(light, 1 / 2.4) - 0.055)
    return np.rint(255 * share).astype(np.uint8)


class Light:
    """One lamp of a scene: what it sends to a point, and the points of it that a shadow is reckoned from."""

    def __init__(self, name: str, position: tuple[float, float, float]):
        self.lamp, self.position = LAMPS[name], np.asarray(position, np.float32)
        self.facing = self.position / np.linalg.norm(self.position)
        self.color = np.asarray(self.lamp.color, np.float32)

    def directed(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit directions to the lamp (n, 3), and its strength there (n,) for a surface that faces it."""
        line = self.position - points
        toward = unit(line)
        return toward, 0.25 * self.lamp.power * np.maximum(toward @ self.facing, 0) / (math.pi * dot(line, line))

    @functools.cached_property
    def points(self) -> np.ndarray:
        """(s, 3) points spread over the lamp."""
        across = np.cross(self.facing, [0.0, 0.0, 1.0])
        across /= np.linalg.norm(across)
        return self.position + _square(self.lamp.samples, self.lamp.side, across, np.cross(self.facing, across))


class Sun(Light):
    """The same light everywhere."""

    def __init__(self) -> None:
        self.position = np.asarray(SUN_FROM, np.float32)
        self.facing, self.color = self.position / np.linalg.norm(self.position), np.ones(3, np.float32)

    def directed(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.broadcast_to(self.facing, points.shape), np.full(len(points), SUN_LIGHT / math.pi, np.float32)

    @functools.cached_property
    def points(self) -> np.ndarray:
        across = np.cross(self.facing, [0.0, 0.0, 1.0])
        across /= np.linalg.norm(across)
        return self.position + _square(3, SUN_SPREAD, across, np.cross(self.facing, across))


def _square(samples: int, side: float, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    steps = (np.arange(samples) + 0.5) / samples * side - side / 2
    return (steps[:, None, None] * across + steps[None, :, None] * along).reshape(-1, 3).astype(np.float32)


def lights_of(scene: Scene) -> list[Light]:
    return [*(Light(name, position) for name, position in scene.lights.items()), Sun()]


def ground_light(light: Light, points: np.ndarray) -> np.ndarray:
    """What the ground at `points` (n, 3) sends out of this light, (n, 3)."""
    toward, strength = light.directed(points)
    return (GROUND * strength * np.maximum(toward[:, 2], 0))[:, None] * light.color


def _share(thing: Thing, points: np.ndarray, light: Light) -> np.ndarray:
    """Share of the light that arrives at `points` (n, 3) past the thing, (n,)."""
    return SHADOW + (1 - SHADOW) * lit_share(thing, points, light.points)


def _ground_points(camera: Camera) -> np.ndarray:
    """(240, 320, 3): where the rays of the picture meet the ground; all of them do."""
    rays, origin = camera.rays(slice(0, HEIGHT), slice(0, WIDTH)), np.asarray(camera.position, np.float32)
    return origin - (origin[2] / rays[..., 2:]) * rays


@functools.cache
def _correction() -> np.ndarray:
    """(240, 320, 3): measured ground over reckoned ground, interpolated between the points of the table."""
    points = _ground_points(Camera(CAMERA))[np.ix_(_TABLE_ROWS, _TABLE_COLUMNS)]
    lights = [*(Light(name, position) for name, position in LIGHTS.items()), Sun()]
    reckoned = sum(ground_light(light, points.reshape(-1, 3)) for light in lights)
    ratio = to_linear(_TABLE) / np.asarray(reckoned).reshape(_TABLE.shape)
    columns, rows = np.arange(WIDTH), np.arange(HEIGHT)
    wide = np.stack([[np.interp(columns, _TABLE_COLUMNS, row[:, c]) for c in range(3)] for row in ratio])
    full = np.stack([[np.interp(rows, _TABLE_ROWS, wide[:, c, x]) for x in columns] for c in range(3)])
    return full.transpose(2, 1, 0).astype(np.float32)


class _Body:
    """One thing as pixels of the enlarged picture: what each light adds to them, and how much of it arrives."""

    def __init__(self, scene: Scene, thing: Thing, lights: list[Light]):
        camera = Camera(scene.camera)
        self.thing = thing
        self.pixels, self.depth, self.points = hits(camera, thing, SCALE)
        normal = normals(thing, self.points)
        view = unit(np.asarray(scene.camera, np.float32) - self.points)
        color = np.asarray(RGB[thing.color], np.float32) / 255
        shade = _rubber if thing.material == "rubber" else _metal
        self.own, self.parts = shade(thing, color, self.points, normal, view, lights)
        self.arrives = [np.ones(len(self.points), np.float32) for _ in lights]

    def shadow(self, other: Thing, lights: list[Light]) -> None:
        for arrives, light in zip(self.arrives, lights):
            arrives *= _share(other, self.points, light)

    @property
    def light(self) -> np.ndarray:
        """(n, 3) linear light of the pixels; never over 1, so that averaging keeps edges smooth."""
        return np.minimum(self.own + sum(part * a[:, None] for part, a in zip(self.parts, self.arrives)), 1)


def _lobe(normal: np.ndarray, view: np.ndarray, toward: np.ndarray, exponent: float) -> np.ndarray:
    """Blinn and Phong's highlight (n,), normalised so that a wider one is weaker."""
    return (exponent + 2) / 8 * np.maximum(dot(normal, unit(toward + view)), 0) ** exponent


def _rubber(thing: Thing, color, points, normal, view, lights):
    """Matte: the light of each lamp by the cosine, a faint wide highlight, and what the ground sends up."""
    parts = []
    for light in lights:
        toward, strength = light.directed(points)
        facing = np.maximum(dot(normal, toward), 0)
        shine = 0.014 * _lobe(normal, view, toward, 22.0) * facing
        parts.append((strength[:, None] * light.color) * ((0.92 * facing)[:, None] * color + shine[:, None]))
    rim = (1 - np.clip(dot(normal, view), 0, 1)) ** 3
    from_below = 0.2 * (1 - normal[:, 2]) / 2 * _open_ground(thing, points)
    return (from_below + 0.05 * rim + 0.012)[:, None] * color, parts


def _metal(thing: Thing, color, points, normal, view, lights):
    """Mirror-like: the ground below the horizon, darkness above it, and the lamps as sharp and as blurred highlights."""
    away = 2 * dot(normal, view)[:, None] * normal - view
    down = np.clip((0.12 - away[:, 2]) / 0.3, 0, 1)
    down = down * down * (3 - 2 * down)
    seen = points + np.minimum(points[:, 2] / np.maximum(-away[:, 2], 0.02), 40.0)[:, None] * away
    seen[:, 2] = 0
    below = sum(ground_light(light, seen) for light in lights) * _footprint(thing, seen)[:, None]
    sky = 0.09 * (1 - np.clip(away[:, 2], 0, 1)) ** 2
    parts = []
    for light in lights:
        toward, strength = light.directed(points)
        facing = np.maximum(dot(normal, toward), 0)
        spots = 0.5 * _lobe(normal, view, toward, 7.0) + 0.4 * _lobe(normal, view, toward, 400.0)
        parts.append((strength[:, None] * light.color) * (0.05 * facing + spots * (facing > 0))[:, None] * color)
    return (0.42 * down[:, None] * below + sky[:, None] + 0.006) * color, parts


def _open_ground(thing: Thing, points: np.ndarray) -> np.ndarray:
    """How much of the ground beneath is lit: little near the foot of the thing."""
    return 0.35 + 0.65 * np.clip(points[:, 2] / thing.radius, 0, 1)


def _footprint(thing: Thing, seen: np.ndarray) -> np.ndarray:
    """Darker where the mirrored ground is beneath the thing itself."""
    away = np.hypot(seen[:, 0] - thing.x, seen[:, 1] - thing.y) / thing.radius
    return np.clip((away - 0.7) / 1.0, 0.2, 1)


def draw_frames(scene: Scene) -> Iterator[np.ndarray]:
    """The four pictures (240, 320, 3) uint8, in order; picture k shows the first k things."""
    camera, lights = Camera(scene.camera), lights_of(scene)
    ground = _ground_points(camera)
    sent = [ground_light(light, ground.reshape(-1, 3)).reshape(ground.shape) * _correction() for light in lights]
    arrives = [np.ones((HEIGHT, WIDTH), np.float32) for _ in lights]
    bodies: list[_Body] = []
    for thing in scene.things:
        new = _Body(scene, thing, lights)
        for body in bodies:
            body.shadow(thing, lights)
            new.shadow(body.thing, lights)
        bodies.append(new)
        for share, light in zip(arrives, lights):
            rows, columns = shadow_window(camera, thing, light.points)
            part = ground[rows, columns]
            share[rows, columns] *= _share(thing, part.reshape(-1, 3), light).reshape(part.shape[:2])
        floor = sum(light * share[..., None] for light, share in zip(sent, arrives))
        yield to_stored(_composed(floor, bodies))


def _composed(floor: np.ndarray, bodies: list[_Body]) -> np.ndarray:
    """The nearest thing at each pixel of the enlarged picture, over the ground, averaged; both (240, 320, 3)."""
    nearest = np.full(HEIGHT * WIDTH * SCALE**2, np.inf, np.float32)
    light = np.zeros((len(nearest), 3), np.float32)
    for body in bodies:
        front = body.depth < nearest[body.pixels]
        pixels = body.pixels[front]
        nearest[pixels], light[pixels] = body.depth[front], body.light[front]
    covered = np.flatnonzero(np.isfinite(nearest))
    row, column = np.divmod(covered, WIDTH * SCALE)
    parents = (row // SCALE) * WIDTH + column // SCALE
    count = np.bincount(parents, minlength=HEIGHT * WIDTH)[:, None]
    total = np.stack([np.bincount(parents, light[covered, c], HEIGHT * WIDTH) for c in range(3)], -1)
    share = count / np.float32(SCALE**2)
    return (floor.reshape(-1, 3) * (1 - share) + total / SCALE**2).reshape(floor.shape).astype(np.float32)


def draw_masks(scene: Scene) -> list[np.ndarray]:
    """Four masks (240, 320) uint8: `OBJECT` where one of the first k things is, else `BACKGROUND`; no antialiasing."""
    masks = []
    for k in range(1, FRAMES + 1):
        seen = things_seen(dataclasses.replace(scene, things=scene.things[:k]))
        masks.append(np.where(seen > 0, OBJECT, BACKGROUND).astype(np.uint8))
    return masks
