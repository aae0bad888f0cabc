"""R-precision on made-up vectors and on a toy CLIP: its ends, its chance level, and what it does not depend on."""

import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.evals.metrics.r_precision import RPrecision
from tests.evals.toy_clip import folder, same, stories

RANDOM = np.random.default_rng(3)


def evidence(count=60, frames=4, width=16, noise=0.0):
    """Vectors of pictures that are those of their sentences and `noise` times others."""
    found = []
    for n in range(count):
        texts = RANDOM.standard_normal((frames, width)).astype(np.float32)
        images = (texts + noise * RANDOM.standard_normal(texts.shape)).astype(np.float32)
        captions = np.arange(n * frames, (n + 1) * frames, dtype=np.uint64) * np.uint64(2**55 + 7)
        found.append({"images": images, "texts": texts, "captions": captions})
    return found


def metric(**options):
    return RPrecision(None, **options)


@pytest.mark.parametrize("level", ["frame", "story"])
def test_its_own_sentence_is_always_the_nearest_or_by_chance(level):
    candidates = 20
    known = evidence()
    assert metric(level=level, candidates=candidates).score(known) == 1
    blind = [each | {"images": RANDOM.standard_normal(each["images"].shape).astype(np.float32)} for each in known]
    assert metric(level=level, candidates=candidates).score(blind) == pytest.approx(1 / candidates, abs=0.06)


def test_the_shares_are_those_of_all_draws_counted_one_by_one():
    known = evidence(count=8, noise=1.5)
    found = metric(candidates=5, trials=3, seed=4)
    images, texts, captions = (np.concatenate([each[k] for each in known]) for k in ("images", "texts", "captions"))
    order = np.argsort(captions)
    similar = images.astype(np.float64) @ (texts / np.linalg.norm(texts.astype(np.float64), axis=1, keepdims=True)).T
    hits = []
    for i in range(len(images)):
        others = order[found._others(captions[order], int(np.flatnonzero(order == i)[0]))]
        assert others.shape == (3, 4)
        assert i not in others
        assert all(len(set(row)) == 4 for row in others.tolist())
        hits.append(np.mean([similar[i, i] > similar[i, row].max() for row in others]))
    assert found.score(known) == pytest.approx(np.mean(hits), abs=1e-12)
    assert 0.2 < found.score(known) < 1


def test_order_of_the_stories_does_not_matter_and_the_seed_does():
    known = evidence(noise=1.5)
    assert metric().score(known) == pytest.approx(metric().score(known[::-1]), abs=1e-12)
    assert metric(trials=1).score(known) != metric(trials=1, seed=1).score(known)


def test_a_sentence_that_cannot_be_told_apart_is_a_miss_and_one_said_twice_is_one():
    known = evidence(count=1, frames=4)[0]
    twice = {name: np.concatenate([value, value]) for name, value in known.items()}
    assert metric(candidates=4).score([twice]) == 1
    twins = known | {"texts": np.repeat(known["texts"][:1], 4, axis=0)}
    assert metric(candidates=4).score([twins]) == 0


def test_the_interval_holds_the_number():
    known = evidence(count=30, noise=1.5)
    found = metric(candidates=50).interval(known)
    assert found.low < metric(candidates=50).score(known) < found.high


def test_too_few_sentences_and_odd_options_are_refused():
    with pytest.raises(StoryjaxError, match="among 100 needs as many different sentences, these stories have 8"):
        metric().score(evidence(count=2))
    with pytest.raises(StoryjaxError, match="unknown level 'storys'; did you mean 'story'"):
        metric(level="storys")
    with pytest.raises(StoryjaxError, match="at least 2 candidates, 1 trial and a seed from 0, got 1, 10, 0"):
        metric(candidates=1)


def test_of_pictures_and_sentences_any_number_at_a_time(tokenizer, tmp_path):
    network = RPrecision.open(model=folder(tmp_path / "toy", "clip", tokenizer), candidates=5, batch=2)
    whole = network.measure(stories(3))
    assert same(whole, [network.measure([story])[0] for story in stories(3)])
    assert whole[0]["images"].shape == whole[0]["texts"].shape == (3, 8)
    assert len(np.unique(np.concatenate([each["captions"] for each in whole]))) == 9
    assert 0 <= network.score(whole) <= 1
    assert network.measure(stories(1, given=3))[0]["images"].shape == (0, 8)
    assert network.about["candidates"] == 5
