"""CLEVR-SV: from the released files and from nothing; splits, truth, and every file that can be wrong."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storyjax.data import open_source
from storyjax.data.build import build
from storyjax.errors import StoryjaxError
from tests.tfds_builders.trees import build_from, copy_of, cut_off, findings, names
from tfds_builders.clevr_sv import scene
from tfds_builders.clevr_sv.dummy import STORIES, write_tree
from tfds_builders.clevr_sv.layout import ClevrLayout
from tfds_builders.clevr_sv.released import draw_story
from tfds_builders.layout import LayoutError
from tfds_builders.pickled import load_npy

DUMMY = Path(__file__).parent / "dummy_data"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return build_from("clevr_sv", DUMMY, tmp_path_factory.mktemp("data"), "released")


def spoiled(tmp_path: Path, row: dict | None = None) -> Path:
    """A copy of the dummy tree, with some entries of CLEVR_dict.npy replaced (None: taken out)."""
    tree = copy_of(DUMMY, tmp_path / "tree")
    if row:
        numbers = load_npy(tree / "CLEVR_dict.npy") | row
        kept = {name: value for name, value in numbers.items() if value is not None}
        np.save(tree / "CLEVR_dict.npy", np.array(kept, dtype=object), allow_pickle=True)
    return tree


def test_dummy_data_is_what_dummy_py_writes(tmp_path):
    fresh = write_tree(tmp_path)
    assert names(fresh) == names(DUMMY)
    assert sum(file.stat().st_size for file in DUMMY.rglob("*")) < 64_000
    one, two = load_npy(fresh / "CLEVR_dict.npy"), load_npy(DUMMY / "CLEVR_dict.npy")
    assert list(one) == list(two)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
        for file in (name, name.replace(".png", "_mask.png")):
            with Image.open(fresh / "images" / file) as new, Image.open(DUMMY / "images" / file) as old:
                assert (new.size, new.mode) == (old.size, old.mode) == ((24, 18), "RGBA")


def test_released_files_read_back_bit_by_bit(built):
    numbers = load_npy(DUMMY / "CLEVR_dict.npy")
    for split in ("train", "test"):
        source = open_source(built, split)
        for index, name in enumerate(source.table.ids):
            story = source[index]
            for k in range(4):
                file = DUMMY / "images" / f"{name}_{k + 1}.png"
                np.testing.assert_array_equal(story["images"][k], np.asarray(Image.open(file))[..., :3])
                mask = Image.open(file.with_name(f"{name}_{k + 1}_mask.png"))
                np.testing.assert_array_equal(story["figures"][k], np.asarray(mask)[..., 0])
                row = numbers[file.name]
                np.testing.assert_array_equal(story["attributes"][k], row.astype(np.float32))
                np.testing.assert_array_equal(story["characters"][k], scene.labels(row))
            assert story["sentences"] == scene.sentences(scene.things_of(row), name)
            assert (story["figures"][0] != story["figures"][3]).any()  # not the mask of frame 4 for all
    assert source.labels.characters == scene.LABELS


def test_splits_are_the_papers_with_story_10000_in_both(built):
    assert open_source(built, "train").table.ids == [f"CLEVR_new_{i:06d}" for i in STORIES[:3]]
    assert open_source(built, "test").table.ids == [f"CLEVR_new_{i:06d}" for i in STORIES[2:4]]
    assert ClevrLayout.published == {"train": 10_001, "test": 3_001}


def test_check_names_what_a_whole_tree_has_too_little(tmp_path):
    layout = ClevrLayout(DUMMY)
    assert ClevrLayout.recognises(DUMMY)
    assert not ClevrLayout.recognises(tmp_path)
    assert not findings(layout, "broken", pictures=True)
    assert not findings(layout, "missing")
    notes = findings(layout, "note")
    assert notes[0] == "train has 3 of the papers' 10,001 stories"
    assert "CLEVR_new_010000 is in train and in test" in notes[2]
    (dictionary, images) = findings(ClevrLayout(tmp_path), "missing")
    assert "CLEVR_dict.npy' is missing" in dictionary
    assert "images' is missing" in images


def picture(tree: Path) -> Path:
    return tree / "images" / "CLEVR_new_000000_2.png"


def mask(tree: Path) -> Path:
    return tree / "images" / "CLEVR_new_000000_2_mask.png"


def smaller(file: Path) -> None:
    Image.open(file).resize((8, 6)).save(file)


SPOILS = {
    "cut off": (lambda tree: cut_off(picture(tree)), "CLEVR_new_000000_2.png' is damaged", True),
    "no picture": (lambda tree: picture(tree).write_text("hello"), "CLEVR_new_000000_2.png' is no picture", True),
    "missing": (lambda tree: picture(tree).unlink(), "CLEVR_new_000000_2.png' does not exist", False),
    "mask missing": (lambda tree: mask(tree).unlink(), "CLEVR_new_000000_2_mask.png' does not exist", False),
    "mask cut off": (lambda tree: cut_off(mask(tree)), "CLEVR_new_000000_2_mask.png' is damaged", True),
    "mask of another size": (
        lambda tree: smaller(mask(tree)),
        "_2_mask.png' is 8x6 pixels, its picture 24x18; they must be alike",
        True,
    ),
}
ROWS = {
    "no numbers": ({"CLEVR_new_000000_3.png": None}, "has no numbers for 'CLEVR_new_000000_3.png'"),
    "short": ({"CLEVR_new_000000_3.png": np.zeros(74)}, "expected 75 numbers, got ndarray of shape (74,)"),
    "empty slots": ({"CLEVR_new_000000_3.png": np.zeros(75)}, "expected the first 3 slots filled, got 0"),
    "two shapes": (
        {"CLEVR_new_000000_3.png": np.ones(75)},
        "'CLEVR_new_000000_3.png': slot 1 must have one shape of cube, sphere, cylinder",
    ),
}


@pytest.mark.parametrize("what", SPOILS)
def test_a_wrong_file_is_named_by_check_and_by_the_build(what, tmp_path, capfd):
    spoil, said, needs_pictures = SPOILS[what]
    tree = spoiled(tmp_path)
    spoil(tree)
    assert bool(findings(ClevrLayout(tree), "broken")) != needs_pictures
    (broken,) = findings(ClevrLayout(tree), "broken", pictures=True)
    assert said in broken
    stops_and_skips(tree, tmp_path, said, capfd)


@pytest.mark.parametrize("what", ROWS)
def test_wrong_numbers_are_named_by_check_and_by_the_build(what, tmp_path, capfd):
    row, said = ROWS[what]
    tree = spoiled(tmp_path, row)
    (broken,) = findings(ClevrLayout(tree), "broken")
    assert said in broken
    stops_and_skips(tree, tmp_path, said, capfd)


def stops_and_skips(tree: Path, tmp_path: Path, said: str, capfd) -> None:
    with pytest.raises(StoryjaxError) as stopped:
        build_from("clevr_sv", tree, tmp_path / "whole", "released")
    assert said in str(stopped.value)
    assert "--skip-broken" in str(stopped.value)
    capfd.readouterr()
    folder = build_from("clevr_sv", tree, tmp_path / "part", "released", skip_broken=True)
    told = capfd.readouterr().out
    assert "1 stories left out" in told
    assert said in told
    assert open_source(folder, "train").table.ids == ["CLEVR_new_009999", "CLEVR_new_010000"]


def test_pictures_of_several_sizes_are_said(tmp_path, capfd):
    tree = spoiled(tmp_path)
    for file in (tree / "images").glob("CLEVR_new_009999_*.png"):
        smaller(file)
    folder = build_from("clevr_sv", tree, tmp_path / "data", "released")
    assert "pictures of 2 sizes: 24x18" in capfd.readouterr().out
    assert open_source(folder, "train", size=(6, 8))[1]["images"].shape == (4, 6, 8, 3)


def test_pictures_that_are_not_opaque_keep_their_colours(tmp_path):
    tree = spoiled(tmp_path)
    pixels = np.asarray(Image.open(picture(tree))).copy()
    pixels[..., 3] = 10
    Image.fromarray(pixels).save(picture(tree))
    Image.open(mask(tree)).convert("L").save(mask(tree))
    story = open_source(build_from("clevr_sv", tree, tmp_path / "data", "released"), "train")[0]
    np.testing.assert_array_equal(story["images"][1], pixels[..., :3])
    assert set(np.unique(story["figures"][1])) == {64, 255}


def test_another_dictionary_is_refused(tmp_path):
    tree = spoiled(tmp_path)
    np.save(tree / "CLEVR_dict.npy", np.array({"a.png": np.zeros(75)}, dtype=object), allow_pickle=True)
    (said,) = findings(ClevrLayout(tree), "missing")
    assert "names no story from CLEVR_new_000000 to CLEVR_new_013000" in said
    np.save(tree / "CLEVR_dict.npy", np.zeros(3))
    with pytest.raises(LayoutError, match="must hold a dictionary by picture name, got ndarray"):
        ClevrLayout(tree).splits()


def test_nothing_is_needed_to_draw(tmp_path):
    folder = build("clevr_sv", tmp_path, config="tiny", processes=1)
    source = open_source(folder, "test")
    assert (len(open_source(folder, "train")), len(source), source.size) == (6, 2, (240, 320))
    drawn, pictures, _ = draw_story(0, 10_001)
    np.testing.assert_array_equal(source[1]["images"][2], np.asarray(Image.open(io.BytesIO(pictures[2])))[..., :3])
    np.testing.assert_array_equal(source[1]["attributes"], scene.attributes(drawn.things).astype(np.float32))
