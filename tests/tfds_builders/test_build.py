"""`storyjax.data.build`: builds without TensorFlow, reads back, and never leaves half a data set."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from storyjax.data.build import build, builder_names, default_data_dir
from storyjax.errors import StoryjaxError
from tfds_builders.cartoon_stories import cartoon_stories_dataset_builder as module
from tfds_builders.cartoon_stories.drawing import draw_frame
from tfds_builders.cartoon_stories.grammar import plan_story
from tfds_builders.cartoon_stories.world import LABELS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The tiny data set, built by a process in which TensorFlow cannot be imported."""
    data = tmp_path_factory.mktemp("data")
    program = f"""
import importlib.machinery as machinery
find = machinery.PathFinder.find_spec
def hide(name, path=None, target=None):
    return None if name.split(".")[0] in ("tensorflow", "apache_beam") else find(name, path, target)
machinery.PathFinder.find_spec = hide
from storyjax.data.build import build
print(build("cartoon_stories", {str(data)!r}, config="tiny"))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "cartoon_stories train: 100%" in done.stderr
    return Path(done.stdout.strip().splitlines()[-1])


def test_records_read_back_as_they_were_planned_and_drawn(folder):
    source = tfds.builder_from_directory(folder).as_data_source("validation")
    assert len(source) == 4
    for index, record in enumerate(source):
        story = plan_story("validation", index)
        assert record["story_id"].decode() == f"validation-{index:06d}" == story.story_id
        assert record["title"].decode() == story.title
        frames = record["frames"]
        for k, frame in enumerate(story.frames):
            image, mask, boxes = draw_frame(frame, 64)
            count = len(boxes)
            assert frames["sentence"][k].decode() == frame.sentence
            assert [LABELS["characters"][i] for i in frames["characters"][k][:count]] == list(frame.scene.characters)
            assert set(frames["characters"][k][count:]) <= {-1}
            np.testing.assert_array_equal(frames["image"][k], image)
            np.testing.assert_array_equal(frames["mask"][k][..., 0], mask)
            np.testing.assert_array_equal(frames["boxes"][k][:count], boxes)
            for kind in ("place", "weather", "action"):
                assert LABELS[kind][frames[kind][k]] == getattr(frame.scene, kind)
            assert bool(frames["names_characters"][k]) == frame.names_characters
            assert bool(frames["names_place"][k]) == frame.names_place


def test_label_names_and_split_sizes_are_in_the_metadata(folder):
    info = tfds.builder_from_directory(folder).info
    assert tuple(info.features["cast"].feature.names) == LABELS["characters"]
    for kind in ("place", "weather", "action"):
        assert tuple(info.features["frames"][kind].names) == LABELS[kind]
    assert {name: split.num_examples for name, split in info.splits.items()} == {
        "train": 20,
        "validation": 4,
        "test": 4,
    }
    assert info.file_format.value == "array_record"


def test_long_stories_are_drawn_frame_by_frame_like_short_ones():
    (record,) = module.draw_stories("test", 1, 16, processes=1, frames=7)
    assert [frame["sentence"] for frame in record["frames"]] == [f.sentence for f in plan_story("test", 0, 7).frames]
    assert module.CartoonStories.builder_configs["frames50"].frames == 50


def test_several_processes_write_the_same_records():
    alone = list(module.draw_stories("train", 18, 16, processes=1))
    assert list(module.draw_stories("train", 18, 16, processes=2)) == alone
    assert Image.open(io.BytesIO(alone[0]["frames"][0]["image"])).size == (16, 16)


def test_a_finished_data_set_is_kept_unless_asked(folder, capfd):
    stamp = (folder / "features.json").stat().st_mtime_ns
    data = folder.parents[2]
    assert build("cartoon_stories", data, config="tiny") == folder
    assert (folder / "features.json").stat().st_mtime_ns == stamp
    assert build("cartoon_stories", data, config="tiny", overwrite=True) == folder
    assert (folder / "features.json").stat().st_mtime_ns > stamp
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_broken_build_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    def breaks(split, indices, size, frames):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "encode_stories", breaks)
    with pytest.raises(OSError, match="No space left"):
        build("cartoon_stories", tmp_path, config="tiny")
    assert not list(tmp_path.rglob("*.array_record*"))
    assert not list(tmp_path.rglob("dataset_info.json"))
    monkeypatch.undo()
    assert (
        len(tfds.builder_from_directory(build("cartoon_stories", tmp_path, config="tiny")).as_data_source("test")) == 4
    )


def test_a_broken_rebuild_keeps_the_old_data_set(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def breaks(split, indices, size, frames):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "encode_stories", breaks)
    with pytest.raises(KeyboardInterrupt):
        build("cartoon_stories", folder.parents[2], config="tiny", overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_errors_name_the_nearest(tmp_path):
    assert "cartoon_stories" in builder_names()
    with pytest.raises(StoryjaxError, match="got 'cartoon_storys'; did you mean 'cartoon_stories'"):
        build("cartoon_storys", tmp_path)
    with pytest.raises(StoryjaxError, match="got 'px12x8'; did you mean 'px128'"):
        build("cartoon_stories", tmp_path, config="px12x8")
    with pytest.raises(StoryjaxError, match="processes must be at least 1, got 0"):
        build("cartoon_stories", tmp_path, processes=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoryjaxError, match="data_dir must be a folder that can be written"):
        build("cartoon_stories", tmp_path / "file" / "data")


def test_data_dir_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("STORYJAX_DATA", str(tmp_path))
    assert default_data_dir() == tmp_path
    monkeypatch.delenv("STORYJAX_DATA")
    assert default_data_dir() == Path(os.path.expanduser("~")) / ".cache/storyjax/data"
