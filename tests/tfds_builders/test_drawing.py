"""Pictures agree with their truth, at any size, in every process."""

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfds_builders.cartoon_stories.drawing import draw_frame
from tfds_builders.cartoon_stories.grammar import plan_story
from tfds_builders.cartoon_stories.plan import Scene
from tfds_builders.cartoon_stories.world import LABELS

FIRST = Scene(("Poppy",), "meadow", "sunny", "read_book", "open", True, True, 0, 0)
FINGERPRINT = """
import hashlib
from tfds_builders.cartoon_stories.drawing import draw_frame
from tfds_builders.cartoon_stories.grammar import plan_story
digest = hashlib.sha256()
for split in ("train", "test"):
    for frame in plan_story(split, 7).frames:
        digest.update(frame.sentence.encode() + b"".join(part.tobytes() for part in draw_frame(frame, 64)))
print(digest.hexdigest())
"""


def redrawn(**changes) -> np.ndarray:
    return draw_frame(dataclasses.replace(FIRST, **changes), 64)[0].astype(int)


def test_pixels_and_sentences_are_the_same_in_two_processes():
    root = Path(__file__).parents[2]
    runs = [
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT], cwd=root, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        for seed in ("1", "2")
    ]
    assert len(runs[0].stdout.strip()) == 64
    assert runs[0].stdout == runs[1].stdout


def test_what_was_drawn_before_changes_nothing():
    frames = plan_story("train", 3).frames
    forward = [hashlib.sha256(draw_frame(frame, 48)[0]).digest() for frame in frames]
    backward = [hashlib.sha256(draw_frame(frame, 48)[0]).digest() for frame in reversed(frames)]
    assert forward == backward[::-1]


@pytest.mark.parametrize("action", LABELS["action"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_character_shows_and_its_box_frames_its_mask(action, count):
    for start in range(0, len(LABELS["characters"]), count):
        names = tuple(LABELS["characters"][(start + 3 * k) % 8] for k in range(count))
        image, mask, boxes = draw_frame(dataclasses.replace(FIRST, characters=names, action=action, weather="rain"), 64)
        assert image.shape == (64, 64, 3)
        assert set(np.unique(mask)) == set(range(count + 1))
        for k in range(count):
            rows, columns = np.nonzero(mask == k + 1)
            assert len(rows) >= 0.02 * mask.size, f"{names[k]} hardly shows in {action}"
            expected = [rows.min() / 64, columns.min() / 64, (rows.max() + 1) / 64, (columns.max() + 1) / 64]
            np.testing.assert_allclose(boxes[k], expected)


@pytest.mark.parametrize("action", LABELS["action"])
def test_a_mask_holds_its_own_character_and_nobody_else(action):
    """Somebody else on the right: what is labelled as the left one keeps every pixel, what was the right one changes."""
    names = LABELS["characters"]
    for left, right, other in zip(names, names[1:] + names[:1], names[3:] + names[:3], strict=True):
        one, one_mask, _ = draw_frame(dataclasses.replace(FIRST, characters=(left, right), action=action), 64)
        two, two_mask, _ = draw_frame(dataclasses.replace(FIRST, characters=(left, other), action=action), 64)
        # One pixel away from the right one: there averaging lets its edge shine through.
        inner = (one_mask == 1) & (two_mask == 1) & ~_grown((one_mask == 2) | (two_mask == 2))
        assert inner.sum() > 40
        assert (one[inner] == two[inner]).all()
        changed = (one != two).any(-1)
        assert changed[(one_mask == 2) & (two_mask == 2)].mean() > 0.6


def _grown(mask: np.ndarray) -> np.ndarray:
    """A boolean (H, W) mask, two pixels wider on every side."""
    padded = np.pad(mask, 2)
    return np.any([padded[y : y + mask.shape[0], x : x + mask.shape[1]] for y in range(5) for x in range(5)], axis=0)


def test_order_in_the_picture_is_order_of_mention():
    for action in LABELS["action"]:
        scene = dataclasses.replace(FIRST, characters=("Gus", "Pip", "Luna"), action=action)
        boxes = draw_frame(scene, 64)[2]
        centres = boxes[:, 1] + boxes[:, 3]
        assert list(centres) == sorted(centres), action


@pytest.mark.parametrize("kind", ["place", "weather", "action"])
def test_each_label_changes_the_picture_a_lot(kind):
    pictures = [redrawn(**{kind: label}) for label in LABELS[kind]]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert (np.abs(one - other).max(-1) > 24).mean() > 0.08


def test_each_character_looks_different():
    pictures = [redrawn(characters=(name,)) for name in LABELS["characters"]]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert (np.abs(one - other).max(-1) > 40).mean() > 0.06


def test_the_middle_of_a_frame_is_no_copy_of_the_background():
    """Figure and ground differ in every place and weather: nobody disappears."""
    for place in LABELS["place"]:
        for weather in LABELS["weather"]:
            with_luna = draw_frame(dataclasses.replace(FIRST, place=place, weather=weather, characters=("Luna",)), 64)
            with_pip = draw_frame(dataclasses.replace(FIRST, place=place, weather=weather, characters=("Pip",)), 64)
            ears = (with_luna[1] == 1) & (with_pip[1] == 0)
            contrast = np.abs(with_luna[0].astype(int) - with_pip[0].astype(int)).max(-1)[ears]
            assert (contrast > 20).mean() > 0.5, (place, weather)


@pytest.mark.parametrize("size", [16, 33, 128, 512])
def test_any_size_draws_the_same_scene(size):
    scene = dataclasses.replace(FIRST, characters=("Poppy", "Gus"))
    image, mask, boxes = draw_frame(scene, size)
    assert image.shape == (size, size, 3)
    assert mask.shape == (size, size)
    np.testing.assert_allclose(boxes, draw_frame(scene, 256)[2], atol=1.5 / size + 1 / 256)


def test_a_place_stays_the_same_through_a_story():
    one = draw_frame(dataclasses.replace(FIRST, action="play_guitar", characters=("Finn",)), 64)[0]
    other = draw_frame(FIRST, 64)[0]
    assert (one[:13] == other[:13]).all()
    assert (one[24:56, 24:40] != other[24:56, 24:40]).any()


def test_bad_scenes_are_refused_by_name():
    with pytest.raises(ValueError, match=r"place must be one of meadow.*got 'moon'"):
        draw_frame(dataclasses.replace(FIRST, place="moon"), 64)
    with pytest.raises(ValueError, match="at least 16 pixels a side, got 4"):
        draw_frame(FIRST, 4)
