"""Pictures agree with their truth, at any size, in every process."""

import dataclasses
import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfds_builders.cartoon_stories.characters import COATS
from tfds_builders.cartoon_stories.drawing import draw_frame
from tfds_builders.cartoon_stories.grammar import plan_story
from tfds_builders.cartoon_stories.pen import rgb
from tfds_builders.cartoon_stories.plan import Scene
from tfds_builders.cartoon_stories.world import CHARACTER, LABELS

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


def test_masks_carry_the_colours_of_the_character_they_name():
    """Without its neighbours, a character has the same pixels at its mask: nobody is labelled as somebody else."""
    for first, second in itertools.permutations(LABELS["characters"], 2):
        pair = dataclasses.replace(FIRST, characters=(first, second), action="read_book")
        image, mask, _ = draw_frame(pair, 64)
        for k, name in enumerate((first, second)):
            near = image[mask == k + 1].astype(int)
            fur = np.abs(near - np.array(rgb(COATS[CHARACTER[name].species].fur)[:3])).sum(1) < 12
            foreign = np.abs(near - np.array(rgb(COATS[CHARACTER[(second, first)[k]].species].fur)[:3])).sum(1) < 12
            assert fur.mean() > foreign.mean() + 0.03, (
                f"{fur.mean():.2f} of {name}'s mask is its fur, {foreign.mean():.2f} the other's"
            )


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
