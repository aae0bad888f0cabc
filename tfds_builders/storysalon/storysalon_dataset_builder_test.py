"""StorySalon: every spelling of its folders, pairing by name, splits, windows, and every file that can be wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from storyjax.data import BatchSpec, Windows, iterate_once, open_source
from storyjax.data.windows import loss_mask, references_and_target
from storyjax.errors import StoryjaxError
from tests.tfds_builders.trees import build_from, copy_of, cut_off, findings, names
from tfds_builders.layout import LayoutError
from tfds_builders.storysalon.dummy import NAMES, STORIES, caption, frame_stems, write_tree
from tfds_builders.storysalon.layout import StorySalonLayout
from tfds_builders.storysalon.tree import frame_key, natural

DUMMY = Path(__file__).parent / "dummy_data"
TRAIN = ["African/900002", "Video/000001"]
TEST = ["Book/900001", "Video/000002"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return build_from("storysalon", DUMMY, tmp_path_factory.mktemp("data"), "story")


def numbers(part: str, story: str) -> list[int]:
    """The frames of a dummy story in the order of the release."""
    return list(range(STORIES[part][story]))


def test_dummy_data_is_what_dummy_py_writes(tmp_path):
    assert names(write_tree(tmp_path)) == names(DUMMY)
    assert sum(file.stat().st_size for file in DUMMY.rglob("*") if file.is_file()) < 64_000
    for name in ("PDF_test_set.txt", "video_test_set.txt", "metadata.json"):
        assert (tmp_path / name).read_text() == (DUMMY / name).read_text()


def test_whole_stories_read_back_as_they_lie(built):
    for split, ids in (("train", TRAIN), ("test", TEST)):
        source = open_source(built, split, size=(12, 16), windows=1)
        assert isinstance(source, Windows)
        whole = source.source
        assert whole.table.ids == ids
        for index, name in enumerate(ids):
            part, story = name.split("/")
            where = (
                DUMMY / ("image_inpainted_finally_checked" if part == "Video" else f"Image_inpainted/{part}") / story
            )
            masks = DUMMY / ("mask" if part == "Video" else f"Mask/{part}") / story
            item = whole[index]
            assert item["sentences"] == [caption(part, story, n) for n in numbers(part, story)]
            assert item["narrative"] == [f"And then, {n} ..." for n in numbers(part, story)]
            for n in numbers(part, story):
                stem, mask_stem = frame_stems(part, story, n)
                assert item["frame_id"][n] == stem
                np.testing.assert_array_equal(item["images"][n], np.asarray(Image.open(where / f"{stem}.jpg")))
                mask = np.asarray(Image.open(masks / f"{mask_stem}.jpg").convert("L"))
                np.testing.assert_array_equal(item["figures"][n], mask)
            assert item["title"] == ("A film about a fox" if name == "Video/000001" else "")


def test_windows_of_four_are_storygens_second_stage(built):
    windows = open_source(built, "train", size=512, fit="stretch", windows=4)
    assert windows.table.ids == ["African/900002[0:4]", "Video/000001[0:4]", "Video/000001[1:5]"]
    item = windows[2]
    assert item["images"].shape == (4, 512, 512, 3)
    assert item["figures"].shape == (4, 512, 512)
    assert item["sentences"][3] == caption("Video", "000001", 4)
    (batch,) = iterate_once(windows, BatchSpec(text=None, extra=("figures",)), 3)
    np.testing.assert_array_equal(batch["figures"][2], item["figures"])
    references, target = references_and_target(batch["images"])
    assert (references.shape, target.shape) == ((3, 3, 512, 512, 3), (3, 512, 512, 3))
    assert loss_mask(batch["figures"]).shape == (3, 512, 512)
    with pytest.raises(StoryjaxError, match="stories of different length"):
        open_source(built, "train", size=512)


def test_single_frames_are_the_targets_of_the_windows(tmp_path):
    source = open_source(build_from("storysalon", DUMMY, tmp_path, "image"), "train")
    assert [name.rsplit("/", 1)[0] for name in source.table.ids] == ["African/900002", "Video/000001", "Video/000001"]
    assert source.all_sentences() == [
        caption("African", "900002", 3),
        caption("Video", "000001", 3),
        caption("Video", "000001", 4),
    ]
    assert source[0]["figures"].shape == (1, 12, 16)


@pytest.mark.parametrize("spelling", NAMES)
def test_folders_are_found_however_they_are_called(spelling, tmp_path):
    tree = write_tree(tmp_path / "tree", spelling)
    assert StorySalonLayout.recognises(tree)
    layout = StorySalonLayout(tree, "story")
    assert [f"{part}/{story}" for part, story in layout.splits()["train"]] == TRAIN
    assert not findings(layout, "broken", pictures=True)
    assert not findings(layout, "missing")
    assert layout.story(("Video", "000001"))["title"] == "A film about a fox"


def test_files_are_paired_by_name_and_never_by_position(tmp_path):
    """A mask that is missing breaks its own story; in the release it shifts those of all later stories."""
    tree = copy_of(DUMMY, tmp_path / "tree")
    stray = tree / "mask" / "000001" / "000001_mask_0-0-0-1.jpg"  # sorts first, belongs to no picture
    shutil.copy(next((tree / "mask" / "000001").iterdir()), stray)
    record = StorySalonLayout(tree, "story").story(("Video", "000001"))
    for n, frame in enumerate(record["frames"]):
        mask = tree / "mask" / "000001" / f"{frame_stems('Video', '000001', n)[1]}.jpg"
        assert frame["figure"] == mask.read_bytes()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("000000_keyframe_0-0-14-814", "000000_mask_0-0-14-814", True),
        ("000000_keyframe_0-0-14-814", "000000_keyframe_0-0-14-814", True),
        ("900001_01", "900001_mask_01", True),
        ("900001_01", "900001_02", False),
        ("000000_keyframe_0-0-14-814", "000000_mask_0-0-14-81", False),
        ("image", "mask", False),
    ],
)
def test_a_frames_name_says_which_files_belong_together(one, other, same):
    assert (frame_key(one) == frame_key(other)) is same


@given(
    st.lists(st.tuples(*[st.integers(0, 3), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999)]), max_size=9)
)
def test_frames_of_videos_sort_by_time(times):
    called = [f"000001_keyframe_{h}-{m}-{s}-{ms}.jpg" for h, m, s, ms in times]
    assert sorted(called, key=natural) == [f"000001_keyframe_{h}-{m}-{s}-{ms}.jpg" for h, m, s, ms in sorted(times)]


def test_frames_of_books_sort_by_letter(tmp_path):
    tree = write_tree(tmp_path / "tree", stories={"Book": {"900001": 5}})
    for folder, suffix in (("Image_inpainted", "jpg"), ("Mask", "jpg"), ("Text/Caption", "txt")):
        (tree / folder / "Book/900001" / f"900001_02.{suffix}").rename(
            tree / folder / "Book/900001" / f"900001_10.{suffix}"
        )
        (tree / folder / "Book/900001" / f"900001_03.{suffix}").rename(
            tree / folder / "Book/900001" / f"900001_9.{suffix}"
        )
    ids = [frame["frame_id"] for frame in StorySalonLayout(tree).story(("Book", "900001"))["frames"]]
    assert ids == ["900001_01", "900001_04", "900001_05", "900001_10", "900001_9"]


def test_check_notes_what_is_left_out(tmp_path):
    notes = findings(StorySalonLayout(DUMMY, "story"), "note")
    assert notes == ["6 stories of fewer than 4 frames are left out, such as Bloom/900003"]
    books = copy_of(DUMMY, tmp_path / "books")
    for folder in ("image_inpainted_finally_checked", "mask", "Text/Narrative_Filtered", "Image_inpainted/Book"):
        shutil.rmtree(books / folder)
    (books / "Image_inpainted/African/900002/900002.txt").write_text("subtitles")
    layout = StorySalonLayout(books, "story")
    assert layout.splits() == {"train": [("African", "900002")], "test": []}
    notes = findings(layout, "note")
    assert notes[0] == "no pictures of Book, Video: built without"
    assert "no Text/Narrative" in notes[1]
    assert "1 files among the pictures are none and are not read" in notes[3]
    assert "1 ids of PDF_test_set.txt may be of libraries that are not there: 900001" in notes[4]


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("PDF_test_set.txt", "PDF_test_set.txt' is missing; copy it from the folder data/ of StoryGen's repository"),
        ("video_test_set.txt", "video_test_set.txt' is missing"),
        ("Mask/Book", "has pictures, but Mask/Book is missing"),
        ("Text/Caption/Video", "has pictures, but Text/Caption/Video is missing"),
    ],
)
def test_what_is_missing_is_said_before_a_build(gone, said, tmp_path):
    tree = copy_of(DUMMY, tmp_path / "tree")
    (shutil.rmtree if (tree / gone).is_dir() else Path.unlink)(tree / gone)
    (missing,) = findings(StorySalonLayout(tree, "story"), "missing")
    assert said in missing
    with pytest.raises(LayoutError):
        StorySalonLayout(tree, "story").splits()


def test_a_folder_without_pictures_is_told_what_to_hold(tmp_path):
    assert not StorySalonLayout.recognises(tmp_path)
    (missing,) = findings(StorySalonLayout(tmp_path), "missing")
    assert "expected folders such as Image_inpainted/African/000001" in missing


VIDEO = "image_inpainted_finally_checked/000001/000001_keyframe_0-8-10-102.jpg"
MASK = "mask/000001/000001_mask_0-8-10-102.jpg"
CAPTION = "Text/Caption/Video/000001/000001_keyframe_0-8-10-102.txt"


def twice(tree: Path) -> None:
    shutil.copy(tree / MASK, tree / "mask/000001/000001_0-8-10-102.jpg")


SPOILS = {
    "cut off": (lambda tree: cut_off(tree / VIDEO), "0-8-10-102.jpg' is damaged", True),
    "no picture": (lambda tree: (tree / VIDEO).write_text("x"), "0-8-10-102.jpg' is no picture", True),
    "mask cut off": (lambda tree: cut_off(tree / MASK), "000001_mask_0-8-10-102.jpg' is damaged", True),
    "mask of another size": (
        lambda tree: Image.open(tree / MASK).resize((8, 8)).save(tree / MASK),
        "000001_mask_0-8-10-102.jpg' is 8x8 pixels, its picture",
        True,
    ),
    "no mask": (lambda tree: (tree / MASK).unlink(), "0-8-10-102.jpg' needs one mask in", False),
    "two masks": (twice, "which has 2: 000001_0-8-10-102.jpg, 000001_mask_0-8-10-102.jpg", False),
    "no caption": (lambda tree: (tree / CAPTION).unlink(), "0-8-10-102.jpg' needs one caption in", False),
    "empty caption": (lambda tree: (tree / CAPTION).write_text(" \n"), "0-8-10-102.txt' is empty", True),
    "caption of another encoding": (
        lambda tree: (tree / CAPTION).write_bytes(b"caf\xe9"),
        "0-8-10-102.txt' cannot be read as UTF-8",
        True,
    ),
}


@pytest.mark.parametrize("what", SPOILS)
def test_a_wrong_file_is_named_by_check_and_by_the_build(what, tmp_path, capfd):
    spoil, said, needs_pictures = SPOILS[what]
    tree = copy_of(DUMMY, tmp_path / "tree")
    spoil(tree)
    assert bool(findings(StorySalonLayout(tree, "story"), "broken")) != needs_pictures
    (broken,) = findings(StorySalonLayout(tree, "story"), "broken", pictures=True)
    assert said in broken
    with pytest.raises(StoryjaxError) as stopped:
        build_from("storysalon", tree, tmp_path / "whole", "story")
    assert said in str(stopped.value)
    assert "--skip-broken" in str(stopped.value)
    capfd.readouterr()
    folder = build_from("storysalon", tree, tmp_path / "part", "story", skip_broken=True)
    told = capfd.readouterr().out
    assert "1 stories left out" in told
    assert said in told
    assert open_source(folder, "train", size=8).table.ids == TRAIN[:1]


def test_a_test_list_with_unknown_ids_is_said(tmp_path, capfd):
    tree = copy_of(DUMMY, tmp_path / "tree")
    (tree / "video_test_set.txt").write_text(
        "000002\n000777"
    )  # no new line at the end: in the release the last digit is cut
    (broken,) = findings(StorySalonLayout(tree, "story"), "broken")
    assert broken == "video_test_set.txt names story 000777, but no folder of pictures is called so"
    with pytest.raises(StoryjaxError, match="names story 000777"):
        build_from("storysalon", tree, tmp_path / "whole", "story")
    folder = build_from("storysalon", tree, tmp_path / "part", "story", skip_broken=True)
    assert "names story 000777" in capfd.readouterr().out
    assert open_source(folder, "test", size=8, windows=4).source.table.ids == TEST


def test_a_stretched_video_frame_may_have_a_mask_of_its_old_size(tmp_path):
    tree = copy_of(DUMMY, tmp_path / "tree")
    for file in (tree / "image_inpainted_finally_checked/000002").iterdir():
        Image.open(file).resize((854, 480)).save(file)
    assert not findings(StorySalonLayout(tree, "story"), "broken", pictures=True)
    windows = open_source(
        build_from("storysalon", tree, tmp_path / "data", "story"), "test", size=32, fit="stretch", windows=4
    )
    assert windows[2]["figures"].shape == windows[2]["images"].shape[:3] == (4, 32, 32)


def test_pictures_of_several_sizes_are_said_and_fitted(tmp_path, capfd):
    tree = copy_of(DUMMY, tmp_path / "tree")
    for part in ("Image_inpainted", "Mask"):
        for file in (tree / part / "African/900002").iterdir():
            Image.open(file).resize((20, 10)).save(file)
    folder = build_from("storysalon", tree, tmp_path / "data", "story")
    assert "pictures of 2 sizes: 16x12" in capfd.readouterr().out
    with pytest.raises(StoryjaxError, match="the first one 10x20; pass size="):
        open_source(folder, "train", windows=4)[1]
    assert open_source(folder, "train", size=8, windows=4)[1]["images"].shape == (4, 8, 8, 3)


def test_damaged_titles_are_refused(tmp_path):
    tree = copy_of(DUMMY, tmp_path / "tree")
    cut_off(tree / "metadata.json")
    (missing,) = findings(StorySalonLayout(tree), "missing")
    assert "metadata.json' is damaged" in missing
