"""Sheets: every frame of a long story stands on one, in its order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from storyjax.errors import StoryjaxError
from storyjax.story import Manifest, story_from_sentences, write_storyboard
from storyjax.story.sheets import sheet_name, sheets_of
from storyjax.story.storyboard import FRAMES_ON_A_STRIP, PANELS_ON_A_COMIC, check_folder
from tests.story.drawn import cartoon_frames

MADE = {
    "system": "toy",
    "model": "m",
    "model_sha256": "0",
    "seed": 0,
    "steps": 1,
    "sampler": "ddim",
    "guidance": "none",
    "guidance_scale": 1.0,
    "height": 8,
    "width": 8,
}


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 60))
def test_sheets_hold_all_frames_in_order_and_are_about_equally_full(count, most):
    story = story_from_sentences([f"Frame {n}." for n in range(count)], title="T")
    sheets = sheets_of(story, np.arange(count), most)
    assert [sentence for part, _ in sheets for sentence in part.sentences] == list(story.sentences)
    assert [n for _, images in sheets for n in images] == list(range(count))
    sizes = [len(part.frames) for part, _ in sheets]
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1


def test_a_short_story_is_its_own_sheet_and_longer_ones_are_numbered():
    story = story_from_sentences(["A."] * 5, title="Poppy", first_picture="x.png")
    assert sheets_of(story, cartoon_frames(5, 8), 5)[0][0] == story
    parts = [part for part, _ in sheets_of(story, cartoon_frames(5, 8), 3)]
    assert [part.title for part in parts] == ["Poppy (1 of 2)", "Poppy (2 of 2)"]
    assert [part.first_picture for part in parts] == ["x.png", None]
    assert sheets_of(story_from_sentences(["A."] * 2), cartoon_frames(2, 8), 1)[1][0].title == "2 of 2"
    assert [sheet_name("strip.png", n) for n in (1, 2, 12)] == ["strip.png", "strip-2.png", "strip-12.png"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "story"
    story = story_from_sentences(["Poppy runs."] * 60, title="Poppy")
    paths = write_storyboard(folder, story, cartoon_frames(60, 8), Manifest(story.sentences, title="Poppy", **MADE))
    return folder, paths


def test_a_storyboard_of_sixty_frames_has_sheets_and_knows_all_of_them(written):
    folder, paths = written
    manifest = Manifest.read(folder)
    for name, most in (("strip", FRAMES_ON_A_STRIP), ("comic", PANELS_ON_A_COMIC)):
        files = [sheet_name(f"{name}.png", number) for number in range(1, -(-60 // most) + 1)]
        assert len(files) > 1
        assert paths[name].name == files[0]
        for file in files:
            assert Image.open(folder / file).height < 6000
            assert file in manifest.pictures
    with Image.open(folder / "story.gif") as film:
        assert film.width == 320
        assert film.n_frames == 60


def test_sheets_are_no_foreign_files(written):
    folder, _ = written
    check_folder(folder, overwrite=True)
    (folder / "strip-two.png").touch()
    with pytest.raises(StoryjaxError, match=r"no part of a storyboard \(strip-two.png\)"):
        check_folder(folder, overwrite=True)
    (folder / "strip-two.png").unlink()
