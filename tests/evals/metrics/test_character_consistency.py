"""aCCS and aFID with a network that sees mean colours: cut-outs, references, what counts, and the distances themselves."""

import dataclasses

import numpy as np
import pytest
from scipy import linalg

from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Box, StoryFrames
from storyjax.evals.metrics.character_consistency import ACCS, AFID, Counting, FindingACCS
from storyjax.evals.networks.clip_network import cosine
from storyjax.evals.networks.pictures import stretched
from storyjax.evals.sources.boxes import not_found
from tests.evals.toy_clip import folder, same

RANDOM = np.random.default_rng(0)
LEFT, RIGHT = (0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0)


class Colours:
    """Mean colour of a picture, as vectors of three numbers."""

    def __init__(self):
        self.about = {"weights": "none"}

    def images(self, pictures):
        return np.array([p.mean(axis=(0, 1)) for p in pictures], np.float32).reshape(-1, 3)

    def network(self, pictures):
        assert pictures.shape[1:] == (299, 299, 3)
        return self.images(list(pictures))


def frechet(a, b):
    """As pytorch-fid writes it, in float64."""
    spread = [np.cov(x, rowvar=False) for x in (a, b)]
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(
        spread[0] + spread[1] - 2 * linalg.sqrtm(spread[0] @ spread[1]).real
    )


def story(boxes, name="s", given=0):
    """Frames of 4 x 6 pixels, every half in one colour of its own."""
    colours = RANDOM.integers(1, 256, (len(boxes), 1, 2, 1, 3), dtype=np.uint8)
    frames = np.broadcast_to(colours, (len(boxes), 4, 2, 3, 3)).reshape(-1, 4, 6, 3)
    listed = [[Box(who, *where) if where else not_found(who) for who, where in each] for each in boxes]
    return StoryFrames(name, [""] * len(boxes), frames, boxes=listed, given=given)


def colour(of, frame, half):
    return of.generated[frame, 0, 3 * half].astype(np.float64)


TWO = [
    [("Pip", LEFT), ("Mina", RIGHT)],
    [("Mina", LEFT)],
    [("Pip", RIGHT), ("Mina", RIGHT)],
    [("Mina", LEFT), ("Luna", RIGHT)],
]


def test_accs_compares_later_cut_outs_with_the_first():
    one = story(TWO)
    (found,) = ACCS(Colours()).measure([one])
    mina = [cosine(colour(one, f, h), colour(one, 0, 1)) for f, h in ((1, 0), (2, 1), (3, 0))]
    pip = cosine(colour(one, 2, 1), colour(one, 0, 0))
    np.testing.assert_allclose(found["values"], [np.mean(mina), pip])  # by name; Luna does not come again
    by_story = ACCS(Colours(), Counting(over="story")).measure([one])[0]["values"]
    np.testing.assert_allclose(by_story, [(np.mean(mina) + pip) / 2])


def test_afid_is_the_frechet_distance_to_copies_of_the_reference():
    one = story(TWO)
    seen = {
        who: np.array([colour(one, f, h) for f, h in at])
        for who, at in {"Mina": ((0, 1), (1, 0), (2, 1), (3, 0)), "Pip": ((0, 0), (2, 1))}.items()
    }
    (found,) = AFID(Colours()).measure([one])
    copies = np.repeat(seen["Mina"][:1], 3, axis=0)
    np.testing.assert_allclose(
        found["values"], [frechet(copies, seen["Mina"][1:])], rtol=1e-5
    )  # Pip: one later cut-out
    both = AFID(Colours(), Counting(over="story"), frechet).measure([one])[0]["values"]
    expected = frechet(np.concatenate([copies, seen["Pip"][:1]]), np.concatenate([seen["Mina"][1:], seen["Pip"][1:]]))
    np.testing.assert_allclose(both, [expected], rtol=1e-5)


def test_somebody_who_is_not_found_is_skipped_or_counts_zero():
    one = story([[("Pip", None)], [("Pip", LEFT)], [("Pip", RIGHT)], [("Pip", None)], [("Pip", LEFT)]])
    similar = [cosine(colour(one, f, h), colour(one, 1, 0)) for f, h in ((2, 1), (4, 0))]
    np.testing.assert_allclose(ACCS(Colours()).measure([one])[0]["values"], [np.mean(similar)])
    zero = Counting(missed="zero")
    np.testing.assert_allclose(ACCS(Colours(), zero).measure([one])[0]["values"], [sum(similar) / 4])
    later = np.array([np.zeros(3), colour(one, 2, 1), np.zeros(3), colour(one, 4, 0)])
    copies = np.repeat(colour(one, 1, 0)[None], 4, axis=0)
    np.testing.assert_allclose(AFID(Colours(), zero).measure([one])[0]["values"], [frechet(copies, later)], rtol=1e-5)


def test_given_frames_give_no_reference():
    one = story(TWO, given=1)
    (found,) = ACCS(Colours()).measure([one])
    mina = [cosine(colour(one, f, h), colour(one, 1, 0)) for f, h in ((2, 1), (3, 0))]
    np.testing.assert_allclose(found["values"], [np.mean(mina)])


def test_any_number_of_stories_at_a_time_and_none_that_count():
    several = [story(TWO, "a"), story([[], [], []], "b"), story(TWO[::-1], "c")]
    for metric in (ACCS(Colours()), AFID(Colours()), AFID(Colours(), Counting(over="story"), frechet)):
        whole = metric.measure(several)
        assert same(whole, [metric.measure([each])[0] for each in several])
        assert len(whole[1]["values"]) == 0
        assert np.isnan(metric.score(metric.measure(several[1:2])))
        assert np.isfinite(metric.score(whole))


def test_cut_outs_go_through_clip(tokenizer, tmp_path):
    metric = ACCS.open(model=folder(tmp_path / "toy", "clip", tokenizer), batch=2)
    assert metric.needs == {"boxes"}
    (found,) = metric.measure([story(TWO)])
    assert (np.abs(found["values"]) <= 1).all()
    assert len(found["values"]) == 2
    assert metric.about["boxes"] == "with the stories"


def test_boxes_from_a_file(tokenizer, tmp_path):
    (tmp_path / "boxes.json").write_text(
        '{"s": [[{"name": "P", "box": [0, 0, 1, 0.5]}], [{"name": "P", "box": [0, 0, 1, 0.5]}]]}'
    )
    model = folder(tmp_path / "toy", "clip", tokenizer)
    metric = ACCS.open(model=model, boxes=tmp_path / "boxes.json", batch=2)
    assert isinstance(metric, FindingACCS)
    assert metric.needs == set()
    plain = dataclasses.replace(story([[], []]), boxes=None)
    assert len(metric.measure([plain])[0]["values"]) == 1
    assert metric.about["boxes"]["file"] == "boxes.json"


def test_missing_boxes_and_odd_options_are_refused():
    with pytest.raises(StoryjaxError, match="story 's' has no boxes to cut characters out; give a file of boxes"):
        ACCS(Colours()).measure([dataclasses.replace(story(TWO), boxes=None)])
    with pytest.raises(StoryjaxError, match="boxes for each of 4 frames, got 3 lists"):
        ACCS(Colours()).measure([dataclasses.replace(story(TWO), boxes=[[]] * 3)])
    with pytest.raises(StoryjaxError, match="unknown over 'objects'; did you mean 'object'"):
        Counting(over="objects")
    with pytest.raises(StoryjaxError, match="aFID over stories needs a Frechet distance"):
        AFID(Colours(), Counting(over="story"))


def test_a_cut_out_is_stretched_for_inception():
    assert stretched(RANDOM.integers(0, 256, (4, 3, 3), dtype=np.uint8), 299).shape == (299, 299, 3)
