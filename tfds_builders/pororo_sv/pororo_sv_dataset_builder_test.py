"""PororoSV from fake trees: records equal the files, splits equal the loader's, and bad trees are told in words."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from storyjax.cli import main
from storyjax.data import BatchSpec, make_batches, open_source
from storyjax.data.build import build
from storyjax.data.check import check
from storyjax.errors import StoryjaxError
from tfds_builders.manual import LEFT_OUT
from tfds_builders.pororo_sv.dummy import write_tree
from tfds_builders.pororo_sv.layout import CHARACTERS, FIGURES, FIRST, LABELS, NEXT, READY, SPLITS, PororoLayout
from tfds_builders.strips import chosen
from tfds_builders.testing import build_without_tensorflow, cut_short, pixels, same_tree

STORIES = (6, 3, 3)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return write_tree(tmp_path_factory.mktemp("pororo") / "tree", STORIES)


@pytest.fixture(scope="module")
def ready(tree, tmp_path_factory) -> Path:
    return build_without_tensorflow("pororo_sv", tree, tmp_path_factory.mktemp("data"), "continuation")


@pytest.fixture(scope="module")
def strips(tree, tmp_path_factory) -> Path:
    return build("pororo_sv", tmp_path_factory.mktemp("data"), "visualization_strips", manual_dir=tree)


def loaded(tree: Path, split: str) -> list[list[str]]:
    """The picture ids of a split's stories, read straight from the files as specs of the released loader say."""
    first, following = np.load(tree / FIRST), np.load(tree / NEXT)
    numbers = np.load(tree / SPLITS, allow_pickle=True)[("train", "validation", "test").index(split)]
    return [[path.decode()[:-4] for path in (first[n], *following[n][:4])] for n in np.sort(numbers)]


def test_records_equal_the_files(tree, ready):
    captions = np.load(tree / "descriptions_blip2.npy", allow_pickle=True).item()
    labels = np.load(tree / LABELS, allow_pickle=True).item()
    for split, count in zip(("train", "validation", "test"), STORIES):
        source = open_source(ready, split)
        stories = loaded(tree, split)
        assert len(source) == count == len(stories)
        for story, ids in zip(source, stories):
            assert story["frame_id"] == ids
            assert story["story_id"] == ids[0]
            assert story["sentences"] == [captions[name][0].lower() for name in ids]
            np.testing.assert_array_equal(story["images"], [pixels(tree / READY / f"{name}.png") for name in ids])
            np.testing.assert_array_equal(story["characters"], [labels[name] for name in ids])
            assert "figures" not in story  # which frame of the strip was chosen is not known


def test_the_metadata_name_the_characters_and_the_given_frame(ready, strips):
    assert open_source(ready).labels.characters == CHARACTERS
    assert (open_source(ready).given, open_source(strips).given) == (1, 0)
    assert (open_source(ready).has_strips, open_source(strips).has_strips) == (False, True)
    assert tfds.builder_from_directory(strips).info.metadata["pictures"] == "strips"


def test_training_on_train_and_validation_together(tree, ready):
    union = open_source(ready, "train+validation")
    numbers = np.load(tree / SPLITS, allow_pickle=True)
    first = np.load(tree / FIRST)
    expected = {first[n].decode()[:-4] for n in np.concatenate((numbers[0], numbers[1]))}
    assert set(union.table.ids) == expected
    assert len(union) == 9
    with pytest.raises(StoryjaxError, match="no split 'validatoin'; did you mean 'validation'"):
        open_source(ready, "train+validatoin")


def test_strips_keep_their_bytes_and_the_name_chooses_the_picture(tree, strips):
    source = open_source(strips, "train")
    whole = tfds.decode.DeserializeMethod.RAW_BYTES
    raw = tfds.builder_from_directory(str(strips)).as_data_source("train", deserialize_method=whole)
    for index, ids in enumerate(loaded(tree, "train")):
        files = [tree / f"{name}.png" for name in ids]
        assert all(file.read_bytes() in raw[index] for file in files)
        story = source[index]
        for f, (file, name) in enumerate(zip(files, ids)):
            strip = pixels(file)
            side = strip.shape[1]
            number = chosen(name, len(strip) // side)
            rows = slice(number * side, (number + 1) * side)
            np.testing.assert_array_equal(story["images"][f], strip[rows])
            mask = np.asarray(Image.open(tree / FIGURES / f"{'_'.join(name.split('/')[-2:])}.png"))
            np.testing.assert_array_equal(story["figures"][f], mask[rows])


def test_random_frames_are_drawn_anew_in_each_epoch_and_resume(strips):
    source = open_source(strips, "train")
    spec = BatchSpec(text=None)

    def stream(**options):
        return make_batches(source, spec, 3, seed=4, threads=0, **options)

    batches = stream(random_frames=True)
    seen = [next(batches) for _ in range(12)]  # six epochs
    state = batches.get_state()
    following = next(batches)
    resumed = stream(random_frames=True)
    resumed.set_state(state)
    np.testing.assert_array_equal(next(resumed)["images"], following["images"])
    other_threads = make_batches(source, spec, 3, seed=4, threads=2, random_frames=True)
    np.testing.assert_array_equal(next(other_threads)["images"], seen[0]["images"])
    other_threads.close()
    of_story = [batch["images"][row] for batch in seen for row in range(3) if batch["index"][row] == 2]
    assert len({images.tobytes() for images in of_story}) > 1
    fixed = [next(b) for b in [stream()] for _ in range(12)]
    assert len({batch["images"][r].tobytes() for batch in fixed for r in range(3) if batch["index"][r] == 2}) == 1
    assert [b["index"].tolist() for b in fixed] == [b["index"].tolist() for b in seen]
    with pytest.raises(StoryjaxError, match="expected a data state with"):
        stream().set_state(state)


def test_a_drawn_picture_is_one_of_its_strip(tree, strips):
    source = open_source(strips, "test")
    pictures = source.random_images(1, np.random.default_rng(3))
    for picture, name in zip(pictures, loaded(tree, "test")[1]):
        strip = pixels(tree / f"{name}.png")
        assert any((picture == strip[top : top + 24]).all() for top in range(0, len(strip), 24))


def test_random_frames_need_strips(ready):
    with pytest.raises(StoryjaxError, match="random_frames needs images of frames with several pictures"):
        make_batches(open_source(ready), BatchSpec(text=None), 2, seed=0, random_frames=True)


def test_without_labels_nobody_is_invented(tmp_path):
    tree = write_tree(tmp_path / "tree", labels=False)
    assert any(f"no {LABELS}" in finding.what for finding in check(tree).findings)
    source = open_source(build("pororo_sv", tmp_path / "data", manual_dir=tree))
    assert "characters" not in source.table.truth
    assert "characters" not in source[0]
    with pytest.raises(StoryjaxError, match="has no characters"):
        make_batches(source, BatchSpec(text=None, truth=("characters",)), 2, seed=0)


def test_several_processes_write_the_same_records(tree, ready, tmp_path):
    again = build("pororo_sv", tmp_path, "continuation", processes=2, manual_dir=tree)
    for one, other in zip(open_source(again, "train"), open_source(ready, "train"), strict=True):
        np.testing.assert_equal(one, other)


def without_caption(tree, name):
    for file in ("descriptions_blip2.npy", "descriptions.npy"):
        captions = np.load(tree / file, allow_pickle=True).item()
        del captions[name]
        np.save(tree / file, np.array(captions, dtype=object), allow_pickle=True)


def with_an_empty_caption(tree, name):
    captions = np.load(tree / "descriptions_blip2.npy", allow_pickle=True).item()
    np.save(tree / "descriptions_blip2.npy", np.array(captions | {name: [" "]}, dtype=object), allow_pickle=True)


def with_unknown_numbers(tree, name):
    numbers = np.load(tree / SPLITS, allow_pickle=True)
    numbers[2] = np.append(numbers[2], [4711])
    np.save(tree / SPLITS, numbers, allow_pickle=True)


def with_seven_labels(tree, name):
    labels = np.load(tree / LABELS, allow_pickle=True).item()
    np.save(tree / LABELS, np.array(labels | {name: [1] * 7}, dtype=object), allow_pickle=True)


def with_a_small_mask(tree, name):
    Image.new("L", (24, 24)).save(tree / FIGURES / ("_".join(name.split("/")[-2:]) + ".png"))


def with_a_wide_strip(tree, name):
    Image.new("RGB", (72, 24)).save(tree / f"{name}.png")


READY_FRAMES, STRIPS = "visualization", "visualization_strips"
BAD = {
    "corrupt picture": (READY_FRAMES, lambda t, n: cut_short(t / READY / f"{n}.png"), r"{name}\.png' is damaged"),
    "no picture": (
        READY_FRAMES,
        lambda t, n: (t / READY / f"{n}.png").write_text("<html>"),
        r"{name}\.png' is no picture",
    ),
    "missing picture": (READY_FRAMES, lambda t, n: (t / READY / f"{n}.png").unlink(), r"{name}\.png' does not exist"),
    "missing caption": (READY_FRAMES, without_caption, r"descriptions_blip2\.npy has no caption for '{name}'"),
    "empty caption": (READY_FRAMES, with_an_empty_caption, r"caption of '{name}' in descriptions_blip2\.npy is ' '"),
    "unknown ids": (READY_FRAMES, with_unknown_numbers, r"story 4711: train_seen_unseen_ids\.npy names it"),
    "labels": (READY_FRAMES, with_seven_labels, r"labels\.npy has \[1, .* for '{name}'; expected 9 numbers"),
    "corrupt strip": (STRIPS, lambda t, n: cut_short(t / f"{n}.png"), r"{name}\.png' is damaged"),
    "missing caption of a strip": (STRIPS, without_caption, r"descriptions\.npy has no caption for '{name}'"),
    "mask of another size": (STRIPS, with_a_small_mask, r"img_segment/.*\.png' is 24x24 pixels, its picture 24x"),
    "wide strip": (STRIPS, with_a_wide_strip, r"{name}\.png' is 72x24 pixels, wider than high"),
}


@pytest.mark.parametrize("damage", BAD)
def test_bad_files_are_named_and_left_out_only_when_asked(damage, tmp_path, capsys):
    config, spoil, said = BAD[damage]
    tree = write_tree(tmp_path / "tree", STORIES)
    name = loaded(tree, "validation")[0][0]  # the first scene of an episode is in one story only
    spoil(tree, name)
    said = re.compile(said.format(name=re.escape(name)))
    broken = [
        finding.what for finding in check(tree, config=config, pictures=True).findings if finding.kind == "broken"
    ]
    assert len(broken) == 1
    assert said.search(broken[0])
    with pytest.raises(StoryjaxError, match=said) as error:
        build("pororo_sv", tmp_path / "data", config, manual_dir=tree)
    assert "--skip-broken" in str(error.value)
    assert not list((tmp_path / "data").rglob("dataset_info.json"))
    capsys.readouterr()
    built = build("pororo_sv", tmp_path / "data", config, manual_dir=tree, skip_broken=True)
    lines = (built / LEFT_OUT).read_text().splitlines()
    told = capsys.readouterr().out
    assert "pororo_sv: 1 stories left out" in told
    assert len(lines) == 1
    assert said.search(lines[0])
    assert lines[0] in told
    sources = [open_source(built, split) for split in ("train", "validation", "test")]
    left = 2 if damage != "unknown ids" else 3  # a number that is not there was the fourth of its split
    assert [len(source) for source in sources] == [6, left, 3]


def test_mixed_sizes_are_said_and_fitted_when_asked(tmp_path, capsys):
    tree = write_tree(tmp_path / "tree", STORIES)
    name = loaded(tree, "train")[0][0]
    Image.new("RGB", (40, 30), "red").save(tree / READY / f"{name}.png")
    report = check(tree, pictures=True)
    assert report.whole
    assert any("pictures of 2 sizes: 24x24 (15), 40x30 (1)" in finding.what for finding in report.findings)
    built = build("pororo_sv", tmp_path / "data", manual_dir=tree)
    assert "pictures of 2 sizes: 24x24 (" in capsys.readouterr().out
    assert open_source(built, size=24)[0]["images"].shape == (5, 24, 24, 3)
    source = open_source(built)
    with pytest.raises(StoryjaxError, match="pass size="):
        [source.images(i) for i in range(len(source))]


def test_several_processes_skip_and_stop_alike(tmp_path):
    tree = write_tree(tmp_path / "tree", STORIES)
    cut_short(tree / READY / f"{loaded(tree, 'train')[0][2]}.png")
    with pytest.raises(StoryjaxError, match=r"is damaged .*--skip-broken"):
        build("pororo_sv", tmp_path / "two", processes=2, manual_dir=tree)
    built = [
        build("pororo_sv", tmp_path / str(count), processes=count, manual_dir=tree, skip_broken=True)
        for count in (1, 2)
    ]
    alone, together = [(folder / LEFT_OUT).read_text() for folder in built]
    assert alone == together
    assert alone.count("\n") == 4  # the fourth scene is in the first four stories


def test_when_no_story_of_a_split_can_be_built_skipping_does_not_help(tmp_path):
    tree = write_tree(tmp_path / "tree", STORIES)
    for ids in loaded(tree, "test"):
        (tree / READY / f"{ids[4]}.png").unlink(missing_ok=True)
    with pytest.raises(StoryjaxError, match="none of the 3 stories of split test can be built"):
        build("pororo_sv", tmp_path / "data", manual_dir=tree, skip_broken=True)


class _Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def with_evil_captions(tree):
    np.save(tree / "descriptions_blip2.npy", np.array({"a": _Evil()}, dtype=object), allow_pickle=True)


TREES = {
    "no split file": (lambda tree: (tree / SPLITS).unlink(), "train_seen_unseen_ids.npy' is missing"),
    "older split": (
        lambda tree: (tree / SPLITS).rename(tree / "train_test_ids.npy"),
        "train_test_ids.npy is the older split",
    ),
    "packed": (lambda tree: (tree / READY).rename(tree / f"{READY}.zip"), f"{READY}.zip is there: unpack it"),
    "pickle": (with_evil_captions, "descriptions_blip2.npy' is refused: its pickle asks for .*mkdir"),
    "cut off": (lambda tree: cut_short(tree / LABELS), "labels.npy' cannot be read"),
    "two lists": (lambda tree: np.save(tree / SPLITS, [[1], [2]]), "must hold three lists .* got ndarray of shape"),
    "text for numbers": (lambda tree: np.save(tree / SPLITS, [["a"], ["b"], ["c"]]), "must hold story numbers"),
    "few followers": (
        lambda tree: np.save(tree / NEXT, np.array([[b"a.png"]] * 12)),
        "must hold 4 paths for each of the 12",
    ),
    "captions as a list": (
        lambda tree: np.save(tree / "descriptions_blip2.npy", ["a"]),
        "must hold a dictionary by picture id",
    ),
}


@pytest.mark.parametrize("damage", TREES)
def test_a_tree_that_cannot_be_built_is_told(damage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spoil, said = TREES[damage]
    tree = write_tree(tmp_path / "tree", STORIES)
    spoil(tree)
    (finding,) = (finding for finding in check(tree).findings if finding.kind == "missing")
    assert re.search(said, finding.what)
    with pytest.raises(StoryjaxError):
        build("pororo_sv", tmp_path / "data", manual_dir=tree, skip_broken=True)
    assert not (tmp_path / "pwned").exists()


def test_the_command_checks_and_builds(tree, tmp_path, capsys):
    main(["data", "check", str(tree)])
    said = capsys.readouterr().out
    assert "train" in said
    assert "6 stories (papers: 10,191)" in said
    assert "Nothing is missing or broken" in said
    bad = write_tree(tmp_path / "tree", STORIES)
    (bad / READY / f"{loaded(bad, 'validation')[0][0]}.png").unlink()
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", str(bad), "--name", "pororo_sv"])
    assert stopped.value.code == 1
    assert "does not exist (in 1 of the stories)" in capsys.readouterr().out
    main(["data", "build", "pororo_sv", "--manual-dir", str(bad), "--data-dir", str(tmp_path / "d"), "--skip-broken"])
    assert "1 stories left out" in capsys.readouterr().out
    assert len(open_source("pororo_sv", "validation", data_dir=tmp_path / "d")) == 2


def test_what_the_command_cannot_know_is_asked(tree, tmp_path):
    with pytest.raises(StoryjaxError, match=r"looks like none of .*pororo_sv.*--name"):
        check(tmp_path)
    with pytest.raises(StoryjaxError, match="no folder; check the path"):
        check(tmp_path / "none")
    with pytest.raises(StoryjaxError, match="did you mean 'pororo_sv'"):
        check(tree, "pororo")
    with pytest.raises(StoryjaxError, match="configuration of pororo_sv must be one of"):
        check(tree, config="strips")
    with pytest.raises(StoryjaxError, match="drawn by code"):
        check(tree, "cartoon_stories", "px64")
    with pytest.raises(StoryjaxError, match="your copy of pororo_sv is needed"):
        build("pororo_sv", tmp_path / "data")
    with pytest.raises(StoryjaxError, match="reads no files of yours"):
        build("cartoon_stories", tmp_path / "data", "tiny", manual_dir=tree)
    with pytest.raises(StoryjaxError, match="is no folder"):
        build("pororo_sv", tmp_path / "data", manual_dir=tmp_path / "none")


def test_a_layout_travels_to_reading_processes(tree):
    layout = PororoLayout(tree, "visualization")
    assert pickle.loads(pickle.dumps(layout)).story(3) == layout.story(3)


def test_dummy_data_is_what_dummy_writes(tmp_path):
    assert same_tree(Path(__file__).parent / "dummy_data", write_tree(tmp_path, (2, 1, 1), size=8))
