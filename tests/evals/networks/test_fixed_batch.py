"""What comes out for a row does not depend on the other rows, to the bit; pictures are resized as the original libraries do."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Box
from storyjax.evals.networks import fixed_batch
from storyjax.evals.networks.fixed_batch import FixedBatch
from storyjax.evals.networks.pictures import centre_crop, cut_out, stretched

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.standard_normal((37, 29)).astype(np.float32)
RUN = FixedBatch(lambda w, x: {"y": jnp.tanh(x @ w), "sum": (x @ w).sum(-1)}, WEIGHTS, 4)
ROWS = RANDOM.standard_normal((11, 37)).astype(np.float32)


@given(st.lists(st.integers(0, 10), min_size=1, max_size=11))
def test_any_rows_in_any_order(chosen):
    whole, part = RUN(ROWS), RUN(ROWS[chosen])
    assert part["y"].shape == (len(chosen), 29)
    assert all(np.array_equal(part[name], whole[name][chosen]) for name in whole)


def test_batches_of_an_accelerator_are_filled_up(monkeypatch):
    monkeypatch.setattr(fixed_batch, "platform", lambda: "gpu")
    batched = FixedBatch(lambda w, x: {"y": jnp.tanh(x @ w), "sum": (x @ w).sum(-1)}, WEIGHTS, 4)
    assert (batched.batch, RUN.batch) == (4, 1)
    whole = batched(ROWS)
    np.testing.assert_allclose(whole["y"], RUN(ROWS)["y"], atol=1e-5)
    for count in (1, 2, 3, 6, 10):
        part = batched(ROWS[:count])
        assert all(np.array_equal(part[name], whole[name][:count]) for name in whole)


def test_nothing_to_run_is_refused():
    with pytest.raises(StoryjaxError, match="at least one row, got none"):
        RUN(ROWS[:0])
    with pytest.raises(StoryjaxError, match="a batch of at least one row, got 0"):
        FixedBatch(lambda w, x: x, None, 0)


@pytest.mark.parametrize(("corner", "left"), [("rounded", 2), ("floor", 1)])
def test_an_odd_rest_is_cut_off_as_each_library_does(corner, left):
    """7 of 10 pixels: 1.5 on each side, which torchvision rounds to 2 and transformers to 1."""
    picture = np.zeros((7, 10, 3), np.uint8) + np.arange(10, dtype=np.uint8)[None, :, None]
    np.testing.assert_array_equal(centre_crop(picture, 7, corner=corner)[0, :, 0], np.arange(left, left + 7))


def test_stretched_has_both_sides_and_a_box_is_cut_to_whole_pixels():
    picture = RANDOM.integers(0, 256, (10, 20, 3), dtype=np.uint8)
    assert stretched(picture, 6).shape == (6, 6, 3)
    np.testing.assert_array_equal(cut_out(picture, Box("a", 0.11, 0.5, 0.49, 0.76)), picture[1:5, 10:15])
    np.testing.assert_array_equal(cut_out(picture, Box("a", 0.99, 0.0, 1.0, 0.001)), picture[9:, :1])


@pytest.mark.parametrize("size", [(37, 50), (50, 37), (224, 301), (101, 17), (14, 14), (9, 13)])
def test_the_processor_of_transformers_cuts_the_same_pixels(size):
    pytest.importorskip("torch")
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    picture = RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 14}, crop_size={"height": 14, "width": 14}, do_rescale=False, do_normalize=False
    )
    theirs = np.asarray(processor(picture, return_tensors="np")["pixel_values"])[0].transpose(1, 2, 0)
    np.testing.assert_array_equal(centre_crop(picture, 14, corner="floor"), theirs)
