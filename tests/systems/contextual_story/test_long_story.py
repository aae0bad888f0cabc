"""Long stories of a toy model of three frames: in windows or as a chain, alone, together, on one device and on eight."""

import dataclasses

import jax
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.parallel.mesh import make_mesh
from storyjax.story.story import Story, story_from_sentences
from storyjax.systems.contextual_story.long_story import (
    LongStory,
    chain_of,
    filled,
    reading_of,
    rows_of,
    windows_of,
)
from storyjax.systems.contextual_story.pipeline import ContextualStoryPipeline
from tests import tiny
from tests.parallel.devices import run_on

SEVEN = [
    "Ada walks to the lake.",
    "She swims in it.",
    "Ada goes home, and sleeps.",
    "She swims.",
    "Then Ada sleeps.",
    "She walks home.",
    "She sleeps.",
]
PICTURE = np.random.default_rng(29).integers(0, 256, (32, 32, 3), dtype=np.uint8)
CHAIN = LongStory(method="chain")


def draw(pipeline, prompt=SEVEN, **settings):
    return np.asarray(pipeline(prompt, **({"seed": 5, "output_type": "latent"} | settings)).images)


def close(one, other, relative=1e-4):
    return np.shape(one) == np.shape(other) and np.abs(one - other).max() <= relative * np.abs(other).max()


def far(one, other):
    return np.abs(one - other).max(axis=tuple(range(1, one.ndim))) > 1e-3 * np.abs(other).max()


@pytest.fixture(scope="module")
def seven(visual):
    """`SEVEN` with seed 5 in windows, drawn once."""
    return draw(visual)


# ---- what is drawn together ----


def test_a_chain_shares_one_frame_between_its_parts_and_ends_with_the_last():
    assert chain_of(9, 5).tolist() == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]]
    assert chain_of(7, 5).tolist() == [[0, 1, 2, 3, 4], [4, 5, 6, 6, 6]]
    assert len(chain_of(1000, 5)) == 250
    with pytest.raises(StoryjaxError, match="model of 1 frame cannot continue"):
        chain_of(3, 1)


def test_the_first_frames_read_each_other_and_later_ones_what_must_be_recalled():
    told = ["In town, Ada sleeps.", "She walks.", "She swims.", "She runs.", "Now Bob swims with Ada.", "They sleep."]
    reading = reading_of([story_from_sentences(told)], 3)
    assert reading.sentences[0].tolist() == [[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5]]
    assert reading.place.tolist() == [[0, 1, 2, 2, 2, 2]]


def test_anchors_are_frames_that_name_somebody():
    told = ["In town, Ada sleeps.", "She swims.", *["She runs."] * 3, "Here Bob walks.", "He swims."] * 2
    windows = windows_of(LongStory(anchors=1, overlap=1), story_from_sentences(told), 4, pinned=False)
    assert windows.frames.tolist()[:5] == [[0, 1, 2, 3], [0, 3, 4, 5], [0, 5, 6, 7], [5, 7, 8, 9], [7, 9, 10, 11]]
    pinned = windows_of(LongStory(anchors=2), story_from_sentences(told), 5, pinned=True)
    assert (pinned.frames[:, 0] == 0).all()
    assert (np.diff(pinned.frames, axis=1) > 0).all()


def test_rows_divide_over_devices_with_all_branches():
    told = story_from_sentences(["Ada sleeps."] * 100)
    for devices, branches, at_once in [(1, 2, 8), (8, 1, 4), (8, 2, 1), (6, 3, 5), (8, 3, 1000)]:
        rows, size = rows_of(LongStory(windows_at_once=at_once), [told] * 2, 5, False, devices, branches)
        assert size * branches % devices == 0
        assert size <= max(at_once * devices, devices)
        assert len(rows.story) % size == 0
        assert 2 * 49 <= len(rows.story) < 2 * 49 + size


def test_a_short_story_is_filled_with_its_last_sentence_and_keeps_its_picture():
    story = Story(("A.", "B."), title="T")
    assert filled(story, 4).sentences == ("A.", "B.", "B.", "B.")
    given = story_from_sentences(["A."], first_picture="x.png")
    assert [frame.image for frame in filled(given, 3).frames] == ["x.png", None, None]
    assert filled(story, 1) == story


# ---- windows ----


@pytest.mark.slow
def test_a_story_of_the_models_length_is_the_same_through_windows(visual):
    windowed = ContextualStoryPipeline(
        visual.config, visual.params, visual.tokenizer, visual.motion, make_mesh("data=1", jax.devices()[:1])
    )
    for settings in ({}, {"image": PICTURE}, {"negative_prompt": ["the lake", "", "home"]}):
        assert close(draw(windowed, SEVEN[:3], **settings), draw(visual, SEVEN[:3], **settings), relative=1e-5)


def test_seven_sentences_become_seven_pictures(visual, seven):
    pictures = draw(visual, output_type="np")
    assert (pictures.shape, pictures.dtype) == ((7, 32, 32, 3), np.uint8)
    assert seven.shape == (7, 4, 4, 4)
    assert np.isfinite(seven).all()
    np.testing.assert_array_equal(draw(visual), seven)
    assert far(draw(visual, seed=6), seven).all()


def test_a_sentence_counts_in_its_own_frame_and_the_frames_drawn_with_it(visual, seven):
    changed = draw(visual, [*SEVEN[:5], "Ada swims in the lake.", SEVEN[6]])
    assert far(changed, seven)[3:].all()
    assert np.abs(changed - seven)[0].max() < np.abs(changed - seven)[5].max()


@pytest.mark.slow
def test_long_stories_do_not_depend_on_the_batch_and_may_differ_in_length(visual, seven):
    noisy = {"sampler": dataclasses.replace(visual.config.defaults.sampler, eta=0.5)}
    alone = draw(visual, **noisy)
    found = visual([SEVEN[:3], SEVEN, list(reversed(SEVEN))], seed=[1, 5, 7], output_type="latent", **noisy).images
    assert [len(story) for story in found] == [3, 7, 7]
    assert close(found[1], alone)
    assert close(found[0], draw(visual, SEVEN[:3], seed=1, **noisy))


def test_how_many_windows_are_drawn_at_once_changes_nothing_else(visual, seven):
    assert close(draw(visual, long=LongStory(windows_at_once=2)), seven)


@pytest.mark.parametrize("change", [{"overlap": 1}, {"anchors": 1}, {"captions": "window"}, {"blend": "uniform"}])
def test_every_setting_counts(visual, seven, change):
    assert far(draw(visual, long=LongStory(**change)), seven).any()


# ---- from a picture, and as a chain ----


@pytest.mark.parametrize(
    ("kind", "long"),
    [
        ("visual", LongStory()),
        ("continuing", CHAIN),
        pytest.param("visual", CHAIN, marks=pytest.mark.slow),
        pytest.param("continuing", LongStory(), marks=pytest.mark.slow),
    ],
)
def test_a_picture_opens_a_long_story(request, kind, long):
    pipeline = request.getfixturevalue(kind)
    out = draw(pipeline, image=PICTURE, long=long, output_type="np")
    assert out.shape == (7, 32, 32, 3)
    np.testing.assert_array_equal(out[0], PICTURE)
    darker = draw(pipeline, image=PICTURE // 3, long=long, output_type="np")
    assert (darker[1:3] != out[1:3]).any(axis=(1, 2, 3)).all()


def test_a_chain_begins_as_the_model_draws_and_goes_on_from_its_last_frame(visual):
    chain = draw(visual, long=CHAIN)
    assert chain.shape == (7, 4, 4, 4)
    assert close(chain[:3], draw(visual, SEVEN[:3]))
    other = draw(visual, ["Ada swims in the lake.", *SEVEN[1:]], long=CHAIN)
    assert (other != chain).any(axis=(1, 2, 3)).all()
    batch = visual([SEVEN, list(reversed(SEVEN))], seed=[5, 9], output_type="latent", long=CHAIN).images
    assert close(batch[0], chain)


# ---- short stories and mistakes ----


def test_fewer_sentences_are_drawn_with_the_last_one_repeated_and_it_is_said(visual):
    output = visual(SEVEN[:2], seed=5, output_type="latent")
    assert close(np.asarray(output.images), draw(visual, [*SEVEN[:2], SEVEN[1]])[:2])
    assert output.notes == (
        "the story has 2 frames, the model draws 3 together: the last sentence is drawn 2 times and kept once",
    )
    assert draw(visual, SEVEN[:1], output_type="np").shape == (1, 32, 32, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": ["Ada sleeps."] * 1001}, "the story has 1,001 frames, at most 1,000 are drawn"),
        ({"long": {"overlap": 3}}, "windows of 3 frames can share 0 to 2 of them, got an overlap of 3; take 2"),
        ({"long": {"anchors": 2}}, "draws 3 frames together: it can have 0 to 1 anchors, got 2"),
        ({"long": {"anchors": 1, "overlap": 2}}, "windows of 2 frames can share 0 to 1"),
        ({"long": {"method": "chains"}}, "did you mean 'chain'"),
        ({"long": {"method": "chain", "overlap": 1}}, "leave overlap and anchors out"),
        ({"long": {"windows_at_once": 0}}, "windows_at_once of at least 1, got 0 and 0"),
        ({"negative_prompt": ["the lake"] * 3}, "expected one negative prompt or 7, one for each frame, got 3"),
    ],
)
def test_what_cannot_be_drawn_is_said(visual, settings, message):
    with pytest.raises(StoryjaxError) as caught:
        draw(visual, **(settings | ({"long": LongStory(**settings["long"])} if "long" in settings else {})))
    assert message in str(caught.value)


# ---- memory and devices ----


def memory_of(monkeypatch, pipeline, count: int, at_once: int) -> int:
    """Bytes that the compiled program for `count` frames needs beside its arguments and its result."""
    drawing, found = pipeline._drawing, []

    def instead(*args, settings):
        program = jax.jit(drawing._windows, static_argnames=("settings",)).lower(*args, settings=settings)
        found.append(program.compile().memory_analysis().temp_size_in_bytes)
        raise InterruptedError

    monkeypatch.setitem(drawing.__dict__, "windows", instead)
    with pytest.raises(InterruptedError):
        pipeline([SEVEN[n % 7] for n in range(count)], long=LongStory(windows_at_once=at_once))
    return found[0]


def test_memory_grows_with_the_windows_drawn_at_once_and_hardly_with_the_story(visual, monkeypatch):
    short, long, all_at_once = (memory_of(monkeypatch, visual, *size) for size in ((40, 2), (160, 2), (160, 1000)))
    assert long < all_at_once / 2
    # A frame's latents, its caption in each of three windows, its picture; some of them twice.
    frame = 4 * (4 * 4 * 4 + 3 * 3 * tiny.TOKENS * 8) + 32 * 32 * 3
    assert long - short < 120 * 4 * frame


@pytest.fixture(scope="module")
def on_devices():
    return run_on(8, "tests.systems.contextual_story.long_on_devices")


@pytest.mark.parametrize("what", ["windows", "chain", "three frames"])
def test_long_stories_on_eight_devices_are_those_of_one(on_devices, what):
    assert on_devices["devices"] == 8
    assert on_devices[what] < 1e-4
