"""Reading a first picture: its size, what is said about it, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from storyjax.errors import StoryjaxError
from storyjax.story import read_picture
from tests.story.drawn import cartoon_frames


def _save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def test_a_picture_of_the_right_size_is_untouched(tmp_path: Path) -> None:
    pixels = cartoon_frames(1, 128)[0]
    picture = read_picture(_save(tmp_path / "fox.png", pixels), 128)
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.pixels.dtype == np.uint8
    assert picture.note == ""


def test_another_size_is_cropped_in_the_middle_and_resized_by_name(tmp_path: Path) -> None:
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[:, 80:560] = (40, 120, 200)  # the middle square
    pixels[:, :80] = pixels[:, 560:] = (255, 0, 0)
    picture = read_picture(_save(tmp_path / "cat.png", pixels), 128)
    assert picture.note == "first picture 'cat.png' resized: 640x480 -> centre crop 480x480 -> 128x128 LANCZOS"
    assert picture.pixels.shape == (128, 128, 3)
    assert (picture.pixels == (40, 120, 200)).all()


def test_sizes_that_are_no_square_are_height_and_width(tmp_path: Path) -> None:
    picture = read_picture(_save(tmp_path / "a.png", cartoon_frames(1, 64, 200)[0]), (64, 128))
    assert picture.pixels.shape == (64, 128, 3)
    assert picture.note == "first picture 'a.png' changed: 200x64 -> centre crop 128x64"


def test_a_somewhat_small_picture_is_enlarged_and_that_is_said(tmp_path: Path) -> None:
    picture = read_picture(_save(tmp_path / "a.png", cartoon_frames(1, 64)[0]), 128)
    assert picture.note == "first picture 'a.png' resized: 64x64 -> 128x128 LANCZOS (enlarged)"
    assert picture.pixels.shape == (128, 128, 3)


@pytest.mark.parametrize("shape", [(63, 63), (63, 400), (400, 63)])
def test_a_picture_smaller_than_half_the_frames_is_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    with pytest.raises(StoryjaxError) as error:
        read_picture(_save(tmp_path / "a.png", cartoon_frames(1, *shape)[0]), 128)
    assert f"is too small: {shape[1]}x{shape[0]} for frames of 128x128" in str(error.value)
    assert "give one of at least 64x64" in str(error.value)


def test_transparency_is_laid_on_white_and_that_is_said(tmp_path: Path) -> None:
    pixels = np.full((128, 128, 4), 90, np.uint8)
    pixels[:64, :, 3], pixels[64:, :, 3] = 0, 255
    picture = read_picture(_save(tmp_path / "a.png", pixels), 128)
    assert picture.note == "first picture 'a.png' changed: 128x128 -> transparency laid on white"
    assert (picture.pixels[:64] == 255).all()
    assert (picture.pixels[64:] == 90).all()


def test_an_opaque_alpha_channel_changes_nothing(tmp_path: Path) -> None:
    pixels = np.full((128, 128, 4), 255, np.uint8)
    pixels[..., 0] = 90
    picture = read_picture(_save(tmp_path / "a.png", pixels), 128)
    assert picture.note == ""
    assert (picture.pixels == (90, 255, 255)).all()


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the camera was held with its right side down
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[:, :64] = 250  # the left half as stored is the upper half as seen
    picture = read_picture(_save(tmp_path / "a.png", pixels, exif=exif), 128)
    assert picture.note == "first picture 'a.png' changed: 128x128 -> turned upright"
    assert (picture.pixels[:60] == 250).all()
    assert (picture.pixels[68:] == 0).all()


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1"])
def test_other_kinds_of_pictures_become_rgb(tmp_path: Path, mode: str) -> None:
    pixels = np.full((128, 128, 3), 255, np.uint8)
    path = tmp_path / "a.tiff"
    Image.fromarray(pixels).convert(mode).save(path)
    assert (read_picture(path, 128).pixels == 255).all()


def test_sixteen_bits_keep_their_shades(tmp_path: Path) -> None:
    pixels = np.linspace(0, 65535, 128 * 128).reshape(128, 128).astype(np.uint16)
    picture = read_picture(_save(tmp_path / "a.png", pixels), 128)
    assert "16 bits to 8" in picture.note
    assert abs(picture.pixels.astype(int)[..., 0] - pixels / 257).max() <= 1


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("buy milk")
    with pytest.raises(StoryjaxError, match="is not a picture that can be read; give a PNG or JPEG"):
        read_picture(path, 128)


def test_a_picture_cut_short_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    for name in ("a.png", "a.jpg"):
        path = _save(tmp_path / name, noise)
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(StoryjaxError, match="is damaged or cannot be read"):
            read_picture(path, 128)


@pytest.mark.parametrize("name", ["none.png", "."])
def test_a_missing_picture_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoryjaxError, match=f"there is no picture at '{tmp_path}"):
        read_picture(tmp_path / name, 128)


def test_a_picture_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(StoryjaxError, match="has far too many pixels"):
        read_picture(_save(tmp_path / "a.png", cartoon_frames(1, 128)[0]), 128)
