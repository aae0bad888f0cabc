"""FlintstonesSV from fake trees: records equal the files, stories equal the loader's, and bad trees are told in words."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyjax.data import BatchSpec, make_batches, open_source
from storyjax.data.build import build
from storyjax.data.check import check, recognise
from storyjax.errors import StoryjaxError
from tfds_builders.flintstones_sv.dummy import write_tree
from tfds_builders.flintstones_sv.layout import (
    ANNOTATIONS,
    CHARACTERS,
    CLIPS,
    SPLITS,
    TRACKING,
    FlintstonesLayout,
    followers,
)
from tfds_builders.manual import LEFT_OUT
from tfds_builders.strips import chosen
from tfds_builders.testing import build_without_tensorflow, cut_short, same_tree

STORIES = (6, 3, 3)
FIRST_CLIP = "s_01_e_01_shot_000000_000074"  # in one story only
CHOSEN_AMONG_15 = [14, 5, 5, 14, 0, 11, 14, 12]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return write_tree(tmp_path_factory.mktemp("flintstones") / "tree", STORIES)


@pytest.fixture(scope="module")
def one_frame(tree, tmp_path_factory) -> Path:
    return build_without_tensorflow("flintstones_sv", tree, tmp_path_factory.mktemp("data"), "continuation")


@pytest.fixture(scope="module")
def clips(tree, tmp_path_factory) -> Path:
    return build("flintstones_sv", tmp_path_factory.mktemp("data"), "visualization_clips", manual_dir=tree)


def annotations(tree: Path) -> dict[str, dict]:
    return {sample["globalID"]: sample for sample in json.loads((tree / ANNOTATIONS).read_text())}


def test_records_equal_the_files(tree, one_frame):
    said, splits = annotations(tree), json.loads((tree / SPLITS).read_text())
    everything = sorted(clip for held in splits.values() for clip in held)
    for split, name, count in zip(("train", "validation", "test"), ("train", "val", "test"), STORIES):
        source = open_source(one_frame, split)
        assert len(source) == count
        # In the order of the file; a clip that begins no story is among those of train.
        assert source.table.ids == [clip for clip in splits[name] if everything.index(clip) < len(everything) - 4]
        for story in source:
            start = everything.index(story["story_id"])
            assert story["frame_id"] == everything[start : start + 5]
            for f, clip in enumerate(story["frame_id"]):
                frames = np.load(tree / CLIPS / f"{clip}.npy")
                np.testing.assert_array_equal(story["images"][f], frames[chosen(clip, len(frames))])
                assert story["sentences"][f] == said[clip]["description"].lower()
                assert story["setting"][f] == said[clip]["setting"]
                present = {character["entityLabel"].strip().lower() for character in said[clip]["characters"]}
                assert [bool(flag) for flag in story["characters"][f]] == [who.lower() in present for who in CHARACTERS]


def test_the_metadata_name_the_characters_and_the_given_frame(one_frame, clips):
    assert open_source(one_frame).labels.characters == CHARACTERS
    assert (open_source(one_frame).given, open_source(clips).given) == (1, 0)
    assert (open_source(one_frame).has_strips, open_source(clips).has_strips) == (False, True)


def test_boxes_are_those_of_the_chosen_frame_and_of_the_character(tree, one_frame):
    seen = {"tracked": 0, "in the annotations": 0, "unknown": 0}
    said = annotations(tree)
    for story in (story for split in ("train", "test") for story in open_source(one_frame, split)):
        for f, clip in enumerate(story["frame_id"]):
            count = len(np.load(tree / CLIPS / f"{clip}.npy"))
            first = said[clip]["characters"][0]
            column = [who.lower() for who in CHARACTERS].index(first["entityLabel"].strip().lower())
            file = tree / TRACKING / f"{first['globalID']}.npy"
            kind = "tracked" if file.exists() else "in the annotations" if count == 3 else "unknown"
            rows = np.load(file) if kind == "tracked" else first["rectangles"]
            seen[kind] += 1
            x1, y1, x2, y2 = rows[chosen(clip, count)] if kind != "unknown" else (0, 0, 0, 0)
            np.testing.assert_allclose(story["boxes"][f, column], np.array([y1, x1, y2, x2]) / 16)
            assert not story["boxes"][f, story["characters"][f] == 0].any()
    assert min(seen.values()) > 0


def test_the_same_clip_gives_the_same_frame_in_every_story(one_frame):
    pictures: dict[str, set[bytes]] = {}
    for story in (story for split in ("train", "validation", "test") for story in open_source(one_frame, split)):
        for clip, picture in zip(story["frame_id"], story["images"]):
            pictures.setdefault(clip, set()).add(picture.tobytes())
    assert len(pictures) == 16
    assert all(len(of_clip) == 1 for of_clip in pictures.values())


def test_the_choice_is_for_ever():
    ids = [f"s_0{n}_e_01_shot_000000_000074" for n in range(1, 9)]
    assert [chosen(name, 15) for name in ids] == CHOSEN_AMONG_15
    assert [chosen(name, 15, seed=1) for name in ids] != CHOSEN_AMONG_15
    counts = np.bincount([chosen(f"clip {n}", 5) for n in range(5000)], minlength=5)
    assert (abs(counts - 1000) < 150).all()  # five standard deviations


def test_clips_keep_all_frames(tree, clips, one_frame):
    source, other = open_source(clips, "test"), open_source(one_frame, "test")
    for story, same in zip(source, other, strict=True):
        np.testing.assert_array_equal(story["images"], same["images"])  # the same choice by name
        assert "boxes" not in story
    drawn = {source.random_images(0, np.random.default_rng(n))[0].tobytes() for n in range(30)}
    frames = np.load(tree / CLIPS / f"{source[0]['frame_id'][0]}.npy")
    assert drawn == {frame.tobytes() for frame in frames}
    batches = make_batches(source, BatchSpec(text=None, truth=("characters",)), 3, 0, threads=0, random_frames=True)
    assert next(batches)["images"].shape == (3, 5, 16, 16, 3)


@st.composite
def clip_ids(draw) -> list[str]:
    parts = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(0, 12))
    return [f"s_{s:02d}_e_{e:02d}_shot_{k}_{k + 74}" for s, e, k in draw(st.lists(parts, unique=True, max_size=30))]


@given(clip_ids())
def test_followers_are_the_next_four_in_the_order_of_text(clips):
    found = followers(clips)
    for clip in clips:
        later = sorted(other for other in clips if other > clip)[:4]
        whole = len(later) == 4 and all(other.split("_")[1:4:2] == clip.split("_")[1:4:2] for other in later)
        assert found.get(clip) == (later if whole else None)


def change_annotation(tree: Path, change) -> None:
    samples = json.loads((tree / ANNOTATIONS).read_text())
    change(next(sample for sample in samples if sample["globalID"] == FIRST_CLIP))
    (tree / ANNOTATIONS).write_text(json.dumps(samples))


def without_annotation(tree: Path) -> None:
    samples = json.loads((tree / ANNOTATIONS).read_text())
    (tree / ANNOTATIONS).write_text(json.dumps([sample for sample in samples if sample["globalID"] != FIRST_CLIP]))


def with_a_name_that_is_no_id(tree: Path) -> None:
    splits = json.loads((tree / SPLITS).read_text())
    splits["test"].append("yabba")
    (tree / SPLITS).write_text(json.dumps(splits))


CLIP = f"{CLIPS}/{FIRST_CLIP}.npy"
BAD = {
    "cut off": (lambda t: cut_short(t / CLIP), rf"{FIRST_CLIP}\.npy' is damaged"),
    "no array": (lambda t: (t / CLIP).write_text("<html>"), rf"{FIRST_CLIP}\.npy' is damaged"),
    "pickled": (lambda t: np.save(t / CLIP, np.array([{}])), rf"{FIRST_CLIP}\.npy' is damaged"),
    "missing": (lambda t: (t / CLIP).unlink(), rf"{FIRST_CLIP}\.npy' does not exist"),
    "floats": (
        lambda t: np.save(t / CLIP, np.zeros((3, 16, 16, 3))),
        r"must hold uint8 pictures .* got float64 of shape",
    ),
    "one picture": (lambda t: np.save(t / CLIP, np.zeros((16, 16, 3), np.uint8)), r"got uint8 of shape \(16, 16, 3\)"),
    "no frames": (lambda t: np.save(t / CLIP, np.zeros((0, 16, 16, 3), np.uint8)), r"got uint8 of shape \(0, 16"),
    "unknown id": (
        without_annotation,
        rf"names clip '{FIRST_CLIP}', and flintstones_annotations_v1-0\.json does not know it",
    ),
    "no caption": (
        lambda t: change_annotation(t, lambda s: s.pop("description")),
        r"has the caption None, not a sentence",
    ),
    "no characters": (lambda t: change_annotation(t, lambda s: s.pop("characters")), r"has no list of characters"),
    "no id": (with_a_name_that_is_no_id, r"story 'yabba': .*it is no clip id"),
    "boxes": (
        lambda t: cut_short(t / TRACKING / f"{FIRST_CLIP}_char_0.npy"),
        rf"{FIRST_CLIP}_char_0\.npy' are damaged",
    ),
}


@pytest.mark.parametrize("damage", BAD)
def test_bad_files_are_named_and_left_out_only_when_asked(damage, tmp_path, capsys):
    spoil, said = BAD[damage]
    tree = write_tree(tmp_path / "tree", STORIES)
    spoil(tree)
    broken = [finding.what for finding in check(tree, pictures=True).findings if finding.kind == "broken"]
    assert len(broken) == 1
    assert re.search(said, broken[0])
    with pytest.raises(StoryjaxError, match=said):
        build("flintstones_sv", tmp_path / "data", manual_dir=tree)
    capsys.readouterr()
    built = build("flintstones_sv", tmp_path / "data", manual_dir=tree, skip_broken=True)
    (line,) = (built / LEFT_OUT).read_text().splitlines()
    assert re.search(said, line)
    assert line in capsys.readouterr().out
    assert sum(len(open_source(built, split)) for split in ("train", "validation", "test")) == 11 + (damage == "no id")


def test_clips_of_mixed_sizes_are_said(tmp_path, capsys):
    tree = write_tree(tmp_path / "tree", STORIES)
    np.save(tree / CLIP, np.zeros((3, 20, 30, 3), np.uint8))
    assert any(
        "clips of 2 sizes: 16x16 (15), 30x20 (1)" in finding.what for finding in check(tree, pictures=True).findings
    )
    for config in ("visualization", "visualization_clips"):
        built = build("flintstones_sv", tmp_path / "data", config, manual_dir=tree)
        assert "pictures of 2 sizes: 16x16 (59), 30x20 (1)" in capsys.readouterr().out
        for split in ("train", "validation", "test"):
            assert open_source(built, split, size=16)[0]["images"].shape == (5, 16, 16, 3)


TREES = {
    "no clips": (lambda tree: (tree / CLIPS).rename(tree / f"{CLIPS}.zip"), f"{CLIPS}.zip is there: unpack it"),
    "no JSON": (lambda tree: cut_short(tree / ANNOTATIONS), "is no JSON that can be read"),
    "no val": (
        lambda tree: (tree / SPLITS).write_text('{"train": [], "test": []}'),
        "lists of clip ids as train, val and test",
    ),
    "annotations": (lambda tree: (tree / ANNOTATIONS).write_text('[{"id": 1}]'), "a list of clips with 'globalID'"),
    "no split file": (lambda tree: (tree / SPLITS).unlink(), f"{SPLITS}' is missing"),
}


@pytest.mark.parametrize("damage", TREES)
def test_a_tree_that_cannot_be_built_is_told(damage, tmp_path):
    spoil, said = TREES[damage]
    tree = write_tree(tmp_path / "tree", STORIES)
    spoil(tree)
    (finding,) = (finding for finding in check(tree).findings if finding.kind == "missing")
    assert re.search(said, finding.what)
    with pytest.raises(StoryjaxError):
        build("flintstones_sv", tmp_path / "data", manual_dir=tree, skip_broken=True)


def test_held_out_stories_that_reach_into_train_are_noted(tree):
    assert any(
        "held-out stories have later clips of the train split" in finding.what for finding in check(tree).findings
    )


def test_a_tree_without_tracking_is_recognised_and_noted(tmp_path):
    tree = write_tree(tmp_path, STORIES, tracking=False)
    assert recognise(tree) == FlintstonesLayout.data_set
    assert any(f"no {TRACKING}/" in finding.what for finding in check(tree).findings)


def test_dummy_data_is_what_dummy_writes(tmp_path):
    assert same_tree(Path(__file__).parent / "dummy_data", write_tree(tmp_path, (2, 1, 1), size=6))
