import json

import jax
import numpy as np
import pytest

from storyjax.data.labels import Labels
from storyjax.errors import StoryjaxError
from storyjax.evals.metrics import METRICS, SUBSETS, story_metrics
from storyjax.evals.recogniser import KINDS
from storyjax.evals.story_evaluator import TRUTH, StoryEvaluator, shuffled_partners
from tests.evals.painted import FRAMES, LABELS, SIZE, PaintedSource, PixelReader


class Painter:
    """A generator that draws what it was asked for, and now and then (by its key) not; `limit`: calls before it breaks."""

    def __init__(self, source, limit=None, errors=False):
        self.source, self.limit, self.errors, self.calls = source, limit, errors, []

    def __call__(self, sentences, key):
        if self.limit is not None and len(self.calls) == self.limit:
            raise KeyboardInterrupt
        self.calls.append(sentences)
        images = np.stack([self.source.images(int(story[0].split()[1])) for story in sentences])
        if self.errors:
            lost = np.asarray(jax.random.bernoulli(key, 0.3, images.shape[:2]))
            images[lost] = 0
        return images


def evaluator(source, **changes):
    return StoryEvaluator(source, PixelReader(), **{"stories": None, "batch_size": 3} | changes)


def run(evaluator, generate, folder=None, **more):
    return evaluator.run(generate, folder, progress=False, **more)


def value(evaluation, row, metric, subset="all"):
    return evaluation.rows[row][metric][subset]["value"]


def test_a_model_that_draws_what_is_told_reaches_the_ceiling_and_shuffling_does_not():
    found = run(evaluator(PaintedSource(20)), Painter(PaintedSource(20)))
    for metric in METRICS:
        assert value(found, "generated", metric) == value(found, "real", metric) == 1.0
        assert value(found, "shuffled", metric) < 0.85


def test_the_floor_scores_each_storys_frames_against_its_partners_truth():
    source = PaintedSource(7)
    found = run(evaluator(source, seed=5), Painter(source, errors=False))
    partner, truth = shuffled_partners(7, 5), source.table.truth

    def flat(name, order):
        return truth[name][order].reshape(-1, *truth[name].shape[2:])

    state = story_metrics({k: flat(k, range(7)) for k in KINDS}, {k: flat(k, partner) for k in TRUTH})
    for metric in METRICS:
        for subset in SUBSETS:
            assert value(found, "shuffled", metric, subset) == pytest.approx(
                float(getattr(state, f"{metric}__{subset}").compute())
            )


def test_nobody_is_their_own_partner_and_everybody_is_somebodys():
    for count in (2, 3, 50):
        partner = shuffled_partners(count, seed=1)
        assert sorted(partner) == list(range(count))
        assert (partner != np.arange(count)).all()
    assert not np.array_equal(shuffled_partners(50, 1), shuffled_partners(50, 2))


def test_wrong_frames_cost_what_they_should():
    source = PaintedSource(4)
    images = np.stack([source.images(i) for i in range(4)])
    images[0, 0, 1, 0, 0] = 1 - images[0, 0, 1, 0, 0]  # another place in one of the 8 frames
    found = run(evaluator(source), list(images))
    assert value(found, "generated", "place_acc") == 7 / 8
    assert value(found, "generated", "frm_acc") == 1.0
    assert value(found, "real", "place_acc") == 1.0


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_a_stopped_run_continues_and_ends_with_the_same_numbers(tmp_path, limit):
    source = PaintedSource(8)
    whole = run(evaluator(source), Painter(source, errors=True), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(evaluator(source), Painter(source, limit, errors=True), tmp_path / "cut")
    painter = Painter(source, errors=True)
    assert run(evaluator(source), painter, tmp_path / "cut") == whole
    assert len(painter.calls) == 3 - limit
    assert whole.rows["generated"] != whole.rows["real"]  # the keys did something
    assert (tmp_path / "cut/stories.jsonl").read_text() == (tmp_path / "whole/stories.jsonl").read_text()
    assert json.loads((tmp_path / "cut/evaluation.json").read_text()) == whole.to_json()


def test_a_line_cut_off_in_the_middle_is_read_again(tmp_path):
    source = PaintedSource(6)
    whole = run(evaluator(source), Painter(source, errors=True), tmp_path)
    file = tmp_path / "stories.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    painter = Painter(source, errors=True)
    assert run(evaluator(source), painter, tmp_path) == whole
    assert len(painter.calls) == 1
    assert run(evaluator(source), Painter(source, limit=0), tmp_path) == whole  # complete: nothing is generated


def test_a_short_last_batch_is_filled_up_so_that_the_shape_stays(tmp_path):
    source, painter = PaintedSource(5), Painter(PaintedSource(5))
    found = run(evaluator(source), painter, tmp_path)
    assert [len(call) for call in painter.calls] == [3, 3]
    assert painter.calls[1][1] == painter.calls[1][2] == source.sentences(4)
    assert found.about["stories"] == 5
    assert len((tmp_path / "stories.jsonl").read_text().splitlines()) == 6


def test_frames_may_come_from_an_iterable_also_when_resuming(tmp_path):
    source = PaintedSource(6)
    frames = [source.images(i) for i in range(6)]
    with pytest.raises(
        StoryjaxError, match="expected the frames of story 4, but the given frames ended after 4 stories"
    ):
        run(evaluator(source), iter(frames[:4]), tmp_path)
    assert run(evaluator(source), iter(frames), tmp_path) == run(evaluator(source), Painter(source))


def test_without_a_generator_only_real_frames_are_scored():
    found = run(evaluator(PaintedSource(4)), None)
    assert list(found.rows) == ["real"]
    assert found.scores()["place_acc"] == 1.0


def test_the_lines_on_disk_name_what_was_seen(tmp_path):
    source = PaintedSource(2)
    run(evaluator(source), Painter(source), tmp_path)
    line = json.loads((tmp_path / "stories.jsonl").read_text().splitlines()[1])
    truth = source.table.truth
    assert line["id"] == "id-0"
    assert line["real"]["place"] == [LABELS.place[k] for k in truth["place"][0]]
    assert line["real"]["characters"][0] == [
        n for n, there in zip(LABELS.characters, truth["characters"][0, 0], strict=True) if there
    ]


def test_json_says_what_was_scored_and_the_table_shows_all_rows():
    source = PaintedSource(6)
    found = run(evaluator(source, seed=3), Painter(source), model_hash="m1", settings={"steps": 30})
    about = found.to_json()["about"]
    expected = {
        "frames_per_story": FRAMES,
        "split": "test",
        "stories": 6,
        "seed": 3,
        "model_hash": "m1",
        "recogniser_hash": "abc",
    }
    assert expected.items() <= about.items()
    assert about["settings"] == {"steps": 30}
    assert json.loads(json.dumps(found.to_json())) == found.to_json()
    lines = found.text().splitlines()
    assert sum(line.startswith(("| generated", "| real", "| shuffled")) for line in lines) == 15
    assert "1.000 [1.000, 1.000]" in found.text()


def test_a_folder_of_another_evaluation_is_refused_by_what_differs(tmp_path):
    source = PaintedSource(6)
    run(evaluator(source), Painter(source), tmp_path, model_hash="m1")
    before = (tmp_path / "stories.jsonl").read_text()
    with pytest.raises(StoryjaxError, match="another evaluation: model_hash: there 'm1', here 'm2'"):
        run(evaluator(source), Painter(source), tmp_path, model_hash="m2")
    with pytest.raises(StoryjaxError, match="seed: there 0, here 1"):
        run(evaluator(source, seed=1), Painter(source), tmp_path, model_hash="m1")
    assert (tmp_path / "stories.jsonl").read_text() == before
    (tmp_path / "stories.jsonl").write_text("not json\n")
    with pytest.raises(StoryjaxError, match="is no log of an evaluation"):
        run(evaluator(source), Painter(source), tmp_path)


def test_labels_of_another_world_are_refused_before_anything_is_generated():
    labels = Labels(LABELS.characters, ("hill", "moon"), LABELS.weather, LABELS.action)
    painter = Painter(PaintedSource(4))
    with pytest.raises(
        StoryjaxError, match=r"'pixels' knows another world .* its place are \[hill, lake\], .*\[hill, moon\]"
    ):
        run(evaluator(PaintedSource(4, labels=labels)), painter)
    assert not painter.calls


def test_data_that_cannot_be_scored_is_refused_with_the_reason():
    with pytest.raises(StoryjaxError, match=r"'painted', split 'test' has no place, names_place"):
        run(evaluator(PaintedSource(4, without=("place", "names_place"))), None)
    with pytest.raises(StoryjaxError, match=r"expected 2 to 4 stories .*, got 5"):
        run(evaluator(PaintedSource(4), stories=5), None)
    source = PaintedSource(4)
    source.size = (16, 16)
    with pytest.raises(StoryjaxError, match=r"reads 8x8 frames, .* gives 16x16; open it with size=8"):
        run(evaluator(source), None)


def test_generated_frames_of_another_kind_are_refused():
    source = PaintedSource(4)
    with pytest.raises(StoryjaxError, match=r"expected generated frames as uint8 \(3, 2, H, W, 3\), got float32"):
        run(evaluator(source), lambda sentences, key: np.zeros((3, FRAMES, SIZE, SIZE, 3), np.float32))
    with pytest.raises(StoryjaxError, match=r"uint8 \(2, H, W, 3\), got uint8 \(1, 8, 8, 3\)"):
        run(evaluator(source), [source.images(i)[:1] for i in range(4)])
