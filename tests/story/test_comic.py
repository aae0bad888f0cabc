"""The comic page: rows of panels that hold every picture whole."""

import numpy as np
import pytest
from hypothesis import given, settings

from storyjax.story import Story, draw_comic, story_from_sentences
from storyjax.story.comic import WIDTH, panel_rows
from tests.story.drawn import cartoon_frames
from tests.story.strategies import stories


@pytest.mark.parametrize(
    ("count", "rows"), [(1, [1]), (2, [2]), (3, [3]), (4, [2, 2]), (5, [2, 3]), (7, [2, 3, 2]), (10, [2, 3, 2, 3])]
)
def test_small_stories_have_the_expected_rows(count: int, rows: list[int]) -> None:
    assert panel_rows(count) == rows


def test_rows_of_two_and_three_hold_any_number_of_panels() -> None:
    for count in range(2, 60):
        rows = panel_rows(count)
        assert sum(rows) == count
        assert set(rows) <= {2, 3}
        assert abs(rows.count(2) - rows.count(3)) <= 3


def test_panels_follow_the_story_and_fill_the_page() -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (180, 180, 20), (20, 180, 180)]
    images = np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in colours])
    page = np.asarray(draw_comic(story_from_sentences(["Poppy runs."] * 5, title="Poppy"), images))
    assert page.shape[1] == WIDTH
    corners, widths = [], []
    for colour in colours:
        ys, xs = np.nonzero((page == np.array(colour)).all(-1))
        corners.append((ys.min(), xs.min()))
        widths.append(xs.max() - xs.min() + 1)
        assert len(ys) == widths[-1] ** 2  # the whole square, nothing drawn over it
    assert corners == sorted(corners)
    assert widths[0] == widths[1] > 500 > widths[2] == widths[3] == widths[4]


@pytest.mark.filterwarnings("ignore:no font on this machine")
@settings(max_examples=20, deadline=None)
@given(story=stories)
def test_any_text_can_be_lettered(story: Story) -> None:
    assert draw_comic(story, cartoon_frames(len(story.frames), 8)).width == WIDTH
