"""Stories of built datasets: what comes out equals what the builder was given; mistakes are named."""

import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds

from storyjax.data import TRUTH, open_source
from storyjax.errors import StoryjaxError
from tests.data import worlds


def expected_multi_hot(story):
    out = np.zeros((worlds.FRAMES, len(worlds.CHARACTERS)), np.uint8)
    for f in range(worlds.FRAMES):
        out[f, worlds.cast(story, f)] = 1
    return out


def test_a_decoded_story_equals_what_the_builder_wrote(source):
    assert (len(source), source.frames, source.size) == (20, 5, (32, 32))
    story = source[7]
    assert (story["story_id"], story["title"]) == ("s7", "Story 7")
    assert story["sentences"] == [worlds.frame_record(7, f)["sentence"] for f in range(5)]
    np.testing.assert_array_equal(story["images"], [worlds.picture(7, f) for f in range(5)])
    np.testing.assert_array_equal(story["characters"], expected_multi_hot(7))
    np.testing.assert_array_equal(story["place"], [1] * 5)
    np.testing.assert_array_equal(story["weather"], [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(story["action"], [(7 + f) % 3 for f in range(5)])
    np.testing.assert_array_equal(story["names_characters"], [True, False, False, False, False])
    np.testing.assert_array_equal(story["names_place"], [True] * 5)


def test_every_value_equals_what_tfds_decodes_itself(data_dir, source):
    theirs = tfds.builder_from_directory(str(data_dir / "tiny_stories" / "1.0.0")).as_data_source("train")[3]["frames"]
    ours = source[3]
    np.testing.assert_array_equal(ours["images"], np.stack(theirs["image"]))
    np.testing.assert_array_equal(ours["action"], theirs["action"])
    assert ours["sentences"] == [text.decode() for text in theirs["sentence"]]


def test_masks_and_boxes_are_numbered_by_character(source):
    story = source[4]
    assert worlds.cast(4, 1) == [1, 0, 3]  # not in numerical order: the k-th block must become character cast[k]
    for f in range(5):
        for k, character in enumerate(worlds.cast(4, f)):
            assert (story["masks"][f, 8:16, 8 * k : 8 * k + 8] == character + 1).all()
            np.testing.assert_allclose(story["boxes"][f, character], worlds.boxes(4, f)[k])
        absent = [k for k in range(4) if k not in worlds.cast(4, f)]
        assert not story["boxes"][f, absent].any()
        assert (story["masks"][f] > 0).sum() == 64 * len(worlds.cast(4, f))


def test_ragged_lists_give_the_same_truth_as_padded_ones(source, tmp_path):
    ragged = open_source(worlds.build_ragged(tmp_path / "ragged", stories=4))
    assert ragged.labels == source.labels
    for name in TRUTH:
        np.testing.assert_array_equal(ragged.table.truth[name], source.table.truth[name][:4])
    for name in ("images", "masks", "boxes"):
        np.testing.assert_array_equal(ragged[2][name], source[2][name])


def test_label_names_come_from_the_dataset(source):
    assert source.labels.characters == worlds.CHARACTERS
    assert source.labels.place == worlds.PLACES
    assert source.labels.action == ("run", "sit", "wave")


def test_sentences_need_no_pictures(source, monkeypatch):
    monkeypatch.setattr("storyjax.data.records.read_picture", lambda *a: pytest.fail("a picture was decoded"))
    assert source.sentences(2)[0] == worlds.frame_record(2, 0)["sentence"]
    assert len(source.all_sentences()) == 100
    assert source.all_sentences()[11] == worlds.frame_record(2, 1)["sentence"]
    assert source.arrays(2, ("characters", "place"))["characters"].shape == (5, 4)


def test_another_size_is_resized_with_masks_and_boxes_in_step(data_dir):
    story = open_source("tiny_stories", "train", data_dir=data_dir, size=(16, 8))[4]
    assert story["images"].shape == (5, 16, 8, 3)
    assert story["masks"].shape == (5, 16, 8)
    # 32x32 -> 16x16, then columns 4..11 are kept: a block of columns 0..7 becomes -4..-1, one of 8..15 becomes 0..3
    first, second, _ = worlds.cast(4, 1)
    np.testing.assert_allclose(story["boxes"][1, first], [0.25, 0, 0.5, 0])
    np.testing.assert_allclose(story["boxes"][1, second], [0.25, 0, 0.5, 0.5])
    np.testing.assert_array_equal(story["masks"][1, 4:8], [[second + 1] * 4 + [worlds.cast(4, 1)[2] + 1] * 4] * 4)


def test_the_first_frames_can_be_asked_for(data_dir):
    source = open_source("tiny_stories", "test", data_dir=data_dir, frames=2)
    assert source[0]["images"].shape == (2, 32, 32, 3)
    assert source[0]["masks"].shape == (2, 32, 32)
    assert source.table.truth["characters"].shape == (6, 2, 4)
    assert len(source.sentences(0)) == 2


def test_slices_of_a_split(data_dir, source):
    part = open_source("tiny_stories", "train[5:8]", data_dir=data_dir)
    assert [story["story_id"] for story in (part[0], part[2])] == ["s5", "s7"]
    with pytest.raises(IndexError):
        part[3]
    np.testing.assert_array_equal(part[0]["images"], source[5]["images"])


def test_the_fingerprint_changes_with_content_size_and_frames(data_dir, source, tmp_path):
    again = open_source("tiny_stories", "train", data_dir=data_dir)
    assert again.fingerprint() == source.fingerprint()
    records = {"train": [worlds.story_record(n) for n in range(20)]}
    records["train"][19]["frames"][4]["image"] = worlds.png(worlds.picture(99, 0))
    other = open_source(worlds.build(tmp_path, records))
    assert other.fingerprint()["content"] != source.fingerprint()["content"]
    for changed in (
        open_source("tiny_stories", data_dir=data_dir, size=16),
        open_source("tiny_stories", data_dir=data_dir, frames=4),
    ):
        assert changed.fingerprint() != source.fingerprint()


def test_a_source_travels_to_worker_processes(source):
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[3]["images"], source[3]["images"])


def test_a_dataset_that_is_not_built_names_the_command(tmp_path):
    with pytest.raises(
        StoryjaxError,
        match=r"'cartoon_stories/px64' is not built in .*storyjax data build cartoon_stories --config px64`",
    ):
        open_source("cartoon_stories/px64", data_dir=tmp_path)


def test_an_unknown_split_names_the_nearest(data_dir):
    with pytest.raises(StoryjaxError, match="no split 'tests'; did you mean 'test'"):
        open_source("tiny_stories", "tests", data_dir=data_dir)


def test_a_folder_with_neither_is_told(tmp_path):
    with pytest.raises(StoryjaxError, match=r"holds neither stories\.json nor a built dataset"):
        open_source(tmp_path)


def test_several_configurations_need_a_choice_or_a_default(data_dir, tmp_path):
    built = data_dir / "tiny_stories" / "1.0.0"
    for config in ("big", "small"):
        (tmp_path / "world" / config).mkdir(parents=True)
        (tmp_path / "world" / config / "1.0.0").symlink_to(built)
    with pytest.raises(StoryjaxError, match="several configurations, name one: world/big, world/small"):
        open_source("world", data_dir=tmp_path)
    assert len(open_source("world/small", data_dir=tmp_path)) == 20
    (tmp_path / "world" / ".config").mkdir()
    (tmp_path / "world" / ".config" / "metadata.json").write_text('{"default_config_name": "big"}')
    assert open_source("world", data_dir=tmp_path).path == tmp_path / "world" / "big" / "1.0.0"


def test_the_newest_version_is_taken(data_dir, tmp_path):
    for version in ("1.9.0", "1.10.0", "1.10.0.incompleteA1B2"):
        (tmp_path / "world" / version).parent.mkdir(exist_ok=True)
        (tmp_path / "world" / version).symlink_to(data_dir / "tiny_stories" / "1.0.0")
    assert open_source("world", data_dir=tmp_path).path.name == "1.10.0"


def test_stories_of_different_length_are_refused_or_cut(tmp_path):
    built = worlds.build(
        tmp_path, {"train": [worlds.story_record(0), worlds.story_record(1), worlds.story_record(2, frames=3)]}
    )
    with pytest.raises(StoryjaxError, match=r"most have 5 frames, but story 's2' has 3; pass frames=3"):
        open_source(built)
    assert open_source(built, frames=3)[2]["images"].shape == (3, 32, 32, 3)
    with pytest.raises(StoryjaxError, match=r"4 frames asked for, but story 's2' has 3"):
        open_source(built, frames=4)


def test_a_story_without_frames_is_named(tmp_path):
    built = worlds.build(tmp_path, {"train": [worlds.story_record(0), worlds.story_record(1, frames=0)]})
    with pytest.raises(StoryjaxError, match="story 's1' has no frames"):
        open_source(built)


def test_a_frame_without_sentence_is_named(tmp_path):
    records = [worlds.story_record(n) for n in range(2)]
    records[1]["frames"][3]["sentence"] = "  "
    with pytest.raises(StoryjaxError, match="story 's1', frame 4 has no sentence"):
        open_source(worlds.build(tmp_path, {"train": records}))


def test_a_broken_picture_is_named_when_it_is_read(tmp_path):
    records = [worlds.story_record(n) for n in range(2)]
    records[1]["frames"][2]["image"] = records[1]["frames"][2]["image"][:60]
    source = open_source(worlds.build(tmp_path, {"train": records}))
    with pytest.raises(StoryjaxError, match=r"the picture of story 's1', frame 3, in dataset .*cannot be read"):
        source[1]


def test_a_dataset_of_something_else_is_told(tmp_path):
    class Numbers(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict({"number": tfds.features.Scalar(np.int32)})
            )

        def _split_generators(self, dl_manager):
            return {"train": enumerate([{"number": 1}])}

        def _generate_examples(self):
            yield from ()  # the split generators are lists already

    builder = Numbers(data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare()
    with pytest.raises(StoryjaxError, match="holds no stories: its records have number, not frames"):
        open_source(builder.data_dir)
