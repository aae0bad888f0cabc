"""Guidance: the order of the branches, the algebra of both forms, rescale per sample."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.diffusion.guidance import (
    Guidance,
    Scales,
    combine,
    first_frame_batch,
    guided,
    rescale,
    text_batch,
    tile,
)
from storyjax.diffusion.samplers import sample
from storyjax.diffusion.schedule import ScheduleConfig, make_schedule
from storyjax.errors import StoryjaxError
from tests.diffusion.draws import normal

SHAPE = (2, 3, 4, 4, 2)


def branches(count):
    return list(normal(7, (count, *SHAPE)))


@pytest.mark.parametrize(
    ("text", "image", "form"),
    [(7.5, 1.0, "text"), (1.0, 1.0, "none"), (7.5, 1.5, "both"), (1.0, 1.5, "both"), (0.5, 0.0, "none")],
)
def test_the_scales_decide_the_form(text, image, form):
    assert Guidance(text, image).form == form


def test_text_form_moves_from_unconditional_towards_text():
    uncond, cond = branches(2)
    out = combine(jnp.concatenate([uncond, cond]), "text", Scales(7.5))
    np.testing.assert_allclose(out, uncond + 7.5 * (cond - uncond), atol=1e-5)


def test_text_scale_one_is_the_conditional_prediction():
    uncond, cond = branches(2)
    np.testing.assert_allclose(combine(jnp.concatenate([uncond, cond]), "text", Scales(1.0)), cond, atol=1e-6)


def test_both_form_moves_towards_image_then_text():
    uncond, image, full = branches(3)
    out = combine(jnp.concatenate([uncond, image, full]), "both", Scales(7.5, 1.5))
    np.testing.assert_allclose(out, uncond + 1.5 * (image - uncond) + 7.5 * (full - image), atol=1e-5)
    ones = combine(jnp.concatenate([uncond, image, full]), "both", Scales(1.0, 1.0))
    np.testing.assert_allclose(ones, full, atol=1e-6)


def test_no_guidance_hands_the_output_through():
    (out,) = branches(1)
    np.testing.assert_array_equal(combine(out, "none", Scales()), out)


def test_scales_may_differ_by_story_and_be_traced():
    uncond, cond = branches(2)
    both = jnp.concatenate([uncond, cond])
    run = jax.jit(lambda scales: combine(both, "text", scales))
    out = run(Scales(jnp.array([2.0, 5.0])))
    np.testing.assert_allclose(out[0], combine(both, "text", Scales(2.0))[0], atol=1e-5)
    np.testing.assert_allclose(out[1], combine(both, "text", Scales(5.0))[1], atol=1e-5)
    run(Scales(jnp.array([3.0, 4.0])))
    assert run._cache_size() == 1


@pytest.mark.parametrize("form", ["text", "both"])
def test_full_rescale_gives_each_sample_the_spread_of_its_conditioned_branch(form):
    parts = branches(2 if form == "text" else 3)
    parts[-1] = parts[-1] * jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1, 1)
    out = combine(jnp.concatenate(parts), form, Scales(7.5, 1.5, 1.0))
    for story in range(2):
        assert float(out[story].std()) == pytest.approx(float(parts[-1][story].std()), rel=1e-5)


def test_partial_rescale_is_a_mixture():
    uncond, cond = branches(2)
    plain = combine(jnp.concatenate([uncond, cond]), "text", Scales(7.5))
    full = rescale(plain, cond, 1.0)
    out = combine(jnp.concatenate([uncond, cond]), "text", Scales(7.5, 1.0, 0.7))
    np.testing.assert_allclose(out, 0.7 * full + 0.3 * plain, atol=1e-5)


def test_bfloat16_outputs_are_combined_in_float32():
    uncond, cond = (x.astype(jnp.bfloat16) for x in branches(2))
    out = combine(jnp.concatenate([uncond, cond]), "text", Scales(7.5))
    exact = uncond.astype(jnp.float32) + 7.5 * (cond.astype(jnp.float32) - uncond.astype(jnp.float32))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out, exact.astype(jnp.bfloat16))


def test_the_text_stands_in_the_last_branch_only():
    null, text = jnp.zeros((4, 3, 2)), jnp.ones((4, 3, 2))
    assert [float(text_batch(null, text, "text")[i * 4, 0, 0]) for i in range(2)] == [0, 1]
    assert [float(text_batch(null, text, "both")[i * 4, 0, 0]) for i in range(3)] == [0, 0, 1]
    np.testing.assert_array_equal(text_batch(null, text, "none"), text)


def test_the_noise_stands_in_for_the_first_frame_of_the_unconditional_branch_of_both():
    noise, first = jnp.zeros((2, 1, 2, 2, 1)), jnp.ones((2, 1, 2, 2, 1))
    means = lambda form: [float(x.mean()) for x in first_frame_batch(first, noise, form)[::2]]  # noqa: E731
    assert means("both") == [0, 1, 1]
    assert means("text") == [1, 1]
    assert means("none") == [1]


def test_tiling_is_branch_major():
    x = jnp.arange(2)[:, None]
    assert tile(x, "both")[:, 0].tolist() == [0, 1, 0, 1, 0, 1]


def test_a_guided_model_samples_as_the_combined_one():
    """With a linear network guidance can be done by hand: e = a_branch x gives (a_u + s (a_c - a_u)) x."""
    schedule = make_schedule(ScheduleConfig.contextual_story())
    slopes = text_batch(jnp.full((2,), 0.1), jnp.full((2,), 0.3), "text").reshape(4, 1, 1, 1, 1)
    start = normal(0, SHAPE)
    final = sample(guided(lambda x, t: slopes * x, "text", Guidance(4.0).scales), schedule, "ddim", 6, start)
    by_hand = sample(lambda x, t: (0.1 + 4.0 * 0.2) * x, schedule, "ddim", 6, start)
    np.testing.assert_allclose(final, by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"rescale": 1.2}, "rescale in 0..1, got 1.2"), ({"text": -1.0}, "scales of at least 0, got text -1.0")],
)
def test_scales_out_of_range_are_refused(arguments, message):
    with pytest.raises(StoryjaxError, match=message):
        Guidance(**arguments)


def test_a_batch_that_was_not_repeated_is_refused():
    with pytest.raises(StoryjaxError, match="expected a batch divisible by 3, got 4"):
        combine(jnp.zeros((4, 1)), "both", Scales())
    with pytest.raises(StoryjaxError, match="expected form 'none', 'text' or 'both', got 'image'"):
        tile(jnp.zeros((4, 1)), "image")
    with pytest.raises(StoryjaxError, match="expected null text of the same shape as text"):
        text_batch(jnp.zeros((1, 3)), jnp.zeros((2, 3)), "text")
