"""The one resize policy, and pictures as people bring them."""

import io

import numpy as np
import pytest
from PIL import Image

from storyjax.data.images import as_size, fit_boxes, fit_picture, picture_size, read_picture
from storyjax.errors import StoryjaxError


def test_the_centre_is_kept_and_nothing_is_stretched():
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255  # the middle third of a wide picture
    np.testing.assert_array_equal(fit_picture(Image.fromarray(pixels), (20, 20)), 255)
    tall = fit_picture(Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90), (10, 10))
    assert (tall[1:-1] == 255).all()  # the outermost rows blend with their neighbours when halved


def test_a_picture_of_the_wanted_size_is_untouched():
    pixels = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8)
    np.testing.assert_array_equal(fit_picture(Image.fromarray(pixels), (8, 12)), pixels)


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = fit_picture(Image.fromarray(stripes), (8, 8))
    assert np.abs(small[1:-1, 1:-1].astype(int) - 127).max() < 12  # without antialiasing it would be black or white


def test_boxes_follow_the_picture():
    pixels = np.zeros((30, 90, 3), np.uint8)
    pixels[15:, 45:60] = 255
    box = np.array([[0.5, 0.5, 1.0, 60 / 90]])
    fitted = fit_picture(Image.fromarray(pixels), (10, 10), nearest=True)
    top, left, bottom, right = (fit_boxes(box, (30, 90), (10, 10))[0] * 10).round().astype(int)
    assert (fitted[top:bottom, left:right] == 255).all()
    assert (fitted > 0).sum() == (bottom - top) * (right - left) * 3


@pytest.mark.parametrize("orientation", [6, 8])
def test_turned_photographs_stand_upright(tmp_path, orientation):
    photograph = Image.new("RGB", (30, 20))
    exif = photograph.getexif()
    exif[0x0112] = orientation
    photograph.save(tmp_path / "photo.jpg", exif=exif)
    assert read_picture(tmp_path / "photo.jpg").size == (20, 30)
    assert picture_size(tmp_path / "photo.jpg") == (30, 20)  # height, width


def test_transparent_parts_become_white():
    out = io.BytesIO()
    Image.fromarray(np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], np.uint8), "RGBA").save(out, "PNG")
    np.testing.assert_array_equal(np.asarray(read_picture(out.getvalue())), [[[10, 20, 30], [255, 255, 255]]])


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "I;16"])
def test_every_kind_of_picture_becomes_three_channels(mode, tmp_path):
    Image.new(mode, (4, 3)).save(tmp_path / "picture.tiff")
    assert np.asarray(read_picture(tmp_path / "picture.tiff")).shape == (3, 4, 3)


def test_errors_name_the_file(tmp_path):
    (tmp_path / "note.png").write_text("this is no picture")
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)).save(out, "PNG")
    (tmp_path / "half.png").write_bytes(out.getvalue()[:3000])
    for read in (read_picture, picture_size):
        with pytest.raises(StoryjaxError, match=r"gone\.png' does not exist"):
            read(tmp_path / "gone.png")
        with pytest.raises(StoryjaxError, match=r"note\.png' is no picture that can be read; expected PNG"):
            read(tmp_path / "note.png")
    with pytest.raises(StoryjaxError, match=r"half\.png' cannot be read .*save it again"):
        read_picture(tmp_path / "half.png")


def test_sizes():
    assert (as_size(None), as_size(8), as_size((4, 6))) == (None, (8, 8), (4, 6))
    with pytest.raises(StoryjaxError, match="at least 1 pixel, got 0"):
        as_size(0)
