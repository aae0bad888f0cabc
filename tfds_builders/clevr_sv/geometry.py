"""Rays, camera and the three bodies of CLEVR: where a ray meets them, and which way their surface looks there."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from tfds_builders.clevr_sv.scene import HEIGHT, WIDTH, Scene, Thing

FOCAL = 350.0  # pixels at 320 x 240: a lens of 35 mm before a sensor 32 mm wide
BEVEL = 0.10  # width of the rounded edges of cubes and cylinders, in half sides


@dataclasses.dataclass(frozen=True)
class Camera:
    """Looks from `position` at the origin, z up."""

    position: tuple[float, float, float]

    @functools.cached_property
    def axes(self) -> np.ndarray:
        """(3, 3): rows are the directions right, up and back."""
        back = np.asarray(self.position) / np.linalg.norm(self.position)
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(back, right), back])

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) to (u, v, depth): pixels from the left and from the top, and distance along the view."""
        seen = (np.asarray(points, float) - self.position) @ self.axes.T
        depth = -seen[..., 2]
        u, v = WIDTH / 2 + FOCAL * seen[..., 0] / depth, HEIGHT / 2 - FOCAL * seen[..., 1] / depth
        return np.stack([u, v, depth], -1)

    def rays(self, rows: slice, columns: slice, scale: int = 1) -> np.ndarray:
        """Directions (h, w, 3) float32, depth 1, through the centres of pixels of the picture enlarged `scale` times."""
        u = (np.arange(columns.start, columns.stop) + 0.5) / scale - WIDTH / 2
        v = HEIGHT / 2 - (np.arange(rows.start, rows.stop) + 0.5) / scale
        right, up, back = self.axes
        return ((u[None, :, None] * right + v[:, None, None] * up) / FOCAL - back).astype(np.float32)


def dot(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Scalar products over the last axis; for an axis of three, `einsum` is five times as fast as a sum."""
    return np.einsum("...i,...i", one, two)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) of length 1."""
    return vectors / np.sqrt(np.maximum(dot(vectors, vectors), 1e-12))[..., None]


def into(thing: Thing, vectors: np.ndarray, *, points: bool) -> np.ndarray:
    """World points or directions in the thing's own frame, in which it spans -1..1."""
    if points:
        vectors = vectors - np.asarray(thing.center, np.float32)
    if thing.shape != "sphere":
        vectors = vectors @ _turn(thing.turn)
    return vectors / np.float32(thing.radius)


def _turn(angle: float) -> np.ndarray:
    """Row vectors times this turn by -angle about z."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)


def _slab(start: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave -1..1 along one axis."""
    inverse = 1 / np.where(np.abs(step) < 1e-9, np.float32(1e-9), step)
    middle, half = -start * inverse, np.abs(inverse)
    return middle - half, middle + half


def _round(start: Sequence[np.ndarray], step: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave the unit circle (two axes) or sphere (three); missing: enter > leave."""
    a = np.maximum(sum(d * d for d in step), 1e-12)
    b, c = sum(o * d for o, d in zip(start, step)), sum(o * o for o in start) - 1
    inside = b * b - a * c
    root = np.sqrt(np.maximum(inside, 0))
    return np.where(inside > 0, (-b - root) / a, np.inf), np.where(inside > 0, (-b + root) / a, -np.inf)


def _crossing(shape: str, start: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(enter, leave) along start + t step, both (3, n) in the thing's own frame; a ray that misses has enter > leave."""
    if shape == "sphere":
        return _round(start, step)
    parts = [_slab(start[2], step[2])]
    if shape == "cylinder":
        parts.append(_round(start[:2], step[:2]))
    else:
        parts += [_slab(start[axis], step[axis]) for axis in (0, 1)]
    enter, leave = parts[0]
    for one, two in parts[1:]:
        enter, leave = np.maximum(enter, one), np.minimum(leave, two)
    return enter, leave


def lit_share(thing: Thing, points: np.ndarray, lamp: np.ndarray) -> np.ndarray:
    """Share of the lamp's sample points (s, 3) that each of `points` (n, 3) sees past the thing, (n,) float32 in 0..1."""
    out = np.ones(len(points), np.float32)
    near = np.flatnonzero(_passes_near(thing, points, lamp))
    if not len(near):
        return out
    start = np.ascontiguousarray(into(thing, points[near], points=True).T)
    hidden = np.zeros(len(near), np.float32)
    for end in into(thing, lamp, points=True):
        enter, leave = _crossing(thing.shape, start, end[:, None] - start)
        hidden += (enter < leave) & (leave > 1e-3) & (enter < 1)
    out[near] -= hidden / len(lamp)
    return out


def _passes_near(thing: Thing, points: np.ndarray, lamp: np.ndarray) -> np.ndarray:
    """Whether the line from each point to the middle of the lamp comes near the thing; surely true where it hides some of it."""
    middle = lamp.mean(0)
    spread = np.linalg.norm(lamp - middle, axis=-1).max()
    reach = thing.radius * {"sphere": 1.0, "cylinder": math.sqrt(2), "cube": math.sqrt(3)}[thing.shape] + spread
    line, to_thing = middle - points, np.asarray(thing.center, np.float32) - points
    along = np.clip(dot(line, to_thing) / np.maximum(dot(line, line), 1e-9), 0, 1)
    gap = to_thing - along[:, None] * line
    return dot(gap, gap) < reach * reach


def normals(thing: Thing, points: np.ndarray) -> np.ndarray:
    """Unit normals (..., 3) at surface points (..., 3); near the edges of cubes and cylinders they turn from face to face."""
    own = into(thing, points, points=True)
    if thing.shape == "sphere":
        out = own
    elif thing.shape == "cube":
        out = np.sign(own) * _weight(np.abs(own))
    else:
        ring = np.hypot(own[..., :1], own[..., 1:2])
        side = own[..., :2] / np.maximum(ring, 1e-6) * _weight(ring)
        out = np.concatenate([side, np.sign(own[..., 2:]) * _weight(np.abs(own[..., 2:]))], -1)
    if thing.shape != "sphere":
        out = out @ _turn(thing.turn).T
    return unit(out)


def _weight(height: np.ndarray) -> np.ndarray:
    """0 in the middle of a face's neighbour, 1 on the face."""
    return np.clip((height - (1 - BEVEL)) / BEVEL, 0, 1) ** 2 + 1e-7


def window(camera: Camera, thing: Thing, scale: int = 1) -> tuple[slice, slice]:
    """Rows and columns of the picture enlarged `scale` times that the thing may cover (possibly none)."""
    u, v, _ = camera.project(_corners(thing)).T * scale
    return _span(v, HEIGHT * scale), _span(u, WIDTH * scale)


def shadow_window(camera: Camera, thing: Thing, lamp: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the picture in which the thing may hide some of the lamp's points (s, 3) from the ground."""
    tops = _corners(thing)
    low, high = lamp.min(0), lamp.max(0)
    ends = np.array([(x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    drop = ends[:, None, 2] / np.maximum(ends[:, None, 2] - tops[None, :, 2], 1e-3)
    ground = ends[:, None] + drop[..., None] * (tops - ends[:, None])
    u, v, depth = camera.project(ground.reshape(-1, 3)).T
    if (depth < 0.1).any():  # the shadow runs behind the camera
        return slice(0, HEIGHT), slice(0, WIDTH)
    return _span(v, HEIGHT), _span(u, WIDTH)


def _corners(thing: Thing) -> np.ndarray:
    """(8, 3): corners of an upright box around the thing."""
    reach = thing.radius * (math.sqrt(2) if thing.shape == "cube" else 1.0)
    x, y, _ = thing.center
    top = 2 * thing.radius
    return np.array([(x + sx * reach, y + sy * reach, z) for sx in (-1, 1) for sy in (-1, 1) for z in (0, top)])


def _span(values: Sequence[float], end: int) -> slice:
    low = min(max(math.floor(min(values)), 0), end)
    return slice(low, max(low, min(math.ceil(max(values)) + 1, end)))


def hits(camera: Camera, thing: Thing, scale: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of the picture enlarged `scale` times whose ray meets the thing alone in the scene.

    Returns flat pixel numbers (n,), depths (n,) float32 and points (n, 3) float32, row by row.
    """
    rows, columns = window(camera, thing, scale)
    origin, rays = np.asarray(camera.position, np.float32), camera.rays(rows, columns, scale)
    rays = rays.reshape(-1, 3)
    start, step = into(thing, origin, points=True), into(thing, rays, points=False)
    enter, leave = _crossing(thing.shape, start[:, None], np.ascontiguousarray(step.T))
    met = np.flatnonzero((enter <= leave) & (enter > 0))
    row, column = np.divmod(met, max(columns.stop - columns.start, 1))
    pixels = (row + rows.start) * WIDTH * scale + column + columns.start
    return pixels, enter[met], origin + enter[met, None] * rays[met]


def things_seen(scene: Scene) -> np.ndarray:
    """(240, 320) uint8: 0 for the ground, k for the k-th thing; without antialiasing, as the original counts pixels."""
    camera = Camera(scene.camera)
    nearest, number = np.full(HEIGHT * WIDTH, np.inf, np.float32), np.zeros(HEIGHT * WIDTH, np.uint8)
    for k, thing in enumerate(scene.things, start=1):
        pixels, depth, _ = hits(camera, thing)
        front = depth < nearest[pixels]
        nearest[pixels[front]], number[pixels[front]] = depth[front], k
    return number.reshape(HEIGHT, WIDTH)
