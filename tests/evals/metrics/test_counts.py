import functools

import jax
import numpy as np
import pytest

from storyjax.evals.metrics.counts import METRICS, SUBSETS, MicroF1, Share, StoryMetrics, story_metrics, summary


def frames(characters, place=None, action=None, weather=None, names_characters=None, names_place=None):
    """Labels of N frames; what is not given is 0 everywhere (and named everywhere)."""
    count = len(characters)
    zeros, ones = np.zeros(count, np.int32), np.ones(count, bool)
    return {
        "characters": np.array(characters),
        "place": zeros if place is None else np.array(place),
        "action": zeros if action is None else np.array(action),
        "weather": zeros if weather is None else np.array(weather),
        "names_characters": ones if names_characters is None else np.array(names_characters),
        "names_place": ones if names_place is None else np.array(names_place),
    }


def values(state):
    return {name: float(value) for name, value in state.compute().items()}


# Four frames, three characters. Hits 1+1+0+2 = 4, spurious 0+1+0+0 = 1, missed 0+0+1+0 = 1.
TRUTH = frames(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]],
    place=[0, 1, 2, 3],
    action=[5, 5, 5, 5],
    weather=[1, 1, 2, 2],
    names_characters=[True, True, False, False],
    names_place=[True, False, False, False],
)
SEEN = frames(
    [[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0]], place=[0, 1, 2, 0], action=[5, 4, 4, 4], weather=[1, 1, 2, 2]
)


def test_values_of_a_small_case_are_those_counted_by_hand():
    found = values(story_metrics(SEEN, TRUTH))
    assert found["char_f1__all"] == pytest.approx(8 / 10)
    assert found["frm_acc__all"] == 2 / 4
    assert found["place_acc__all"] == 3 / 4
    assert found["action_acc__all"] == 1 / 4
    assert found["weather_acc__all"] == 1.0


def test_subsets_count_only_their_own_frames():
    found = values(story_metrics(SEEN, TRUTH))
    assert found["char_f1__characters_named"] == pytest.approx(2 * 2 / (2 * 2 + 1))
    assert found["char_f1__characters_not_named"] == pytest.approx(2 * 2 / (2 * 2 + 1))
    assert found["frm_acc__place_not_named"] == pytest.approx(1 / 3)
    assert found["place_acc__place_named"] == 1.0
    assert found["place_acc__place_not_named"] == pytest.approx(2 / 3)
    assert found["action_acc__characters_not_named"] == 0.0


def test_micro_f1_differs_from_the_mean_over_characters():
    truth = frames([[1, 0]] * 9 + [[0, 1]])
    seen = frames([[1, 0]] * 9 + [[0, 0]])
    assert values(story_metrics(seen, truth))["char_f1__all"] == pytest.approx(18 / 19)  # the macro mean would be 1/2


def test_merging_parts_equals_one_pass_whatever_the_cut():
    random = np.random.default_rng(0)

    def draw():
        numbers = [random.integers(0, 4, 50) for _ in range(3)]
        flags = [random.integers(0, 2, 50).astype(bool) for _ in range(2)]
        return frames(random.integers(0, 2, (50, 8)), *numbers, *flags)

    def cut(labels, part):
        return {name: value[part] for name, value in labels.items()}

    truth, seen = draw(), draw()
    parts = [slice(0, 1), slice(1, 18), slice(18, 50)]
    merged = functools.reduce(
        lambda a, b: a.merge(b), [story_metrics(cut(seen, part), cut(truth, part)) for part in parts]
    )
    assert values(merged) == values(story_metrics(seen, truth))
    assert values(StoryMetrics.empty().merge(merged)) == values(merged)


def test_states_gathered_over_devices_reduce_to_the_same_counts():
    ones = np.ones((2, 3, 4), bool)
    states = [MicroF1.from_model_output(ones[i], ones[i], ones[i, :, 0]) for i in range(2)]
    gathered = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    assert int(gathered.reduce().hits) == 24
    shares = [Share.from_model_output(ones[i], ~ones[i], ones[i, :, 0]) for i in range(2)]
    reduced = jax.tree.map(lambda *leaves: np.stack(leaves), *shares).reduce()
    assert (int(reduced.right), int(reduced.frames)) == (0, 6)


def test_frames_of_unknown_place_do_not_count_for_the_place_alone():
    truth = frames([[1], [1]], place=[-1, 2])
    found = values(story_metrics(frames([[1], [1]], place=[0, 2]), truth))
    assert found["place_acc__all"] == 1.0
    assert found["action_acc__all"] == 1.0
    assert values(story_metrics(truth, frames([[1], [1]], place=[-1, -1])))["frm_acc__all"] == 1.0


def test_a_subset_without_frames_has_no_number():
    table = summary([story_metrics(frames([[1]]), frames([[1]])), story_metrics(frames([[1]]), frames([[1]]))])
    assert table["char_f1"]["place_not_named"] == {"value": None, "low": None, "high": None}
    assert set(table) == set(METRICS)
    assert set(table["char_f1"]) == set(SUBSETS)


def test_interval_holds_the_value_and_shrinks_with_more_stories():
    random = np.random.default_rng(1)

    def width(stories):
        truth = [frames(np.ones((5, 1), int)) for _ in range(stories)]
        seen = [frames((random.random((5, 1)) < 0.8).astype(int)) for _ in range(stories)]
        entry = summary([story_metrics(s, t) for s, t in zip(seen, truth, strict=True)])["frm_acc"]["all"]
        assert entry["low"] <= entry["value"] <= entry["high"]
        return entry["high"] - entry["low"]

    few, many = width(20), width(320)
    assert 0 < many < few / 2  # a factor of 4 in theory


def test_interval_draws_whole_stories():
    """Ten stories whose five frames are all right or all wrong vary as ten numbers do, not as fifty."""
    truth = frames(np.ones((5, 1), int))
    seen = [frames(np.full((5, 1), number % 2)) for number in range(10)]
    entry = summary([story_metrics(s, truth) for s in seen], resamples=4000)["frm_acc"]["all"]
    deviation = np.sqrt(0.25 / 10)
    assert entry["high"] - entry["low"] == pytest.approx(2 * 1.96 * deviation, rel=0.15)


def test_same_seed_same_interval_and_perfect_scores_have_width_zero():
    random = np.random.default_rng(2)
    states = [story_metrics(frames(random.integers(0, 2, (5, 2))), frames(np.ones((5, 2), int))) for _ in range(9)]
    assert summary(states, seed=3) == summary(states, seed=3)
    perfect = [story_metrics(TRUTH, TRUTH)] * 3
    assert summary(perfect)["char_f1"]["all"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert summary(perfect[:1])["char_f1"]["all"] == {"value": 1.0, "low": None, "high": None}
