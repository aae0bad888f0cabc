"""A fake tree of FlintstonesSV: the files, names and types of the real one, with pictures of nothing."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfds_builders.flintstones_sv.layout import ANNOTATIONS, CHARACTERS, CLIPS, FRAMES, SPLITS, TRACKING

EPISODE = 36  # stories of an episode


def write_tree(folder: Path, stories: Sequence[int] = (6, 3, 3), *, size: int = 16, tracking: bool = True) -> Path:
    """Write stories of each split (train, val, test) below `folder`; returns it.

    The splits lie among each other, so stories cross their borders as in the real tree; the last four clips of an episode
    begin no story. `size`: side of a frame in pixels; `tracking`: boxes of every frame for some of the characters.
    """
    (folder / CLIPS).mkdir(parents=True, exist_ok=True)
    clips, splits = _clips(stories)
    (folder / SPLITS).write_text(json.dumps(splits))
    samples = [_annotation(clip, number) for number, clip in enumerate(clips)]
    (folder / ANNOTATIONS).write_text(json.dumps(samples))
    for number, (clip, sample) in enumerate(zip(clips, samples)):
        frames = _frames(number, size)
        np.save(folder / CLIPS / f"{clip}.npy", frames)
        if tracking and number % 2 == 0:
            _write_tracking(folder, sample, len(frames), size)
    return folder


def _clips(stories: Sequence[int]) -> tuple[list[str], dict[str, list[str]]]:
    """All clip ids in the order of time, and those of each split in another one, as in the real file."""
    total = sum(stories)
    of = ["train"] * total
    held_out = np.linspace(0, total - 1, stories[1] + stories[2], dtype=int)
    for number, position in enumerate(held_out):
        of[position] = (
            "val" if (number % 2 == 0 and of.count("val") < stories[1]) or of.count("test") >= stories[2] else "test"
        )
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    clips = []
    for start in range(0, total, EPISODE):
        count = min(EPISODE, total - start)
        for k in range(count + FRAMES - 1):
            clip = f"s_01_e_{start // EPISODE + 1:02d}_shot_{75 * k:06d}_{75 * k + 74:06d}"
            clips.append(clip)
            splits[of[start + k] if k < count else "train"].append(clip)
    return clips, {name: held[::-1] for name, held in splits.items()}


def _annotation(clip: str, number: int) -> dict:
    """Characters under names in any case, one of them twice, and one that nobody counts."""
    names = [CHARACTERS[number % 7], CHARACTERS[(number + 3) % 7], CHARACTERS[number % 7].upper(), "policeman"]
    characters = [
        {"globalID": f"{clip}_char_{k}", "entityLabel": f" {name} ", "rectangles": [[1, 2, 6, 8]] * 3}
        for k, name in enumerate(names)
    ]
    said = f"{names[0]} and {names[1]} talk in the Living Room, clip {number}."
    return {
        "globalID": clip,
        "description": said,
        "setting": ["living room", "quarry"][number % 2],
        "characters": characters,
    }


def _frames(number: int, size: int) -> np.ndarray:
    """(frames, H, W, 3) uint8: a block that walks, in colours of the clip's own; three to five frames."""
    frames = np.full((3 + number % 3, size, size, 3), (200, 150, number % 256), np.uint8)
    for k, frame in enumerate(frames):
        frame[size // 3 : -2, 2 * k : 2 * k + size // 4] = (30 * k, number * 7 % 256, 90)
    return frames


def _write_tracking(folder: Path, sample: dict, frames: int, size: int) -> None:
    (folder / TRACKING).mkdir(exist_ok=True)
    boxes = np.array([[2 * k, size // 3, 2 * k + size // 4, size - 2] for k in range(frames)])
    np.save(folder / TRACKING / f"{sample['characters'][0]['globalID']}.npy", boxes)
