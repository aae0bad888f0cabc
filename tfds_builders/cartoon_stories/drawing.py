"""Frames from scenes: cached backgrounds and figures, laid over each other; the truth of every pixel falls out on the way.

Everything that repeats (a place in a weather, a friend doing something in one slot) is drawn once per process and size, large,
then averaged down; a frame is only a few small pastes.
"""

import dataclasses
import functools

import numpy as np
from PIL import Image

from tfds_builders.cartoon_stories.actions import STAGINGS
from tfds_builders.cartoon_stories.characters import draw_arms, draw_body
from tfds_builders.cartoon_stories.pen import Pen
from tfds_builders.cartoon_stories.places import draw_place
from tfds_builders.cartoon_stories.plan import Scene
from tfds_builders.cartoon_stories.weather import draw_falling, figure_light
from tfds_builders.cartoon_stories.world import CHARACTER, LABELS

SHIFT = (0.06, 0.03, 0.012)  # how far a group of 1, 2, 3 stands off the middle when `Scene.shift` says so
SOLID = 128  # opacity from which a pixel belongs to the figure that covers it


@dataclasses.dataclass(frozen=True)
class Sprite:
    """A cut-out: RGBA picture, its upper left corner in pixels, and per pixel the owner (0 see-through, 1 figure, 2 prop)."""

    image: Image.Image
    left: int
    top: int
    owner: np.ndarray


def _detail(size: int) -> int:
    """Enlargement before averaging: four times up to 128 pixels, then less, but edges are always averaged over 2 x 2."""
    return max(2, min(4, -(-512 // size)))


def _cut(layers: list[tuple[Image.Image, int]]) -> Sprite:
    """Flatten (layer, owner) from back to front and crop."""
    flat = Image.new("RGBA", layers[0][0].size, (0, 0, 0, 0))
    owner = np.zeros(flat.size[::-1], np.uint8)
    for layer, who in layers:
        flat.alpha_composite(layer)
        owner[np.asarray(layer.getchannel("A")) >= SOLID] = who
    left, top, right, bottom = flat.getbbox() or (0, 0, 1, 1)
    return Sprite(flat.crop((left, top, right, bottom)), left, top, owner[top:bottom, left:right].copy())


def _tinted(sprite: Sprite, weather: str) -> Sprite:
    light = sprite.image.point(figure_light(weather) + list(range(256)))
    return dataclasses.replace(sprite, image=light)


@functools.lru_cache(maxsize=4096)
def _figure(name: str, action: str, count: int, place: int, size: int) -> Sprite:
    """Character `name` as the `place`-th (from 0) of `count` doing `action`, with what it holds."""
    staging = STAGINGS[action]
    slot, pose = staging.slots[count - 1][place], staging.pose(place)
    pens = [Pen(size, _detail(size)) for _ in range(4)]
    if staging.shadow:
        pens[0].ellipse(slot.x, slot.y, 0.3 * slot.height, 0.035 * slot.height, (20, 20, 50, 64))
    body, prop, arms = (pen.at(slot.x, slot.y, slot.height, pose.turn) for pen in pens[1:])
    species = CHARACTER[name].species
    draw_body(body, species, pose)
    staging.prop(prop, place)
    draw_arms(arms, species, pose)
    layers = [pen.finish() for pen in pens]
    for layer in layers:
        layer.paste((0, 0, 0, 0), (0, round(staging.cut * size), size, size))
    return _cut(list(zip(layers, (2, 1, 2, 1), strict=True)))


@functools.lru_cache(maxsize=256)
def _shared(action: str, count: int, front: bool, size: int) -> Sprite:
    """The prop a group shares, behind or before it."""
    staging, pen = STAGINGS[action], Pen(size, _detail(size))
    (staging.front if front else staging.back)(pen, staging.slots[count - 1])
    return _cut([(pen.finish(), 2)])


@functools.lru_cache(maxsize=8192)
def _lit(kind: str, key: tuple, weather: str) -> Sprite:
    """A figure or shared prop in the light of the weather."""
    return _tinted(_figure(*key) if kind == "figure" else _shared(*key), weather)


@functools.lru_cache(maxsize=512)
def _background(place: str, weather: str, variant: int, size: int) -> Image.Image:
    pen = Pen(size, _detail(size))
    draw_place(pen, place, weather, variant)
    return pen.finish().convert("RGB")


@functools.lru_cache(maxsize=32)
def _falling(weather: str, variant: int, size: int) -> Image.Image | None:
    if weather not in ("rain", "snow"):
        return None
    pen = Pen(size, _detail(size))
    draw_falling(pen, weather, variant)
    return pen.finish()


def _lay(picture: Image.Image, mask: Image.Image, sprite: Sprite, shift: int, label: int) -> None:
    """Paste a sprite; its figure pixels become `label` in the mask, its prop pixels background."""
    corner = (sprite.left + shift, sprite.top)
    picture.paste(sprite.image, corner, sprite.image)
    cover = Image.fromarray((sprite.owner > 0).astype(np.uint8) * 255)
    mask.paste(Image.fromarray((sprite.owner == 1).astype(np.uint8) * label), corner, cover)


def boxes_of(mask: np.ndarray, count: int) -> np.ndarray:
    """(ymin, xmin, ymax, xmax) in 0..1 of labels 1..count of an (H, W) mask -> (count, 4) float32; zeros where nothing shows."""
    boxes = np.zeros((count, 4), np.float32)
    for k in range(count):
        figure = mask == k + 1
        rows, columns = np.flatnonzero(figure.any(1)), np.flatnonzero(figure.any(0))
        if len(rows):
            boxes[k] = (
                rows[0] / mask.shape[0], columns[0] / mask.shape[1],
                (rows[-1] + 1) / mask.shape[0], (columns[-1] + 1) / mask.shape[1],
            )  # fmt: skip
    return boxes


def draw_pictures(scene: Scene, size: int) -> tuple[Image.Image, Image.Image]:
    """(RGB picture, L mask) of a scene, `size` x `size` pixels; mask value k is the k-th character, 0 the rest."""
    count = len(scene.characters)
    shift = round(scene.shift * SHIFT[count - 1] * size)
    picture = _background(scene.place, scene.weather, scene.variant, size).copy()
    mask = Image.new("L", picture.size, 0)
    _lay(picture, mask, _lit("shared", (scene.action, count, False, size), scene.weather), shift, 0)
    for k, name in enumerate(scene.characters):
        figure = _lit("figure", (name, scene.action, count, k, size), scene.weather)
        _lay(picture, mask, figure, shift, k + 1)
    _lay(picture, mask, _lit("shared", (scene.action, count, True, size), scene.weather), shift, 0)
    falling = _falling(scene.weather, scene.variant, size)
    if falling is not None:
        picture.paste(falling, (0, 0), falling)
    return picture, mask


def draw_frame(frame, size: int = 128) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a `grammar.Frame` or a `plan.Scene`.

    Returns:
        image (H, W, 3) uint8, mask (H, W) uint8 (0 background, k = the k-th character), boxes (K, 4) float32
        (ymin, xmin, ymax, xmax) in 0..1, of what can be seen of each character.
    """
    scene = frame if isinstance(frame, Scene) else frame.scene
    if size < 16:
        raise ValueError(f"a frame needs at least 16 pixels a side, got {size}; ask for a larger size")
    for kind, value in (("place", scene.place), ("weather", scene.weather), ("action", scene.action)):
        if value not in LABELS[kind]:
            raise ValueError(f"{kind} must be one of {', '.join(LABELS[kind])}, got {value!r}; choose one of these")
    picture, mask = draw_pictures(scene, size)
    labels = np.asarray(mask)
    return np.asarray(picture), labels, boxes_of(labels, len(scene.characters))
