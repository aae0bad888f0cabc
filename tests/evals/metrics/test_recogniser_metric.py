"""The recogniser as a metric: the ceiling, the floor, and what each error costs."""

import json

import numpy as np
import pytest

from storyjax.data.labels import Labels
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import StoryFrames
from storyjax.evals.metrics.counts import METRICS, SUBSETS, story_metrics
from storyjax.evals.metrics.recogniser_metric import TRUTH, RecogniserMetric, shuffled_partners
from storyjax.evals.networks.recogniser import KINDS
from storyjax.evals.sources.drawing import write_story
from storyjax.evals.sources.generated import InMemory
from storyjax.evals.sources.picture_folders import PictureFolder
from storyjax.evals.story_evaluator import StoryEvaluator
from tests.evals.painted import FRAMES, LABELS, PaintedSource, PixelReader


def run(source, pictures=None, folder=None, **more):
    evaluator = StoryEvaluator(source, {"recogniser": RecogniserMetric(PixelReader())}, **more)
    return evaluator.run(pictures or InMemory.real(source), folder, progress=False)


def value(found, row, metric, subset="all"):
    return found.metrics["recogniser"].rows[row][metric][subset]["value"]


def test_a_model_that_draws_what_is_told_reaches_the_ceiling_and_shuffling_does_not():
    found = run(PaintedSource(20), InMemory.of(map(PaintedSource(20).images, range(20)), FRAMES))
    for metric in METRICS:
        assert value(found, "generated", metric) == value(found, "real", metric) == 1.0
        assert value(found, "shuffled", metric) < 0.85
    assert found.metrics["recogniser"].value == 1.0
    assert found.scores()["place_acc"] == 1.0


def test_the_floor_scores_each_storys_frames_against_its_partners_truth():
    source = PaintedSource(7)
    found = run(source, seed=5)
    partner, truth = shuffled_partners(7, 5), source.table.truth

    def flat(name, order):
        return truth[name][order].reshape(-1, *truth[name].shape[2:])

    state = story_metrics({k: flat(k, range(7)) for k in KINDS}, {k: flat(k, partner) for k in TRUTH})
    for metric in METRICS:
        for subset in SUBSETS:
            expected = float(getattr(state, f"{metric}__{subset}").compute())
            assert value(found, "shuffled", metric, subset) == pytest.approx(expected)


def test_nobody_is_their_own_partner_and_everybody_is_somebodys():
    for count in (2, 3, 50):
        partner = shuffled_partners(count, seed=1)
        assert sorted(partner) == list(range(count))
        assert (partner != np.arange(count)).all()
    assert not np.array_equal(shuffled_partners(50, 1), shuffled_partners(50, 2))


def spoiled(source, story):
    """The real frames, in one of the stories with another place."""
    images = source.images(story)
    if story == 0:
        images[0, 1, 0, 0] = 1 - images[0, 1, 0, 0]
    return images


def test_wrong_frames_cost_what_they_should():
    source = PaintedSource(4)
    found = run(source, InMemory(lambda story: spoiled(source, story), FRAMES))
    assert value(found, "generated", "place_acc") == 7 / 8
    assert value(found, "generated", "frm_acc") == 1.0
    assert value(found, "real", "place_acc") == 1.0


def test_from_a_folder_it_is_the_same_and_the_lines_name_what_was_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = PaintedSource(4)
    for story in range(4):
        write_story(tmp_path / "drawn", story, spoiled(source, story))
    found = run(source, PictureFolder(tmp_path / "drawn").of(source), tmp_path / "e")
    memory = run(source, InMemory(lambda story: spoiled(source, story), FRAMES))
    assert found.metrics["recogniser"].rows == memory.metrics["recogniser"].rows
    line = json.loads((tmp_path / "e/stories.jsonl").read_text().splitlines()[1])
    truth = source.table.truth
    assert line["recogniser"]["real"]["place"] == [LABELS.place[k] for k in truth["place"][1]]
    assert line["recogniser"]["generated"]["characters"][0] == [
        name for name, there in zip(LABELS.characters, truth["characters"][1, 0], strict=True) if there
    ]


def test_given_frames_do_not_count():
    source = PaintedSource(4)
    source.given = 1
    found = run(source, InMemory(lambda story: spoiled(source, story), FRAMES))
    assert value(found, "generated", "place_acc") == 1.0  # the wrong one was given
    assert found.metrics["recogniser"].frames == 4


def test_draws_of_stories_score_as_those_stories():
    source = PaintedSource(5)
    metric = RecogniserMetric(PixelReader())
    truth = source.table.truth
    stories = [
        StoryFrames(
            f"{n}",
            [""] * FRAMES,
            source.images((n + 1) % 5),
            source.images(n),
            truth={k: v[n] for k, v in truth.items()},
        )
        for n in range(5)
    ]
    evidence = metric.measure(stories)
    draws = np.array([[0, 0, 1, 2, 3], [4, 4, 4, 4, 4]])
    expected = [metric.score([evidence[n] for n in draw]) for draw in draws]
    np.testing.assert_allclose(metric.scores(evidence, draws), expected)


def test_the_table_shows_all_rows():
    text = run(PaintedSource(6)).text()
    lines = text.splitlines()
    assert sum(line.startswith(("| generated", "| real", "| shuffled")) for line in lines) == 15
    assert "1.000 [1.000, 1.000]" in text
    assert lines[0].strip() == "6 stories of painted, split test, seed 0"


def test_one_story_has_no_other_to_be_shuffled_with():
    assert list(run(PaintedSource(1)).metrics["recogniser"].rows) == ["generated", "real"]


def test_labels_of_another_world_are_refused_before_anything_is_looked_at():
    labels = Labels(LABELS.characters, ("hill", "moon"), LABELS.weather, LABELS.action)
    with pytest.raises(
        StoryjaxError, match=r"'pixels' knows another world .* its place are \[hill, lake\], .*\[hill, moon\]"
    ):
        run(PaintedSource(4, labels=labels))


def test_data_that_cannot_be_scored_is_refused_with_the_reason():
    with pytest.raises(StoryjaxError, match=r"'painted', split 'test' has no place, names_place"):
        run(PaintedSource(4, without=("place", "names_place")))
    source = PaintedSource(4)
    source.size = (16, 16)
    with pytest.raises(StoryjaxError, match=r"reads 8x8 frames, .* gives 16x16; open it with size=8"):
        run(source)
