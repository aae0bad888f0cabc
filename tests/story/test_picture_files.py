"""Single pictures: their names, what they say, and that none is lost."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storyjax.errors import StoryjaxError
from storyjax.story.picture_files import check_free, picture_paths, read_said, write_picture
from tests.disk import no_file_grows_past

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)


@pytest.mark.parametrize(
    ("count", "names"),
    [(1, ["fox.png"]), (2, ["fox-1.png", "fox-2.png"]), (10, [f"fox-{i:02}.png" for i in range(1, 11)])],
)
def test_several_pictures_are_numbered(count, names):
    assert picture_paths("a/fox.png", count) == [Path("a") / name for name in names]


def test_pixels_and_words_come_back(tmp_path):
    said = {"prompt": "ein Fuchs – 狐 im Schnee\nnew line", "seed": "7", "empty": ""}
    write_picture(tmp_path / "new" / "fox.png", PIXELS, said)
    assert read_said(tmp_path / "new" / "fox.png") == said
    np.testing.assert_array_equal(Image.open(tmp_path / "new" / "fox.png"), PIXELS)


def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "fox.png"
    path.write_bytes(b"before")
    with no_file_grows_past(100), pytest.raises(StoryjaxError, match="the disk is full"):
        write_picture(path, PIXELS, {})
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_names_in_use_and_names_of_no_picture_are_refused(tmp_path):
    (tmp_path / "fox.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    check_free([tmp_path / "other.png"], False)
    check_free([tmp_path / "fox.png"], True)
    with pytest.raises(StoryjaxError, match=r"fox\.png' exists; choose another name, or allow overwriting"):
        check_free([tmp_path / "other.png", tmp_path / "fox.png"], False)
    with pytest.raises(StoryjaxError, match=r"folder\.png' is a folder"):
        check_free([tmp_path / "folder.png"], True)
    with pytest.raises(StoryjaxError, match=r"ending in \.png, got 'fox\.jpg'"):
        picture_paths("fox.jpg", 1)
