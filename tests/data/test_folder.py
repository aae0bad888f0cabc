"""The user's own stories: the same items as a dataset, and every mistake in the file told with its place."""

import json
import warnings

import numpy as np
import pytest
from PIL import Image

from storyjax.data import open_source
from storyjax.data.folder import PicturesResizedWarning
from storyjax.errors import StoryjaxError
from tests.data import worlds


def frame(n, **more):
    return {"image": f"{n}.png", "sentence": f"Sentence {n}."} | more


def folder_with(tmp_path, content):
    """Two good pictures, and `content` as stories.json."""
    for n in (1, 2):
        Image.fromarray(worlds.picture(n, 0)).save(tmp_path / f"{n}.png")
    (tmp_path / "stories.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path


def test_items_have_the_format_of_a_dataset(tmp_path, source):
    ours = open_source(worlds.write_folder(tmp_path))
    assert (len(ours), ours.frames, ours.size) == (4, 3, (32, 32))
    story, theirs = ours[1], source[1]
    assert (story["title"], story["sentences"][2]) == ("Tale 1", "Mia and Tom sit, part 2.")
    np.testing.assert_array_equal(story["images"], [worlds.picture(1, f) for f in range(3)])
    for name in ("images", "characters", "place", "names_characters", "names_place"):
        assert story[name].dtype == theirs[name].dtype, name
        assert story[name].ndim == theirs[name].ndim, name


def test_truth_is_read_where_it_is_given(tmp_path):
    frames = [
        frame(1, characters=["Zoe", "Al"], place="old mill", action="run"),
        frame(2, sentence="At the OLD MILL, zoe waits.", characters=["Zoe"], place="old mill"),
        frame(1, sentence="Alan is no Al.", characters=["Al"], action="sit"),
        frame(1, sentence="Alan waits.", characters=["Al"]),
    ]
    source = open_source(folder_with(tmp_path, [{"frames": frames}]))
    assert (source.labels.characters, source.labels.place, source.labels.weather) == (("Al", "Zoe"), ("old mill",), ())
    truth = source[0]
    np.testing.assert_array_equal(truth["characters"], [[1, 1], [0, 1], [1, 0], [1, 0]])
    np.testing.assert_array_equal(truth["place"], [0, 0, -1, -1])
    np.testing.assert_array_equal(truth["action"], [0, -1, 1, -1])
    np.testing.assert_array_equal(truth["names_characters"], [False, True, True, False])
    np.testing.assert_array_equal(truth["names_place"], [False, True, False, False])
    assert "weather" not in source.fields


def test_stories_may_name_their_split(tmp_path):
    folder = folder_with(tmp_path, [{"frames": [frame(1)]}, {"frames": [frame(2)], "split": "test", "title": "T"}])
    assert open_source(folder, "test")[0]["title"] == "T"
    assert [len(open_source(folder, split)) for split in ("train", "all")] == [1, 2]
    with pytest.raises(StoryjaxError, match="no split 'tset'; did you mean 'test'"):
        open_source(folder, "tset")


def test_resizing_is_said_once_with_what_is_done(tmp_path):
    folder = folder_with(tmp_path, [{"title": "Two", "frames": [frame(1), frame(2)]}])
    Image.new("RGB", (64, 48)).save(folder / "2.png")
    with pytest.raises(
        StoryjaxError, match=r"different sizes: .*'1\.png'.* is 32x32, .*'2\.png'.* is 64x48; pass size="
    ):
        open_source(folder)
    with pytest.warns(
        PicturesResizedWarning, match=r"1 of 2 pictures are not 32x32 .*64x48.*'2\.png' \(story 1 'Two', frame 2\).*"
    ):
        source = open_source(folder, size=32)
    assert source[0]["images"].shape == (2, 32, 32, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_source(worlds.write_folder(tmp_path / "even"), size=32).size == (32, 32)


def test_different_frame_counts_are_refused_or_cut(tmp_path):
    folder = folder_with(
        tmp_path,
        [{"frames": [frame(1), frame(2)]}, {"title": "Short", "frames": [frame(1)]}, {"frames": [frame(1), frame(2)]}],
    )
    with pytest.raises(StoryjaxError, match="most have 2 frames, but story 2 'Short' has 1; pass frames=1"):
        open_source(folder)
    assert open_source(folder, frames=1).all_sentences() == ["Sentence 1."] * 3
    with pytest.raises(StoryjaxError, match="2 frames asked for, but story 2 'Short' has 1"):
        open_source(folder, frames=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '[{"frames": [\n{"image": "1.png",\n"sentence" "x"}]}]',
            r"stories\.json' is not valid JSON: line 3, column 12",
        ),
        ({"frames": []}, r"holds a dict; expected a list of stories"),
        ([], "has no stories; expected at least one"),
        ([{"title": "Empty", "frames": []}], "story 1 'Empty' has no frames; give at least one frame"),
        ([{"title": "No frames"}], "story 1 has no 'frames'; every story needs one"),
        ([{"frames": [frame(1), {"image": "2.png"}]}], "story 1, frame 2 has no 'sentence'; every frame needs one"),
        ([{"frames": [frame(1), frame(2, sentence=" ")]}], "story 1, frame 2 has an empty 'sentence'"),
        ([{"frames": [{"sentence": "x"}]}], "story 1, frame 1 has no 'image'"),
        ([{"frames": [frame(1, sentense="x")]}], "story 1, frame 1: unknown field 'sentense'; did you mean 'sentence'"),
        ([{"frames": [frame(1, sentence=3)]}], "story 1, frame 1: field 'sentence': .*string, got 3"),
        ([{"frames": [frame(1, characters="Mia")]}], "story 1, frame 1: field 'characters': .*list, got 'Mia'"),
        ([{"frames": [frame(1, characters=["Mia", 4])]}], "story 1, frame 1: field 'characters': .*string, got 4"),
        ([{"frames": [frame(1), frame(7)]}], r"picture '7\.png' \(story 1, frame 2\) does not exist"),
        ([{"frames": [frame(1, image="stories.json")]}], r"picture 'stories\.json' \(story 1, frame 1\) is no picture"),
        ([{"frames": [frame(1, image=".")]}], r"picture '\.' \(story 1, frame 1\) is no picture"),
        (["a story"], "story 1: .*expected an object with 'frames', got 'a story'"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, content, message):
    with pytest.raises(StoryjaxError, match=message) as caught:
        open_source(folder_with(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_utf8_is_told(tmp_path):
    (tmp_path / "stories.json").write_bytes('[{"title": "Zoë"}]'.encode("latin-1"))
    with pytest.raises(StoryjaxError, match=r"is not UTF-8 text .*save it as UTF-8"):
        open_source(tmp_path)


def test_a_half_written_picture_is_named_when_it_is_read(tmp_path):
    folder = folder_with(tmp_path, [{"frames": [frame(1)]}])
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    (folder / "1.png").write_bytes(worlds.png(noise)[:1500])
    with pytest.raises(StoryjaxError, match=r"picture '1\.png' \(story 1, frame 1\) cannot be read"):
        open_source(folder)[0]


def test_the_fingerprint_sees_a_changed_picture(tmp_path):
    folder = worlds.write_folder(tmp_path)
    before = open_source(folder).fingerprint()
    assert open_source(folder).fingerprint() == before
    Image.fromarray(worlds.picture(9, 0)).save(folder / "0" / "0.png")
    assert open_source(folder).fingerprint() != before
