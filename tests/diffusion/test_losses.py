"""Loss weights and reductions against the official numbers and the published formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.diffusion.losses import diffusion_loss, min_snr_weights, story_mse
from storyjax.diffusion.schedule import ScheduleConfig, make_schedule
from storyjax.errors import StoryjaxError
from tests.diffusion import goldens
from tests.diffusion.draws import normal

STORY = make_schedule(ScheduleConfig.contextual_story())


def test_min_snr_weights_equal_the_official_ones_at_every_timestep():
    golden = goldens.load("schedule_and_frameinit")["minsnr_w"]
    np.testing.assert_allclose(min_snr_weights(STORY, jnp.arange(1000)), golden, rtol=1e-6)


def test_the_official_training_loss_follows_from_its_errors():
    golden = goldens.load("small_sv_trainstep")
    weights = min_snr_weights(STORY, jnp.array([17, 731]))
    np.testing.assert_allclose(weights, golden["weights"], rtol=1e-6)
    # A prediction off by a constant has exactly the stored error.
    target = jnp.zeros((2, 5, 4, 4, 4))
    prediction = target + jnp.sqrt(golden["per_story_mse"]).reshape(2, 1, 1, 1, 1)
    loss, per_story = diffusion_loss(STORY, prediction, target, jnp.array([17, 731]))
    np.testing.assert_allclose(per_story, golden["per_story_mse"], rtol=1e-6)
    assert float(loss) == pytest.approx(float(golden["loss"]), abs=2e-6)


def test_v_prediction_divides_by_snr_plus_one():
    schedule = make_schedule(ScheduleConfig.sd21_v())
    abar = schedule.alphas_cumprod.astype(np.float64)
    ratio = abar / (1 - abar)
    np.testing.assert_allclose(
        min_snr_weights(schedule, jnp.arange(1000), 3.0), np.minimum(ratio, 3) / (ratio + 1), rtol=2e-5
    )


def test_pure_noise_has_weight_zero_not_nan():
    schedule = make_schedule(ScheduleConfig(prediction="v", zero_snr=True))
    assert float(min_snr_weights(schedule, jnp.array(999))) == 0


def test_no_gamma_means_a_plain_mean():
    prediction, target = normal(0, (2, 3, 5, 2, 2, 4))
    loss, _ = diffusion_loss(STORY, prediction, target, jnp.array([1, 500, 999]), None)
    assert float(loss) == pytest.approx(float(np.mean((np.asarray(prediction) - target) ** 2)), rel=1e-5)


def test_errors_are_summed_in_float32_story_by_story():
    prediction = jnp.full((2, 5, 32, 32, 4), 0.1, jnp.bfloat16).at[1].set(2.0)
    error = story_mse(prediction, jnp.zeros_like(prediction))
    assert error.dtype == jnp.float32
    np.testing.assert_allclose(error, [float(jnp.bfloat16(0.1)) ** 2, 4.0], rtol=1e-5)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(StoryjaxError, match=r"expected a prediction of shape \(2, 5, 4, 4, 1\), got \(2, 5, 4, 4, 4\)"):
        story_mse(jnp.zeros((2, 5, 4, 4, 4)), jnp.zeros((2, 5, 4, 4, 1)))


def test_a_gamma_of_zero_is_refused():
    with pytest.raises(StoryjaxError, match="gamma above 0"):
        min_snr_weights(STORY, jnp.array([1]), 0.0)
