"""A fake tree of PororoSV: the files, names, types and orders of the real one, with pictures of nothing."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tfds_builders.pororo_sv.layout import CHARACTERS, FIGURES, FIRST, FRAMES, LABELS, NEXT, READY, SPLITS

SEASON, SCENES = "Pororo_ENGLISH1_1", 40  # scenes of an episode


def write_tree(
    folder: Path,
    stories: Sequence[int] = (6, 3, 3),
    *,
    size: int = 24,
    strips: bool = True,
    labels: bool = True,
    figures: bool = True,
    detail: float = 0.0,
) -> Path:
    """Write stories of each split (train, seen, unseen) below `folder`; returns it.

    As in the real tree an episode of n scenes gives n - 4 stories, so neighbours share pictures, and seen stories lie among
    those to train on. `size`: side of a frame in pixels; `detail` 0..1: how much noise is on the pictures, which makes the
    files as large as those of real pictures (about 0.1).
    """
    folder.mkdir(parents=True, exist_ok=True)
    scenes = _scenes(sum(stories))
    first = [names[k] for names in scenes for k in range(len(names) - FRAMES + 1)][: sum(stories)]
    following = [names[k + 1 : k + FRAMES] for names in scenes for k in range(len(names) - FRAMES + 1)][: sum(stories)]
    np.save(folder / FIRST, np.array([f"{name}.png".encode() for name in first]))
    np.save(folder / NEXT, np.array([[f"{name}.png".encode() for name in names] for names in following]))
    _save_objects(folder / SPLITS, _split(stories))
    names = [name for names in scenes for name in names]
    _write_dictionaries(folder, names, labels)
    random = np.random.default_rng(0)
    for number, name in enumerate(names):
        _write_pictures(folder, name, number, size, random, detail, strips, figures)
    return folder


def _scenes(stories: int) -> list[list[str]]:
    """Picture ids of each episode, enough for this many stories."""
    episodes = -(-stories // (SCENES - FRAMES + 1))
    per = [min(SCENES, stories - e * (SCENES - FRAMES + 1) + FRAMES - 1) for e in range(episodes)]
    return [[f"{SEASON}/{SEASON}_ep{e + 1}/{k + 1}" for k in range(count)] for e, count in enumerate(per)]


def _split(stories: Sequence[int]) -> list[list[int]]:
    """Story numbers of train, seen and unseen; the last episodes are unseen, every so many-th of the others seen."""
    train, seen, unseen = stories
    known = list(range(train + seen))
    chosen = set(np.linspace(0, len(known) - 1, seen, dtype=int).tolist()) if seen else set()
    return [
        [number for number in known if number not in chosen][::-1],  # the real lists are not sorted either
        sorted(chosen),
        list(range(train + seen, train + seen + unseen)),
    ]


def _save_objects(path: Path, parts: list[list[int]]) -> None:
    """As NumPy saved a tuple of lists of different lengths: an array of three objects."""
    held = np.empty(len(parts), object)
    held[:] = [np.array(part) for part in parts]
    np.save(path, held, allow_pickle=True)


def _write_dictionaries(folder: Path, names: list[str], labels: bool) -> None:
    flags = {name: [int((number + k) % 3 == 0) for k in range(len(CHARACTERS))] for number, name in enumerate(names)}
    said = {name: [who for who, flag in zip(CHARACTERS, flags[name]) if flag][:2] for name in names}
    captions = {
        name: [f"{' and '.join(who)} walk in the snow, scene {name}.", "Another."] for name, who in said.items()
    }
    ready = {name: [f"{' and '.join(who)} stand in the snow, {name}."] for name, who in said.items()}
    np.save(folder / "descriptions.npy", np.array(captions, dtype=object), allow_pickle=True)
    np.save(folder / "descriptions_blip2.npy", np.array(ready, dtype=object), allow_pickle=True)
    if labels:
        np.save(folder / LABELS, np.array(flags, dtype=object), allow_pickle=True)


def _write_pictures(
    folder: Path,
    name: str,
    number: int,
    size: int,
    random: np.random.Generator,
    detail: float,
    strips: bool,
    figures: bool,
) -> None:
    count = 2 + number % 3
    pictures = np.concatenate([_picture(number, k, size, random, detail) for k in range(count if strips else 1)])
    _save(folder / READY / f"{name}.png", pictures[:size])
    if strips:
        _save(folder / f"{name}.png", pictures)
    if strips and figures:
        masks = np.zeros((count * size, size), np.uint8)
        for k in range(count):
            masks[k * size + k : k * size + size // 2 + k, size // 4 : size // 2] = 255
        _save(folder / FIGURES / ("_".join(name.split("/")[-2:]) + ".png"), masks)


def _picture(number: int, k: int, size: int, random: np.random.Generator, detail: float) -> np.ndarray:
    """(H, W, 3) uint8: a sky, a ground and a round figure, with colours of its own."""
    y, x = np.mgrid[0:size, 0:size] / size
    out = np.stack([200 - 60 * y, 210 + 20 * x, 235 - 30 * x * y], -1)
    out[y > 0.6] = (number * 37 % 256, 230 - k * 20, 240)
    out[(x - 0.3 - 0.1 * k) ** 2 + (y - 0.55) ** 2 < 0.03] = (number % 256, number // 256, k * 40)
    if detail:
        out += random.normal(0, 128 * detail, out.shape) * (random.random((size, size, 1)) < 0.5)
    return np.clip(out, 0, 255).astype(np.uint8)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1 if pixels.shape[0] > 64 else 9)
    path.write_bytes(out.getvalue())
