"""Windows over a long story: every frame is drawn, blends are means, and a mean of what agrees changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyjax.diffusion.samplers import sample
from storyjax.diffusion.schedule import ScheduleConfig, make_schedule
from storyjax.diffusion.windows import blended, chunked, default_overlap, gather, make_rows, make_windows, starts
from storyjax.errors import StoryjaxError


@st.composite
def sizes(draw):
    """(frames of a story, of a window, shared by neighbours, anchors)."""
    frames = draw(st.integers(2, 8))
    seen = draw(st.integers(0, frames - 2))
    return draw(st.integers(frames, 60)), frames, draw(st.integers(0, frames - seen - 1)), seen


def windows_of(count, frames, overlap, seen, **more):
    anchors = [list(range(seen)) for _ in range(count)] if seen else None
    return make_windows(count, frames, overlap, anchors=anchors, **more)


@settings(deadline=None)
@given(sizes())
def test_every_frame_is_written_and_its_weights_sum_to_one(size):
    count, frames, _, seen = size
    for blend in ("triangular", "uniform"):
        windows = windows_of(*size, blend=blend)
        totals = np.bincount(windows.frames.ravel(), windows.weights.ravel(), minlength=count)
        np.testing.assert_allclose(totals, 1, rtol=1e-6)
        assert windows.count == count
        assert windows.frames.shape[1] == frames
        assert (np.diff(windows.frames, axis=1) > 0).all()
        assert windows.frames[-1, -1] == count - 1
        assert (windows.weights[1:, :seen] == 0).all()
        assert (windows.weights[:, seen:] > 0).all()


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(0, 60))
def test_by_default_every_frame_but_the_ends_is_in_two_windows(frames, more):
    overlap, count = default_overlap(frames), frames + more
    held = np.bincount(make_windows(count, frames, overlap).frames.ravel(), minlength=count)
    inside = held[frames - overlap : count - (frames - overlap)]
    assert count == frames or (inside >= min(2, frames - 1)).all()


def test_the_last_window_is_shifted_to_the_end():
    assert starts(5, 5, 3) == [0]
    assert starts(8, 5, 3) == [0, 2, 3]
    assert starts(9, 5, 3) == [0, 2, 4]
    assert starts(10, 5, 0) == [0, 5]


def test_anchors_come_first_and_the_first_window_is_whole():
    anchors = [[0] if n < 6 else [4] for n in range(9)]
    windows = make_windows(9, 5, 2, anchors=anchors)
    assert windows.frames.tolist() == [[0, 1, 2, 3, 4], [0, 3, 4, 5, 6], [0, 5, 6, 7, 8]]
    assert windows.weights[:, 0].tolist() == [1, 0, 0]
    later = make_windows(11, 5, 2, anchors=[*anchors, [4], [4]])
    assert later.frames[-1].tolist() == [4, 7, 8, 9, 10]


def test_triangular_weights_fall_towards_the_ends_of_a_window():
    windows = make_windows(8, 5, 2)
    assert windows.frames.tolist() == [[0, 1, 2, 3, 4], [3, 4, 5, 6, 7]]
    np.testing.assert_allclose(windows.weights[0], [1, 1, 1, 2 / 3, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize(("overlap", "advice"), [(5, "take 3"), (9, "take 3"), (-1, "take 0")])
def test_an_overlap_that_no_window_can_have_is_refused(overlap, advice):
    with pytest.raises(StoryjaxError, match=rf"0 to 4 of them, got an overlap of {overlap}; {advice}"):
        make_windows(9, 5, overlap)


def test_an_unknown_blend_gets_the_nearest():
    with pytest.raises(StoryjaxError, match="did you mean 'uniform'"):
        make_windows(9, 5, 3, blend="unifrom")  # type: ignore[arg-type]


@settings(max_examples=10)
@given(sizes(), st.integers(1, 3), st.integers(1, 8))
def test_blending_what_was_gathered_gives_it_back(size, stories, multiple):
    rows = make_rows([windows_of(*size)] * stories, multiple)
    latents = np.random.default_rng(0).standard_normal((stories, size[0], 2, 3)).astype(np.float32)
    held = gather(jnp.asarray(latents), rows.story, rows.frames)
    assert held.shape == (len(rows.story), size[1], 2, 3)
    assert len(rows.story) % multiple == 0
    np.testing.assert_allclose(blended(held, rows), latents, rtol=1e-5, atol=1e-6)


def test_a_blend_is_the_mean_by_weights():
    windows = make_windows(8, 5, 2)
    rows = make_rows([windows], 1)
    predictions = np.zeros((2, 5, 1), np.float32)
    predictions[1] = 3
    np.testing.assert_allclose(blended(predictions, rows)[0, :, 0], [0, 0, 0, 1, 2, 3, 3, 3], rtol=1e-6)


@pytest.mark.parametrize("method", ["ddim", "plms", "euler", "dpm++"])
def test_every_sampler_draws_through_windows_what_a_network_of_single_frames_draws(method):
    """Where frames do not look at each other windows change nothing."""
    schedule = make_schedule(ScheduleConfig(kind="linear", prediction="epsilon"))
    rows = make_rows([make_windows(9, 4, 2)], 1)
    start = jax.random.normal(jax.random.key(1), (1, 9, 2, 2, 1))

    def network(x, t):
        return jnp.tanh(x) * (1 + t / 1000)

    whole = sample(network, schedule, method, 4, start)
    windowed = sample(
        lambda x, t: blended(network(gather(x, rows.story, rows.frames), t), rows), schedule, method, 4, start
    )
    np.testing.assert_allclose(windowed, whole, rtol=1e-4, atol=1e-5)


def test_work_in_chunks_is_the_same_work():
    x, y = np.arange(24.0).reshape(12, 2), np.arange(12.0)
    for size in (3, 5, 12, 20):
        found = chunked(lambda a, b: a * b[:, None], size, None, x, y)
        np.testing.assert_array_equal(found, x * y[:, None])
