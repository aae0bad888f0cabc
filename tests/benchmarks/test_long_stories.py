"""The benchmark of long stories counts rightly, and goes on where it stopped."""

import numpy as np
import pytest

from benchmarks import long_stories
from benchmarks.long_stories import Options, difference, states_of, truth_of, way_of
from storyjax.errors import StoryjaxError
from storyjax.evals.networks.recogniser import Reading, load_recogniser
from storyjax.systems.contextual_story.long_story import LongStory
from tfds_builders.cartoon_stories.grammar import plan_story

RECOGNISER = load_recogniser("cartoon")
TRUTH = [truth_of(plan_story("test", index, 12), RECOGNISER.labels) for index in range(3)]


def test_a_way_is_a_method_and_its_settings():
    assert way_of("windows,anchors=1,captions=window") == LongStory(anchors=1, captions="window")
    assert way_of("chain").method == "chain"
    with pytest.raises(StoryjaxError, match="no setting 'overlpa'; did you mean 'overlap'"):
        way_of("windows,overlpa=1")


def test_what_is_read_rightly_scores_one_and_what_is_lost_at_the_end_shows():
    first, last = slice(0, 4), slice(8, None)
    assert difference(states_of(TRUTH, TRUTH, first), states_of(TRUTH, TRUTH, last)) == (0, 0, 0)
    blind = [side | {"characters": side["characters"] & (np.arange(12) < 8)[:, None]} for side in TRUTH]
    assert difference(states_of(blind, TRUTH, first), states_of(blind, TRUTH, last)) == (-1, -1, -1)
    assert states_of(blind, TRUTH, last)[0].place_acc__all.compute() == 1


class Pipeline:
    """Draws frames whose only content is which story and frame they are."""

    drawn = 0

    def __call__(self, sentences, *, seed, **_):
        Pipeline.drawn += 1
        frames = np.zeros((len(sentences), 4, 4, 3), np.uint8)
        frames[:, 0, 0, 0], frames[:, 0, 0, 1] = seed, np.arange(len(sentences))
        return type("Output", (), {"images": frames})


class Reader:
    """Reads such frames without a mistake."""

    labels, hash = RECOGNISER.labels, "reader"

    def read(self, images):
        truth = TRUTH[images[0, 0, 0, 0]]
        return Reading(*(truth[kind] for kind in ("characters", "place", "weather", "action")))


def test_a_stopped_run_draws_only_what_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(long_stories, "load", lambda model: Pipeline())
    monkeypatch.setattr(long_stories, "load_recogniser", lambda name: Reader())
    for stories, drawn in ((2, 2), (3, 3), (3, 3)):
        long_stories.main(Options(ways=("windows",), stories=stories, frames=12, ends=4, workdir=tmp_path))
        assert Pipeline.drawn == drawn
    assert "+0.000" in capsys.readouterr().out
