"""The moving picture: right pictures, right times, one palette, no flicker."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storyjax.errors import StoryjaxError
from storyjax.story import write_gif, write_mp4
from storyjax.story.animation import reading_time
from tests.story.drawn import cartoon_frames


def _decode(path: Path) -> tuple[list[np.ndarray], list[int]]:
    pictures, durations = [], []
    with Image.open(path) as gif:
        for index in range(gif.n_frames):
            gif.seek(index)
            pictures.append(np.asarray(gif.convert("RGB")).astype(int))
            durations.append(gif.info["duration"])
    return pictures, durations


def _local_palettes(path: Path) -> int:
    """Count frames with a colour table of their own, by walking the blocks of the GIF format (GIF89a, section 20)."""
    data = path.read_bytes()
    at, found = 13 + 3 * 2 ** ((data[10] & 7) + 1), 0
    while data[at] != 0x3B:
        if data[at] == 0x21:
            at += 2
        else:
            flags = struct.unpack("<x4HB", data[at : at + 10])[4]
            found += flags >> 7
            at += 11 + (3 * 2 ** ((flags & 7) + 1) if flags >> 7 else 0)
        while data[at]:
            at += data[at] + 1
        at += 1
    return found


def test_frames_last_the_given_time_and_go_round(tmp_path: Path) -> None:
    path = write_gif(tmp_path / "s.gif", cartoon_frames(5, 64))
    pictures, durations = _decode(path)
    assert durations == [1200] * 5
    assert pictures[0].shape == (480, 480, 3)
    assert Image.open(path).info["loop"] == 0


def test_colours_are_close_and_come_from_one_palette(tmp_path: Path) -> None:
    frames = cartoon_frames(5, 480)
    path = write_gif(tmp_path / "s.gif", frames)
    for shown, given in zip(_decode(path)[0], frames, strict=True):
        assert np.abs(shown - given).mean() < 1.5
    assert _local_palettes(path) == 0


def test_with_sentences_each_stays_long_enough_to_read(tmp_path: Path) -> None:
    told = ["She runs.", "On a sunny day, Poppy flies a big red kite in the green meadow with Bruno."]
    pictures, durations = _decode(write_gif(tmp_path / "s.gif", cartoon_frames(2, 64), told))
    assert durations == [round(reading_time(sentence) * 100) * 10 for sentence in told]
    assert durations[0] == 1200 < durations[1] <= 6000
    assert pictures[0].shape[0] > pictures[0].shape[1] == 480
    paper = np.array([0xF6, 0xEF, 0xE2])
    assert all((picture[-5] == paper).all() and (picture[5] == paper).all() for picture in pictures)


def test_a_fade_passes_between_the_pictures(tmp_path: Path) -> None:
    images = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (0, 240)])
    pictures, durations = _decode(write_gif(tmp_path / "s.gif", images, fade=True, width=32))
    levels = [round(float(picture.mean())) for picture in pictures]
    assert len(pictures) == 10
    assert levels[:6] == sorted(levels[:6])
    assert levels[5:] == sorted(levels[5:], reverse=True)
    assert durations[0] == durations[5] == 1200
    assert max(durations[1:5]) <= 100


def test_a_single_picture_is_a_gif_too(tmp_path: Path) -> None:
    assert Image.open(write_gif(tmp_path / "s.gif", cartoon_frames(1, 32), fade=True)).n_frames == 1


def test_mp4_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(
        StoryjaxError, match=r"needs imageio with ffmpeg; run: pip install 'imageio\[ffmpeg\]', or write a .gif"
    ):
        write_mp4(tmp_path / "s.mp4", cartoon_frames(1, 32))
    assert not list(tmp_path.iterdir())


def test_mp4_repeats_each_picture_for_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that only counts stands in for ffmpeg, which is no dependency."""
    shown: list[np.ndarray] = []

    class Film:
        def __init__(self, path: Path, fps: int, **_: object) -> None:
            Path(path).write_bytes(b"film")
            assert fps == 25

        def __enter__(self) -> "Film":
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def append_data(self, pixels: np.ndarray) -> None:
            shown.append(pixels)

    module = type(sys)("imageio.v2")
    module.get_writer = Film  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "imageio.v2", module)
    monkeypatch.setitem(sys.modules, "imageio", type(sys)("imageio"))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", type(sys)("imageio_ffmpeg"))
    path = write_mp4(tmp_path / "s.mp4", cartoon_frames(2, 33), ["One.", "Two."], fade=False, width=101)
    assert len(shown) == 2 * 30
    assert all(side % 2 == 0 for side in shown[0].shape[:2])
    assert path.read_bytes() == b"film"
    assert [p.name for p in tmp_path.iterdir()] == ["s.mp4"]
