"""Folders of generated pictures: every layout finds its frames, everything that is wrong is said with the file's name."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Box
from storyjax.evals.sources.drawing import write_story
from storyjax.evals.sources.picture_folders import PictureFolder
from storyjax.evals.story_evaluator import StoryEvaluator
from tests.evals.toy_metrics import FRAMES, Brightness, Plain, generated

COUNT = 5


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def ours(root):
    for story in range(COUNT):
        write_story(root, story, generated(story))


def ours_in_a_work_directory(root):
    ours(root / "pictures")


def cp_csv(root):
    for story in range(COUNT):
        for frame in range(FRAMES):
            save(root / "generate" / str(story) / f"{frame}.png", generated(story)[frame])


def storyboards(root):
    for story in reversed(range(COUNT)):
        folder = root / f"board {9 - story}"
        for frame in range(FRAMES):
            save(folder / "frames" / f"{frame:03d}.png", generated(story)[frame])
        (folder / "manifest.json").write_text(json.dumps({"sentences": Plain(COUNT).sentences(story)}))


def by_clip(root):
    """One picture a clip, those of later stories over those of earlier ones."""
    for story in range(COUNT):
        for frame, name in enumerate(Plain(COUNT).picture_names(story)):
            save(root / f"{name}.png", generated(story)[frame])


def contextual_story(root):
    by_clip(root / "gen_img")


def opened(root, layout=None, count=COUNT, **source):
    return PictureFolder(root, layout).of(Plain(count, **source))


@pytest.mark.parametrize("write", [ours, ours_in_a_work_directory, cp_csv, storyboards])
def test_a_layout_by_story_is_found_out_and_gives_the_frames(tmp_path, write):
    write(tmp_path)
    folder = opened(tmp_path)
    folder.complete(COUNT)
    assert folder.frames_per_story == FRAMES
    for story in range(COUNT):
        np.testing.assert_array_equal(folder.frames(story), generated(story))
    assert len({folder.digest(story) for story in range(COUNT)}) == COUNT


def test_one_storyboard_is_a_folder_too(tmp_path):
    storyboards(tmp_path)
    folder = opened(tmp_path / "board 7")
    assert [folder.has(story) for story in range(COUNT)] == [False, False, True, False, False]
    np.testing.assert_array_equal(folder.frames(2), generated(2))


def test_stories_may_have_different_lengths(tmp_path):
    lengths = [1, 3, 2, 3, 1]
    for story, length in enumerate(lengths):
        write_story(tmp_path, story, generated(story)[:length])
    source = Plain(COUNT)
    source.table.sentences[:] = [told[:length] for told, length in zip(source.table.sentences, lengths)]
    folder = PictureFolder(tmp_path).of(source)
    assert folder.frames_per_story is None
    found = StoryEvaluator(source, {"b": Brightness()}).run(folder, progress=False).metrics["b"]
    assert found.frames == sum(lengths)
    expected = np.concatenate([generated(story)[:length] for story, length in enumerate(lengths)])
    assert found.value == pytest.approx(expected.mean() / 255)


def test_of_a_clip_in_several_stories_the_last_wins_and_each_picture_counts_once(tmp_path):
    contextual_story(tmp_path)
    folder = opened(tmp_path)
    folder.complete(COUNT)
    # Clip n is frame 0 of story n, frame 1 of story n - 1, frame 2 of story n - 2: frame 0 was written last.
    assert [folder.shown(story) for story in range(COUNT)] == [[0]] * (COUNT - 1) + [[0, 1, 2]]
    np.testing.assert_array_equal(folder.frames(1), generated(1)[:1])
    found = StoryEvaluator(Plain(COUNT), {"b": Brightness()}).run(folder, progress=False).metrics["b"]
    assert found.frames == COUNT + 2
    expected = [generated(story)[0] for story in range(COUNT)] + [*generated(COUNT - 1)[1:]]
    assert found.value == pytest.approx(np.mean(expected) / 255)


def test_of_pictures_named_like_the_real_frames_every_story_has_its_own_and_shares(tmp_path):
    by_clip(tmp_path)
    for path in (tmp_path / "ep1").iterdir():  # flat, as StoryGen writes them
        path.rename(tmp_path / path.name)
    folder = opened(tmp_path)
    assert folder.layout.name == "storygen"
    folder.complete(COUNT)
    np.testing.assert_array_equal(folder.frames(1)[1], generated(2)[0])
    assert folder.shown(0) is None


def test_a_given_frame_need_not_be_there(tmp_path):
    cp_csv(tmp_path)
    for story in range(COUNT):
        (tmp_path / "generate" / str(story) / "0.png").unlink()
    folder = opened(tmp_path, given=1)
    np.testing.assert_array_equal(folder.frames(3)[0], Plain(COUNT).images(3)[0])
    np.testing.assert_array_equal(folder.frames(3)[1:], generated(3)[1:])
    with pytest.raises(StoryjaxError, match=r"generate/0' has no frame 0; expected 3 frames"):
        opened(tmp_path)


def test_boxes_lie_beside_the_pictures(tmp_path):
    ours(tmp_path)
    box = {"name": "Ada", "box": [0.1, 0.2, 0.5, 0.6]}
    (tmp_path / "boxes.json").write_text(json.dumps({"id-1": [[box], [], [box, box]], "2": [[], [], []]}))
    folder = opened(tmp_path)
    assert [len(frame) for frame in folder.boxes(1)] == [1, 0, 2]
    assert folder.boxes(1)[0][0] == Box("Ada", 0.1, 0.2, 0.5, 0.6)
    assert folder.boxes(2) == [[], [], []]
    assert folder.boxes(0) is None
    before = folder.digest(1)
    (tmp_path / "boxes.json").write_text(json.dumps({"id-1": [[], [], []]}))
    assert opened(tmp_path).digest(1) != before
    (tmp_path / "boxes.json").write_text(json.dumps({"id-1": [[]]}))
    with pytest.raises(StoryjaxError, match=r"story 'id-1' has boxes of 1 frames, expected 3"):
        opened(tmp_path).boxes(1)
    (tmp_path / "boxes.json").write_text(json.dumps({"id-1": [[{"name": "Ada"}]]}))
    with pytest.raises(StoryjaxError, match=r"boxes.json', story 'id-1', frame 0: expected {'name': text, 'box': .*"):
        opened(tmp_path)


# ----- what can be wrong ---------------------------------------------------------------------------------------------


def test_a_corrupt_picture_is_named(tmp_path):
    ours(tmp_path)
    path = tmp_path / "00003" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(StoryjaxError, match=r"00003/1.png' (cannot be read|is no picture)"):
        opened(tmp_path).frames(3)
    path.write_text("not a picture")
    with pytest.raises(StoryjaxError, match=r"00003/1.png' is no picture"):
        opened(tmp_path)


def test_mixed_sizes_are_named(tmp_path):
    ours(tmp_path)
    save(tmp_path / "00003" / "1.png", np.zeros((4, 8, 3), np.uint8))
    with pytest.raises(StoryjaxError, match=r"different sizes: '.*00000/0.png' is 6x6, '.*00003/1.png' is 8x4"):
        opened(tmp_path)


def test_missing_and_unknown_frames_and_stories_are_named(tmp_path):
    ours(tmp_path)
    with pytest.raises(StoryjaxError, match=r"00003' is story 3, but split 'test' of 'plain' has only 3 \(0 to 2\)"):
        opened(tmp_path, count=3)
    with pytest.raises(StoryjaxError, match=r"5 of 7 stories .* story 5 \('id-5'\) is missing; --stories 5 evaluates"):
        opened(tmp_path, count=7).complete(7)
    shutil.rmtree(tmp_path / "00001")
    with pytest.raises(StoryjaxError, match=r"4 of 5 stories .* story 1 \('id-1'\) is missing$"):
        opened(tmp_path).complete(5)
    (tmp_path / "00002" / "1.png").rename(tmp_path / "00002" / "3.png")
    with pytest.raises(StoryjaxError, match=r"00002/3.png' is frame 3, but that story of 'plain' has 3 \(0 to 2\)"):
        opened(tmp_path)
    (tmp_path / "00002" / "3.png").unlink()
    with pytest.raises(StoryjaxError, match=r"00002' has no frame 1; expected 3 frames"):
        opened(tmp_path)
    save(tmp_path / "00000" / "00.png", generated(0)[0])
    with pytest.raises(StoryjaxError, match="are both frame 0"):
        opened(tmp_path)
    (tmp_path / "00000" / "00.png").rename(tmp_path / "00000" / "first.png")
    with pytest.raises(StoryjaxError, match=r"first.png': expected the number of a frame"):
        opened(tmp_path)


def test_unknown_and_missing_names_are_named(tmp_path):
    contextual_story(tmp_path)
    (tmp_path / "gen_img/ep1/0.png").rename(tmp_path / "gen_img/ep1/00.png")
    with pytest.raises(StoryjaxError, match=r"ep1/00.png': split 'test' of 'plain' has no picture 'ep1/00'"):
        opened(tmp_path)
    (tmp_path / "gen_img/ep1/00.png").unlink()
    with pytest.raises(StoryjaxError, match=r"has no picture 'ep1/0': story 0 \('id-0'\), frame 0"):
        opened(tmp_path)


def test_data_that_keep_no_names_are_refused(tmp_path, monkeypatch):
    contextual_story(tmp_path)
    monkeypatch.setattr(Plain, "picture_names", lambda self, index: None)
    with pytest.raises(
        StoryjaxError, match=r"'plain' does not keep what its pictures are called; lay them out by story"
    ):
        opened(tmp_path)


def test_a_storyboard_of_another_story_or_without_a_frame_is_named(tmp_path):
    storyboards(tmp_path)
    (tmp_path / "board 5/manifest.json").write_text(json.dumps({"sentences": ["Who?", "What?", "Why?"]}))
    with pytest.raises(StoryjaxError, match=r"board 5/manifest.json' tells a story that .* begins 'Who\?'"):
        opened(tmp_path)
    (tmp_path / "board 5/frames/002.png").unlink()
    with pytest.raises(StoryjaxError, match=r"board 5/frames/002.png' is missing"):
        opened(tmp_path)
    (tmp_path / "board 5/manifest.json").write_text("{}")
    with pytest.raises(StoryjaxError, match=r"board 5/manifest.json' is no manifest"):
        opened(tmp_path)


def test_folders_that_are_none_are_told(tmp_path):
    with pytest.raises(StoryjaxError, match="there is no folder of pictures at"):
        PictureFolder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoryjaxError, match=r"none of the layouts .* expected such as"):
        PictureFolder(tmp_path / "empty")
    with pytest.raises(StoryjaxError, match="there is no layout 'cpcsv'; did you mean 'cp_csv'"):
        PictureFolder(tmp_path / "empty", "cpcsv")
    with pytest.raises(StoryjaxError, match=r"has no pictures \(layout cp_csv\)"):
        PictureFolder(tmp_path / "empty", "cp_csv")
