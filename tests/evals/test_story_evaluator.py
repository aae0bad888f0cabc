"""Measured story by story, stopped anywhere, in any blocks: the same numbers to the bit."""

import json

import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.evals import story_evaluator
from storyjax.evals.evaluation import Evaluation
from storyjax.evals.sources.drawing import write_story
from storyjax.evals.sources.generated import InMemory
from storyjax.evals.sources.picture_folders import PictureFolder
from storyjax.evals.story_evaluator import StoryEvaluator
from tests.evals.toy_metrics import FRAMES, Brightness, Distance, Plain, Sets, generated


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path):
    for story in range(40):
        write_story(tmp_path / "drawn", story, generated(story))
    return tmp_path / "drawn"


def metrics():
    return {"brightness": Brightness(), "distance": Distance.open(), "sets": Sets()}


def run(source, pictures, folder, chosen=None, **more):
    evaluator = StoryEvaluator(source, chosen or metrics(), **more)
    return evaluator.run(PictureFolder(pictures).of(source), folder, progress=False)


def test_numbers_are_those_of_one_pass_over_everything(pictures, tmp_path):
    source = Plain()
    found = run(source, pictures, tmp_path / "e")
    made = np.stack([generated(n) for n in range(40)]).astype(float)
    real = np.stack([source.images(n) for n in range(40)]).astype(float)
    assert found.metrics["brightness"].value == pytest.approx(made.mean() / 255)
    assert found.metrics["distance"].value == pytest.approx(np.abs(made - real).mean())
    gap = made.mean(axis=(0, 1, 2, 3)) - real.mean(axis=(0, 1, 2, 3))
    assert found.metrics["sets"].value == pytest.approx(np.linalg.norm(gap), rel=1e-4)
    for score in found.metrics.values():
        assert score.low < score.value < score.high or score.better == "lower"
        assert (score.stories, score.frames) == (40, 40 * FRAMES)
    assert found.metrics["sets"].resamples == 50


def test_memory_and_folder_give_the_same(pictures, tmp_path):
    source = Plain()
    from_folder = run(source, pictures, tmp_path / "e").metrics
    in_memory = StoryEvaluator(source, metrics()).run(InMemory(generated, FRAMES), progress=False).metrics
    for name, score in in_memory.items():
        assert (score.value, score.low, score.high) == tuple(
            getattr(from_folder[name], key) for key in ("value", "low", "high")
        )


@pytest.mark.parametrize("block", [1, 3, 64])
def test_any_block_size_gives_the_same_number_to_the_bit(pictures, tmp_path, monkeypatch, block):
    whole = run(Plain(), pictures, tmp_path / "whole").metrics
    monkeypatch.setattr(story_evaluator, "BLOCK", block)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other_cache"))
    again = run(Plain(), pictures, tmp_path / "again").metrics
    assert {name: (s.value, s.low, s.high) for name, s in again.items()} == {
        name: (s.value, s.low, s.high) for name, s in whole.items()
    }


class Stopping(Brightness):
    """Breaks after so many calls."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def measure(self, stories):
        if not self.limit:
            raise KeyboardInterrupt
        self.limit -= 1
        return super().measure(stories)


def test_a_stopped_run_goes_on_and_measures_nothing_twice(pictures, tmp_path):
    stopping = Stopping(2)
    with pytest.raises(KeyboardInterrupt):
        run(Plain(), pictures, tmp_path / "e", {"brightness": stopping})
    rest = Brightness()
    found = run(Plain(), pictures, tmp_path / "e", {"brightness": rest})
    assert len(stopping.measured) == 32
    assert sorted(stopping.measured + rest.measured) == sorted(Plain().table.ids)
    idle = Stopping(0)
    assert run(Plain(), pictures, tmp_path / "e", {"brightness": idle}) == found


def test_more_stories_measure_only_those_that_are_new(pictures, tmp_path):
    run(Plain(), pictures, tmp_path / "e", {"brightness": Brightness()}, stories=20)
    more = Brightness()
    run(Plain(), pictures, tmp_path / "e", {"brightness": more}, stories=30)
    assert more.measured == [f"id-{n}" for n in range(20, 30)]


def test_a_replaced_picture_is_measured_again(pictures, tmp_path):
    from PIL import Image

    before = run(Plain(), pictures, tmp_path / "e", {"brightness": Brightness()})
    Image.new("RGB", (6, 6), "white").save(pictures / "00007" / "1.png")
    metric = Brightness()
    after = run(Plain(), pictures, tmp_path / "e", {"brightness": metric})
    assert metric.measured == ["id-7"]
    assert after.metrics["brightness"].value > before.metrics["brightness"].value
    assert after.about["pictures_hash"] != before.about["pictures_hash"]


def test_real_frames_of_a_split_are_looked_at_once_for_all_evaluations(pictures, tmp_path):
    first, second = Sets(), Sets()
    one = run(Plain(), pictures, tmp_path / "one", {"sets": first})
    two = run(Plain(), pictures, tmp_path / "two", {"sets": second})
    assert (first.real_seen, second.real_seen) == (40, 0)
    assert one.metrics["sets"].value == two.metrics["sets"].value
    third = Sets()
    run(Plain(seed=1), pictures, tmp_path / "three", {"sets": third})  # other data
    assert third.real_seen == 40


def test_sets_may_differ_in_number_and_pairs_may_not(pictures, tmp_path):
    import shutil

    for story in (5, 39):
        shutil.rmtree(pictures / f"{story:05d}")
    with pytest.raises(StoryjaxError, match=r"38 of 40 stories .* story 5 \('id-5'\) is missing"):
        run(Plain(), pictures, tmp_path / "e")
    found = run(Plain(), pictures, tmp_path / "e", {"sets": Sets()})
    kept = [n for n in range(40) if n not in (5, 39)]
    made = np.concatenate([generated(n) for n in kept]).mean(axis=(1, 2)).astype(np.float32)
    real = np.concatenate([Plain().images(n) for n in range(40)]).mean(axis=(1, 2)).astype(np.float32)
    gap = made.mean(0, dtype=np.float64) - real.mean(0, dtype=np.float64)
    assert found.metrics["sets"].value == pytest.approx(float(np.linalg.norm(gap)))
    assert (found.metrics["sets"].stories, found.metrics["sets"].real_stories) == (38, 40)
    assert "38 / 40 real" in found.text()


def test_given_frames_do_not_count(pictures, tmp_path):
    found = run(Plain(given=1), pictures, tmp_path / "e").metrics["brightness"]
    assert found.frames == 40 * (FRAMES - 1)
    assert found.value == pytest.approx(np.mean([generated(n)[1:] for n in range(40)]) / 255)


def test_the_result_on_disk_says_everything_and_reads_back(pictures, tmp_path):
    more = {"settings": {"guidance_scale": 7.5}, "versions": {"jax": "1"}}
    source = Plain()
    evaluator = StoryEvaluator(source, {"distance": Distance.open(power=2)}, seed=3, options={"distance": {"power": 2}})
    found = evaluator.run(PictureFolder(pictures).of(source), tmp_path / "e", about=more, progress=False)
    assert Evaluation.read(tmp_path / "e").to_json() == found.to_json()
    written = json.loads((tmp_path / "e/evaluation.json").read_text())
    expected = {"dataset": "plain", "split": "test", "stories": 40, "seed": 3, "given_frames": 0, **more}
    assert expected.items() <= written["about"].items()
    assert written["about"]["data_fingerprint"]["content"] == "0"
    assert written["metrics"]["distance"]["about"] == {"power": 2}
    lines = [json.loads(line) for line in (tmp_path / "e/stories.jsonl").read_text().splitlines()]
    assert len(lines) == 40
    assert np.mean([line["distance"] for line in lines]) == pytest.approx(found.metrics["distance"].value)
    text = found.text()
    for word in ("Distance", "lower", "40 stories of plain, split test, seed 3", "guidance_scale 7.5", "power 2"):
        assert word in text


def test_what_cannot_be_is_said_before_anything_is_measured(pictures, tmp_path):
    source = Plain()
    with pytest.raises(StoryjaxError, match=r"expected 1 to 40 stories .* got 41"):
        run(source, pictures, tmp_path / "e", stories=41)
    with pytest.raises(StoryjaxError, match="frames in memory cannot be told apart"):
        StoryEvaluator(source, metrics()).run(InMemory(generated, FRAMES), tmp_path / "e")
    del source.table.truth["characters"]
    who = Brightness()
    who.needs = frozenset({"characters"})
    with pytest.raises(StoryjaxError, match="'who' needs to know who is in each frame"):
        run(source, pictures, tmp_path / "e", {"who": who})
    evaluator = StoryEvaluator(source, {"b": Brightness()})
    wrong = InMemory(lambda story: np.zeros((3, 6, 6, 3), np.float32), 3)
    with pytest.raises(StoryjaxError, match=r"expected generated frames as uint8 \(3, H, W, 3\), got float32"):
        evaluator.run(wrong, progress=False)
    few = InMemory.of((generated(n) for n in range(4)), FRAMES)
    with pytest.raises(StoryjaxError, match="expected the frames of story 4, but the given frames ended after 4"):
        evaluator.run(few, progress=False)
