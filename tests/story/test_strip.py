"""The storyboard strip: every picture whole and in its place, for any number, size and text."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings

from storyjax.errors import StoryjaxError
from storyjax.story import Story, draw_strip, story_from_sentences
from storyjax.story.strip import MOST_IN_A_ROW, rows_of
from tests.story.drawn import cartoon_frames
from tests.story.strategies import stories


def _flat(colours: list[tuple[int, int, int]], height: int = 32, width: int = 32) -> np.ndarray:
    return np.stack([np.full((height, width, 3), colour, np.uint8) for colour in colours])


def _find(strip: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of an exact colour."""
    ys, xs = np.nonzero((strip == np.array(colour)).all(-1))
    return ys.min(), ys.max() + 1, xs.min(), xs.max() + 1


def test_five_frames_stand_side_by_side_in_their_order() -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (180, 180, 20), (20, 180, 180)]
    strip = np.asarray(draw_strip(story_from_sentences(["Poppy runs."] * 5, title="T"), _flat(colours)))
    assert 1560 <= strip.shape[1] <= 1600
    boxes = [_find(strip, colour) for colour in colours]
    assert len({box[:2] for box in boxes}) == 1
    assert all(before[3] < after[2] for before, after in itertools.pairwise(boxes))
    assert all(bottom - top == right - left > 240 for top, bottom, left, right in boxes)


@pytest.mark.parametrize(
    ("count", "rows"),
    [(1, [1]), (5, [5]), (6, [6]), (7, [4, 3]), (10, [5, 5]), (12, [6, 6]), (13, [5, 4, 4]), (50, [5] * 10)],
)
def test_more_than_six_frames_go_into_even_rows(count: int, rows: list[int]) -> None:
    assert rows_of(count) == rows


def test_rows_hold_all_frames_and_never_too_many() -> None:
    for count in range(1, 60):
        rows = rows_of(count)
        assert sum(rows) == count
        assert max(rows) <= MOST_IN_A_ROW
        assert max(rows) - min(rows) <= 1


def test_rows_are_read_from_left_to_right_and_down() -> None:
    colours = [(10 + 30 * i, 255 - 30 * i, 90) for i in range(7)]
    strip = np.asarray(draw_strip(story_from_sentences(["A."] * 7), _flat(colours)))
    boxes = [_find(strip, colour) for colour in colours]
    assert [box[0] for box in boxes[:4]] == [boxes[0][0]] * 4
    assert [box[0] for box in boxes[4:]] == [boxes[4][0]] * 3
    assert boxes[4][0] > boxes[0][1]


@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 128), (1024, 1024), (768, 512), (16, 16)])
def test_pictures_of_any_size_keep_their_proportions(height: int, width: int) -> None:
    strip = np.asarray(draw_strip(story_from_sentences(["A."] * 5), _flat([(200, 30, 30)] * 5, height, width)))
    top, bottom, left, _ = _find(strip, (200, 30, 30))
    drawn_width = (
        next(x for x in range(left, strip.shape[1]) if tuple(strip[(top + bottom) // 2, x]) != (200, 30, 30)) - left
    )
    assert abs((bottom - top) / drawn_width - height / width) < 0.02


def test_fifty_frames_and_a_very_long_sentence_fit() -> None:
    story = story_from_sentences(["Poppy runs."] * 49 + ["and then " * 100])
    strip = draw_strip(story, cartoon_frames(50, 16))
    assert strip.width <= 1600
    assert strip.height > 10 * 260


def test_few_frames_make_a_narrow_strip() -> None:
    assert draw_strip(story_from_sentences(["A."]), cartoon_frames(1)).width < 600


def test_the_same_story_gives_the_same_pixels() -> None:
    story = story_from_sentences(["Poppy runs.", "She sleeps."], title="Poppy")
    first, again = (np.asarray(draw_strip(story, cartoon_frames(2))) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            np.zeros((2, 8, 8, 3), np.float32),
            r"expected pictures \(F,H,W,3\) of uint8 in 0..255, got \(2, 8, 8, 3\) of float32",
        ),
        (np.zeros((2, 3, 8, 8), np.uint8), r"expected pictures"),
        (np.zeros((8, 8, 3), np.uint8), r"expected pictures"),
        (np.zeros((3, 8, 8, 3), np.uint8), "the story has 2 frames, but 3 pictures came"),
    ],
)
def test_pictures_of_another_kind_or_number_are_refused(images: np.ndarray, message: str) -> None:
    with pytest.raises(StoryjaxError, match=message):
        draw_strip(story_from_sentences(["A.", "B."]), images)


@pytest.mark.filterwarnings("ignore:no font on this machine")
@settings(max_examples=25, deadline=None)
@given(story=stories)
def test_any_text_can_be_drawn(story: Story) -> None:
    assert draw_strip(story, cartoon_frames(len(story.frames), 8)).width > 400
