"""Stories drawn for an evaluation: what was killed goes on, by any number of processes, and ends with the same bytes."""

import collections
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

from storyjax.errors import StoryjaxError
from storyjax.evals.sources.drawing import draw_stories, drawn_from, story_folder, story_seed, write_story
from storyjax.evals.sources.picture_folders import PictureFolder
from tests.evals.toy_metrics import FRAMES, SIZE, Plain, noise
from tests.parallel.devices import ROOT, environment
from tests.parallel.test_distributed import free_port

PATIENCE = 120


class Painter:
    """Draws noise by the seed; breaks before call `limit`."""

    def __init__(self, limit=None):
        self.limit, self.calls, self.firsts = limit, [], []

    def __call__(self, sentences, seeds, first):
        if len(self.calls) == self.limit:
            raise KeyboardInterrupt
        self.calls.append([int(story[0].split()[1]) for story in sentences])
        self.firsts.append(first)
        return np.stack([noise(FRAMES, SIZE, seed) for seed in seeds])


def draw(folder, painter=None, source=None, **more):
    return draw_stories(
        source or Plain(20), painter or Painter(), folder, **{"batch_size": 3, "progress": False} | more
    )


def pixels(folder, count=20):
    found = PictureFolder(folder).of(Plain(count))
    return np.stack([found.frames(story) for story in range(count)])


def test_a_storys_seed_depends_on_its_number_alone():
    seeds = [story_seed(0, story) for story in range(100)]
    assert len(set(seeds)) == 100
    assert seeds == [story_seed(0, story) for story in reversed(range(100))][::-1]
    assert story_seed(1, 5) != story_seed(0, 5)
    # The seeds with which the numbers of the shipped model were measured: eight at once.
    key = jax.random.fold_in(jax.random.key(0), 16)
    assert seeds[16:24] == jax.random.randint(key, (8,), 0, 2**31 - 1).tolist()


@pytest.mark.parametrize("batch_size", [1, 4, 20, 64])
def test_pictures_do_not_depend_on_the_batch_size(tmp_path, batch_size):
    draw(tmp_path / "three")
    draw(tmp_path / "other", batch_size=batch_size)
    np.testing.assert_array_equal(pixels(tmp_path / "three"), pixels(tmp_path / "other"))


def test_a_short_last_batch_is_filled_up_so_that_the_shape_stays(tmp_path):
    painter = Painter()
    draw(tmp_path, painter, stories=5)
    assert painter.calls == [[0, 1, 2], [3, 4, 4]]
    assert sorted(path.name for path in tmp_path.glob("0*")) == [f"{n:05d}" for n in range(5)]


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_a_stopped_run_draws_what_is_missing_and_ends_with_the_same_pictures(tmp_path, limit):
    draw(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "cut", Painter(limit))
    (tmp_path / "cut" / ".00099.12345678.partial").mkdir()  # as a kill leaves it
    rest = Painter()
    draw(tmp_path / "cut", rest)
    assert len(rest.calls) == 7 - limit
    assert not list((tmp_path / "cut").glob(".*.partial"))
    np.testing.assert_array_equal(pixels(tmp_path / "cut"), pixels(tmp_path / "whole"))
    idle = Painter(0)
    draw(tmp_path / "cut", idle)


def test_a_group_that_lacks_one_story_draws_that_one_in_its_old_place(tmp_path):
    import shutil

    whole = pixels(draw(tmp_path))
    changed = story_folder(tmp_path, 3) / "0.png"
    Image.new("RGB", (SIZE, SIZE)).save(changed)
    shutil.rmtree(story_folder(tmp_path, 4))
    painter = Painter()
    draw(tmp_path, painter)
    assert painter.calls == [[3, 4, 5]]
    again = pixels(tmp_path)
    assert (again[3, 0] == 0).all()  # what is there is not written again
    np.testing.assert_array_equal(again[4], whole[4])


def test_more_stories_go_on_where_fewer_ended(tmp_path):
    draw(tmp_path, stories=6)
    painter = Painter()
    draw(tmp_path, painter, stories=9, batch_size=3)
    assert painter.calls == [[6, 7, 8]]


def test_the_first_picture_is_given_where_the_data_give_it(tmp_path):
    painter, source = Painter(), Plain(4, given=1)
    draw(tmp_path, painter, source)
    np.testing.assert_array_equal(painter.firsts[1], np.stack([source.images(3)[0]] * 3))


def test_another_model_seed_or_data_is_refused_by_what_differs(tmp_path):
    draw(tmp_path, about={"model_hash": "a"})
    with pytest.raises(StoryjaxError, match="pictures of another evaluation: model_hash: there 'a', here 'b'"):
        draw(tmp_path, about={"model_hash": "b"})
    with pytest.raises(StoryjaxError, match="seed: there 0, here 1"):
        draw(tmp_path, about={"model_hash": "a"}, seed=1)
    with pytest.raises(StoryjaxError, match="content: there '0', here '2'"):
        draw(tmp_path, source=Plain(20, seed=2), about={"model_hash": "a"})
    with pytest.raises(StoryjaxError, match="drawn for other stories: content: there '0', here '2'"):
        PictureFolder(tmp_path).of(Plain(20, seed=2))
    assert PictureFolder(tmp_path).about["model_hash"] == "a"
    (tmp_path / "drawn.json").unlink()
    with pytest.raises(StoryjaxError, match=r"holds pictures, but no drawn\.json"):
        draw(tmp_path, about={"model_hash": "a"})


def test_batch_sizes_and_devices_are_noted(tmp_path):
    draw(tmp_path, stories=3)
    draw(tmp_path, batch_size=4)
    draw(tmp_path, batch_size=4)
    assert [run["batch_size"] for run in drawn_from(tmp_path)["runs"]] == [3, 4]
    assert "4 stories on 1 devices" in PictureFolder(tmp_path).about["drawn_with"]


def test_frames_of_another_shape_and_a_disk_that_refuses_are_told(tmp_path):
    with pytest.raises(StoryjaxError, match=r"expected generated frames as uint8 \(3, 3, H, W, 3\), got uint8 \(3, 2,"):
        draw(tmp_path, lambda sentences, seeds, first: np.zeros((3, 2, SIZE, SIZE, 3), np.uint8))
    (tmp_path / "file").write_text("")
    with pytest.raises(StoryjaxError, match=r"file' cannot be written .* what is complete there is kept"):
        write_story(tmp_path / "file", 0, noise(FRAMES, SIZE, 0))


# ----- real processes ------------------------------------------------------------------------------------------------


def started(peers, folder, stories, batch=3, pause=0.0):
    command = [
        sys.executable,
        "-m",
        "tests.evals.draw_and_measure",
        peers,
        str(folder),
        str(stories),
        str(batch),
        str(pause),
    ]
    return subprocess.Popen(
        command,
        env=environment(1) | {"XDG_CACHE_HOME": str(folder) + "_cache"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(*processes):
    told = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), told[0][1][-3000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in told]


def noted(folder, word):
    lines = [line.split() for line in (folder / "log.txt").read_text().splitlines()]
    return collections.Counter(story for told, story in lines if told == word)


def killed_when(process, folder, pattern, count):
    deadline = time.monotonic() + PATIENCE
    while len(list(folder.glob(pattern))) < count:
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_run_killed_while_drawing_and_while_measuring_goes_on_and_two_processes_end_alike(tmp_path):
    """40 stories in groups of 3; killed twice; two processes; all give the numbers of a run that was left alone."""
    (whole,) = finished(started("", tmp_path / "whole", 40))
    cut = tmp_path / "cut"
    killed_when(started("", cut, 40, pause=0.1), cut, "pictures/0*", 20)
    killed_when(started("", cut, 40, pause=0.1), cut, "evidence/brightness-*/*.npz", 1)
    (resumed,) = finished(started("", cut, 40))
    assert resumed == whole
    twice = {story for story, times in noted(cut, "drew").items() if times > 1 and story != "39"}  # 39 fills its group
    assert len(twice) <= 3  # those of the group that was being written
    assert len(noted(cut, "measured")) == 40
    assert sum(noted(cut, "measured").values()) <= 40 + 16  # the block that was being measured
    both = tmp_path / "both"
    peers = f"127.0.0.1:{free_port()}"
    results = finished(*(started(f"{peers},2,{index}", both, 40) for index in range(2)))
    assert results == [whole, whole]
    assert set(noted(both, "drew").values()) - {3} == {1}  # 39 fills its group
    assert set(noted(both, "measured").values()) == {1}
