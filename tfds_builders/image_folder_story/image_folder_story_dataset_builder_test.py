"""The user's own folder as a data set: both forms, truth, splits, and everything that can be wrong with it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storyjax.data import open_source
from storyjax.data.images import read_picture
from storyjax.errors import StoryjaxError
from tests.tfds_builders.trees import build_from, copy_of, cut_off, findings, names
from tfds_builders.image_folder_story.dummy import FOLDERS, STORIES, write_tree
from tfds_builders.image_folder_story.layout import ImageFolderLayout

DUMMY = Path(__file__).parent / "dummy_data"
LISTED, FOLDED = DUMMY / "listed", DUMMY / "folders"


def test_dummy_data_is_what_dummy_py_writes(tmp_path):
    assert names(write_tree(tmp_path)) == names(DUMMY)
    assert (tmp_path / "listed/stories.json").read_text() == (LISTED / "stories.json").read_text()
    assert sum(file.stat().st_size for file in DUMMY.rglob("*") if file.is_file()) < 16_000


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return build_from("image_folder_story", LISTED, tmp_path_factory.mktemp("data"), "stories")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_built_folder_is_the_folder_itself(built, split):
    ours, folder = open_source(built, split), open_source(LISTED, split)
    assert ours.table.ids == folder.table.ids
    assert ours.table.titles == folder.table.titles
    assert ours.all_sentences() == folder.all_sentences()
    for index in range(len(folder)):
        one, two = ours[index], folder[index]
        np.testing.assert_array_equal(one["images"], two["images"])
        for field in ("names_characters", "names_place"):
            if field in two:
                np.testing.assert_array_equal(one[field], two[field])
        for f in range(2):
            present = {ours.labels.characters[k] for k in np.flatnonzero(one["characters"][f])}
            assert present == {folder.labels.characters[k] for k in np.flatnonzero(two["characters"][f])}
            for field in ("place", "weather", "action"):
                called = getattr(ours.labels, field)[one[field][f]] if one[field][f] >= 0 else None
                told = STORIES[index if split == "train" else 2]["frames"][f].get(field)
                assert called == told
    assert ours.labels.characters == ("Mia", "Tom", "Zoe")  # of all splits together


def test_folders_of_pictures_with_captions(tmp_path):
    folder = build_from("image_folder_story", FOLDED, tmp_path, "stories")
    train, test = open_source(folder, "train"), open_source(folder, "test")
    assert train.table.ids == ["train/story 2", "train/story 10"]
    assert test.table.ids == ["test/story 1"]
    for source in (train, test):
        for index, name in enumerate(source.table.ids):
            assert source.sentences(index) == [f"Picture {f + 1} of {name}." for f in range(FOLDERS[name])]
            files = [FOLDED / name / f"picture {n}.png" for n in (8, 10)]
            np.testing.assert_array_equal(source[index]["images"], [np.asarray(read_picture(file)) for file in files])
    assert set(train[0]) == {"story_id", "title", "sentences", "images"}  # nothing is labelled, so nothing is said


def test_folders_without_splits_are_to_train_with(tmp_path):
    tree = copy_of(FOLDED / "train", tmp_path / "tree")
    layout = ImageFolderLayout(tree, "stories")
    assert layout.splits() == {"train": [0, 1]}
    assert [layout.story(key)["story_id"] for key in (0, 1)] == ["story 2", "story 10"]


def test_check_knows_both_forms_and_says_what_is_missing(tmp_path):
    for tree in (LISTED, FOLDED):
        assert ImageFolderLayout.recognises(tree)
        assert list(ImageFolderLayout(tree).check(pictures=True)) == []
    assert not ImageFolderLayout.recognises(tmp_path)
    (missing,) = findings(ImageFolderLayout(tmp_path), "missing")
    assert "has no stories: expected stories.json, or folders of pictures" in missing
    (tmp_path / "stories.json").write_text("[")
    (missing,) = findings(ImageFolderLayout(tmp_path), "missing")
    assert "is not valid JSON: line 1" in missing


def change(tree: Path, story: int, frame: int | None, **fields) -> None:
    """Change fields of a story, or of one of its frames; None takes a field out."""
    content = json.loads((tree / "stories.json").read_text())
    entry = content[story] if frame is None else content[story]["frames"][frame]
    entry.update(fields)
    for name in [name for name, value in entry.items() if value is None]:
        del entry[name]
    (tree / "stories.json").write_text(json.dumps(content))


LISTED_SPOILS = {
    "cut off": (lambda tree: cut_off(tree / "kite/2.png"), "story 1 'The lost kite', frame 2: picture", True),
    "no picture": (lambda tree: (tree / "kite/2.png").write_text("x"), "2.png' is no picture", True),
    "missing": (lambda tree: (tree / "kite/2.png").unlink(), "frame 2: picture", False),
    "no sentence": (lambda tree: change(tree, 0, 1, sentence=None), "story 1, frame 2 has no 'sentence'", False),
    "empty sentence": (lambda tree: change(tree, 0, 1, sentence=" "), "frame 2 has an empty 'sentence'", False),
    "unknown field": (lambda tree: change(tree, 0, 1, sentense="x"), "unknown field 'sentense'", False),
    "no frames": (lambda tree: change(tree, 0, None, frames=[]), "story 1 'The lost kite' in", False),
    "a crowd": (
        lambda tree: change(tree, 0, 0, characters=[f"c{n}" for n in range(17)]),
        "frame 1 names 17 characters; at most 16",
        False,
    ),
}


@pytest.mark.parametrize("what", LISTED_SPOILS)
def test_a_wrong_story_of_the_file_is_named(what, tmp_path, capfd):
    spoil, said, needs_pictures = LISTED_SPOILS[what]
    tree = copy_of(LISTED, tmp_path / "tree")
    spoil(tree)
    stops_and_skips(tree, tmp_path, said, needs_pictures, capfd)


PICTURE = "train/story 2/picture 10.png"
FOLDED_SPOILS = {
    "cut off": (lambda tree: cut_off(tree / PICTURE), "picture 10.png' is damaged", True),
    "no caption": (
        lambda tree: (tree / PICTURE).with_suffix(".txt").unlink(),
        "picture 10.png' has no caption; expected it in",
        False,
    ),
    "empty caption": (lambda tree: (tree / PICTURE).with_suffix(".txt").write_text("\n"), "10.txt' is empty", False),
    "caption of another encoding": (
        lambda tree: (tree / PICTURE).with_suffix(".txt").write_bytes(b"caf\xe9"),
        "10.txt' cannot be read as UTF-8",
        False,
    ),
    "two pictures of one name": (
        lambda tree: Image.open(tree / PICTURE).save((tree / PICTURE).with_suffix(".jpg")),
        "have one name; a caption belongs to one picture",
        False,
    ),
}


@pytest.mark.parametrize("what", FOLDED_SPOILS)
def test_a_wrong_folder_is_named(what, tmp_path, capfd):
    spoil, said, needs_pictures = FOLDED_SPOILS[what]
    tree = copy_of(FOLDED, tmp_path / "tree")
    spoil(tree)
    stops_and_skips(tree, tmp_path, said, needs_pictures, capfd)


def stops_and_skips(tree: Path, tmp_path: Path, said: str, needs_pictures: bool, capfd) -> None:
    layout = ImageFolderLayout(tree, "stories")
    assert bool(findings(layout, "broken")) != needs_pictures
    (broken,) = findings(layout, "broken", pictures=True)
    assert said in broken
    with pytest.raises(StoryjaxError) as stopped:
        build_from("image_folder_story", tree, tmp_path / "whole", "stories")
    assert said in str(stopped.value)
    capfd.readouterr()
    folder = build_from("image_folder_story", tree, tmp_path / "part", "stories", skip_broken=True)
    told = capfd.readouterr().out
    assert "1 stories left out" in told
    assert said in told
    assert len(open_source(folder, "train")) == 1


def test_mixed_sizes_and_lengths_are_said(tmp_path, capfd):
    tree = copy_of(LISTED, tmp_path / "tree")
    Image.open(tree / "snow/a.jpg").resize((40, 20)).save(tree / "snow/a.jpg")
    content = json.loads((tree / "stories.json").read_text())
    content[1]["frames"] = content[1]["frames"][:1]
    (tree / "stories.json").write_text(json.dumps(content))
    notes = findings(ImageFolderLayout(tree), "note", pictures=True)
    assert notes[0] == "stories of 2 lengths: 2 (2), 1 (1); open them with frames=1 or as windows="
    assert notes[1] == "pictures of 2 sizes: 16x12 (4), 40x20 (1); give a size when you open the data set"
    folder = build_from("image_folder_story", tree, tmp_path / "data", "stories")
    assert "pictures of 2 sizes: 16x12" in capfd.readouterr().out
    with pytest.raises(StoryjaxError, match="stories of different length"):
        open_source(folder, "train", size=8)
    assert open_source(folder, "train", size=8, frames=1)[1]["images"].shape == (1, 8, 8, 3)
    assert open_source(folder, "train", size=8, windows=2).table.ids == ["kite[0:2]"]


def test_two_stories_of_one_id_are_refused(tmp_path):
    tree = copy_of(LISTED, tmp_path / "tree")
    change(tree, 1, None, story_id="kite")
    (missing,) = findings(ImageFolderLayout(tree), "missing")
    assert "several stories have the story_id 'kite'" in missing
