"""The schedule against the official table, published settings, and the algebra it must satisfy."""

import dataclasses
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from storyjax import config as configuration
from storyjax.diffusion.diffusers_format import (
    SamplerTakenWarning,
    from_diffusers,
    sampler_from_diffusers,
    to_diffusers,
)
from storyjax.diffusion.noise import mix
from storyjax.diffusion.samplers import Sampler, spacing_of
from storyjax.diffusion.schedule import (
    ScheduleConfig,
    add_noise,
    make_schedule,
    snr,
    to_epsilon,
    to_x0,
    training_target,
    velocity,
)
from storyjax.errors import StoryjaxError
from tests.diffusion import goldens
from tests.diffusion.diffusers_runs import RELEASED
from tests.diffusion.draws import normal

STORY = ScheduleConfig.contextual_story()


def test_alphas_cumprod_equal_the_official_table_bit_for_bit():
    table = make_schedule(STORY).alphas_cumprod
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table, goldens.load("schedule_and_frameinit")["alphas_cumprod"])


def test_noisy_latents_of_the_official_training_step_are_reproduced():
    golden = goldens.load("small_sv_trainstep")
    x0 = goldens.named("small_sv_trainstep/x0", (2, 4, 5, 16, 16))
    shared = goldens.named("small_sv_trainstep/shared", (2, 4, 1, 16, 16))
    own = goldens.named("small_sv_trainstep/ind", (2, 4, 5, 16, 16))
    noise = mix(jnp.asarray(shared), jnp.asarray(own), 1.5)
    noisy = add_noise(make_schedule(STORY), jnp.asarray(x0), noise, jnp.array([17, 731]))
    np.testing.assert_allclose(np.std(np.asarray(noise, np.float64), ddof=1), golden["noise_std"], rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.asarray(noisy, np.float64)).sum(), golden["noisy_abs_sum"], rtol=1e-6)


def test_scaled_linear_is_straight_in_the_root_of_beta():
    table = make_schedule(ScheduleConfig.sd15()).alphas_cumprod.astype(np.float64)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    np.testing.assert_allclose(table, np.cumprod(1 - betas), rtol=2e-5)
    # Published in the Stable Diffusion literature: sqrt(abar_999) = 0.0683.
    assert np.sqrt(table[-1]) == pytest.approx(0.0683, abs=1e-4)


def test_cosine_follows_its_formula_until_beta_is_capped():
    table = make_schedule(ScheduleConfig(kind="cosine")).alphas_cumprod
    t = np.arange(1, 1001) / 1000
    formula = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(table[:998], formula[:998], rtol=1e-3, atol=1e-6)
    assert table[-1] > 0


def test_zero_snr_ends_in_pure_noise_and_keeps_the_first_timestep():
    plain = make_schedule(ScheduleConfig.sd21_v()).alphas_cumprod
    zero = make_schedule(dataclasses.replace(ScheduleConfig.sd21_v(), zero_snr=True)).alphas_cumprod
    assert zero[-1] == 0
    assert zero[0] == pytest.approx(plain[0], rel=1e-6)
    roots = np.sqrt(plain.astype(np.float64))
    expected = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    np.testing.assert_allclose(np.sqrt(zero), expected, atol=2e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_network_targets_give_back_clean_latents_and_noise(prediction):
    schedule = make_schedule(ScheduleConfig(prediction=prediction))
    x0, noise = normal(0, (2, 3, 5, 2, 2, 4))
    timesteps = jnp.array([3, 400, 999])
    noisy = add_noise(schedule, x0, noise, timesteps)
    output = training_target(schedule, x0, noise, timesteps)
    np.testing.assert_allclose(to_x0(schedule, output, noisy, timesteps), x0, atol=2e-5)
    np.testing.assert_allclose(to_epsilon(schedule, output, noisy, timesteps), noise, atol=2e-5)


def test_each_story_gets_its_own_timestep_and_a_scalar_serves_all():
    schedule = make_schedule(STORY)
    x0, noise = normal(1, (2, 2, 3, 2, 2, 1))
    both = add_noise(schedule, x0, noise, jnp.array([10, 700]))
    np.testing.assert_array_equal(both[0], add_noise(schedule, x0, noise, jnp.array(10))[0])
    np.testing.assert_array_equal(both[1], add_noise(schedule, x0, noise, jnp.array(700))[1])
    abar = float(schedule.alphas_cumprod[700])
    np.testing.assert_allclose(both[1], abar**0.5 * x0[1] + (1 - abar) ** 0.5 * noise[1], rtol=1e-5, atol=1e-6)


def test_velocity_is_the_derivative_of_the_noisy_latents_along_the_angle():
    schedule = make_schedule(ScheduleConfig.sd21_v())
    x0, noise = jnp.float32([[0.3]]), jnp.float32([[-1.2]])
    angle = np.arccos(np.sqrt(np.float64(schedule.alphas_cumprod[500])))
    step = 1e-5
    expected = ((np.cos(angle + step) - np.cos(angle)) * 0.3 + (np.sin(angle + step) - np.sin(angle)) * -1.2) / step
    assert float(velocity(schedule, x0, noise, jnp.array([500]))[0, 0]) == pytest.approx(expected, abs=1e-4)


def test_bfloat16_latents_are_noised_in_float32_and_rounded_once():
    schedule = make_schedule(STORY)
    x0, noise = normal(2, (2, 1, 2, 4, 4, 4)).astype(jnp.bfloat16)
    noisy = add_noise(schedule, x0, noise, jnp.array([300]))
    exact = add_noise(schedule, x0.astype(jnp.float32), noise.astype(jnp.float32), jnp.array([300]))
    assert noisy.dtype == jnp.bfloat16
    np.testing.assert_array_equal(noisy, exact.astype(jnp.bfloat16))


def test_snr_runs_from_clean_to_noise():
    ratio = snr(make_schedule(STORY), jnp.arange(1000))
    assert float(ratio[0]) == pytest.approx((1 - 0.00085) / 0.00085, rel=1e-4)
    assert bool(jnp.all(jnp.diff(ratio) < 0))


def test_schedules_of_equal_settings_are_equal_and_hash_alike():
    assert make_schedule(STORY) == make_schedule(ScheduleConfig.contextual_story())
    assert hash(make_schedule(STORY)) == hash(make_schedule(ScheduleConfig.contextual_story()))
    assert make_schedule(STORY) != make_schedule(ScheduleConfig.sd15())


def test_settings_survive_json():
    config = dataclasses.replace(ScheduleConfig.sd21_v(), zero_snr=True, spacing="trailing")
    assert configuration.from_json(ScheduleConfig, configuration.to_json(config)) == config


@pytest.mark.parametrize("preset", sorted(RELEASED))
def test_presets_equal_the_released_scheduler_files(preset):
    assert from_diffusers(RELEASED[preset]) == getattr(ScheduleConfig, preset)()


def test_the_released_file_names_its_sampler():
    taken = {name: sampler_from_diffusers(file).name for name, file in RELEASED.items()}
    assert taken == {"sd15": "plms", "sd21_base": "plms", "sd21_v": "ddim", "sdxl": "euler"}
    assert sampler_from_diffusers({"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}) == Sampler(
        "dpm++", karras=True
    )
    assert sampler_from_diffusers({"_class_name": "DDPMScheduler"}) == Sampler(eta=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "UniPCMultistepScheduler"}, "UniPCMultistepScheduler, is not here; 'dpm\\+\\+' is taken"),
        ({"_class_name": "KDPM2AncestralDiscreteScheduler"}, "'euler_a' is taken"),
        ({"_class_name": "PNDMScheduler", "skip_prk_steps": False}, "with skip_prk_steps False, is not here; 'plms'"),
        ({"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": True}, "with use_beta_sigmas True"),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++", "solver_order": 3},
            "with algorithm_type 'sde-dpmsolver\\+\\+', solver_order 3, is not here; 'dpm\\+\\+' is taken",
        ),
    ],
)
def test_a_sampler_that_is_not_here_is_replaced_in_the_open(change, message):
    with pytest.warns(SamplerTakenWarning, match=message):
        sampler_from_diffusers(RELEASED["sdxl"] | change)


def test_a_released_sampler_is_taken_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        taken = {name: sampler_from_diffusers(file).name for name, file in RELEASED.items()}
    assert taken == {"sd15": "plms", "sd21_base": "plms", "sd21_v": "ddim", "sdxl": "euler"}


@pytest.mark.parametrize(
    "sampler", [Sampler(), Sampler("plms"), Sampler("euler"), Sampler("euler_a"), Sampler("dpm++", karras=True)]
)
@pytest.mark.parametrize("config", [STORY, ScheduleConfig(kind="cosine", spacing="linspace"), ScheduleConfig.sd21_v()])
def test_diffusers_dictionary_goes_there_and_back(config, sampler):
    mapping = to_diffusers(config, sampler)
    assert from_diffusers(mapping) == config
    assert sampler_from_diffusers(mapping) == sampler


def test_a_field_left_out_means_the_default_of_the_class():
    base = {"_class_name": "DDIMScheduler", "clip_sample": False}
    assert from_diffusers(base).set_alpha_to_one
    assert from_diffusers(base).beta_end == 0.02
    assert not from_diffusers({"_class_name": "PNDMScheduler"}).set_alpha_to_one
    assert from_diffusers({"_class_name": "HeunDiscreteScheduler"}).beta_end == 0.012


@pytest.mark.parametrize(
    ("name", "spacing"),
    [("ddim", "leading"), ("plms", "leading"), ("euler", "linspace"), ("euler_a", "linspace"), ("dpm++", "linspace")],
)
def test_a_spacing_left_out_is_the_usual_one_of_the_sampler(name, spacing):
    """As when the scheduler of a diffusers pipeline is exchanged."""
    assert spacing_of(make_schedule(from_diffusers(RELEASED["sd15"])), Sampler(name)) == spacing
    assert spacing_of(make_schedule(from_diffusers(RELEASED["sdxl"])), Sampler(name)) == "leading"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "DDIMSheduler"}, "did you mean 'DDIMScheduler'"),
        ({"beta_schedule": "scaled_linar"}, "did you mean 'scaled_linear'"),
        ({"prediction_type": "sample"}, "unknown prediction_type 'sample'"),
        ({"clip_sample": True}, "set clip_sample to false"),
        ({"thresholding": True}, "expected thresholding False, got True"),
        ({"trained_betas": [0.1, 0.2]}, "expected trained_betas None"),
    ],
)
def test_scheduler_files_we_cannot_follow_are_refused(change, message):
    with pytest.raises(StoryjaxError, match=message):
        from_diffusers(RELEASED["sd21_v"] | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "scaled-linear"}, "unknown kind 'scaled-linear'; did you mean 'scaled_linear'"),
        ({"prediction": "eps"}, "did you mean 'epsilon'"),
        ({"spacing": "trailling"}, "did you mean 'trailing'"),
        ({"beta_start": 0.1, "beta_end": 0.01}, "expected 0 < beta_start <= beta_end < 1, got 0.1 and 0.01"),
        ({"steps": 1}, "at least 2 training steps, got 1"),
        ({"steps_offset": 1000}, "steps_offset in 0..999, got 1000"),
        ({"zero_snr": True}, "set prediction='v' or zero_snr=False"),
    ],
)
def test_impossible_settings_say_what_to_do(change, message):
    with pytest.raises(StoryjaxError, match=message):
        ScheduleConfig(**change)
