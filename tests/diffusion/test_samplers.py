"""Samplers against the official trajectory, published step formulas, exact solutions, and bad settings."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.diffusion.samplers import Sampler, inference_timesteps, sample, solver_table
from storyjax.diffusion.schedule import ScheduleConfig, make_schedule
from storyjax.errors import StoryjaxError
from tests.diffusion import goldens
from tests.diffusion.draws import normal

STORY = make_schedule(ScheduleConfig.contextual_story())
SD = ScheduleConfig.sd15()


def replay(outputs, timesteps):
    """A network that answers each timestep with the output stored for it."""
    outputs, timesteps = jnp.asarray(outputs), jnp.asarray(timesteps, jnp.float32)
    return lambda latents, timestep: outputs[jnp.argmin(jnp.abs(timesteps - timestep))].astype(latents.dtype)


# ---- official numbers ----


def test_fifty_ddim_timesteps_are_the_official_ones():
    golden = goldens.load("schedule_and_frameinit")["timesteps50"]
    np.testing.assert_array_equal(inference_timesteps(STORY, Sampler(), 50), golden)


def test_four_ddim_steps_follow_the_official_trajectory():
    golden = goldens.load("small_sv_ddim4")
    np.testing.assert_array_equal(inference_timesteps(STORY, Sampler(), 4), golden["timesteps"])
    path, epsilon = goldens.channels_last(golden["traj"]), goldens.channels_last(golden["eps"])
    run = functools.partial(sample, replay(epsilon, golden["timesteps"]), STORY, "ddim", 4, trajectory=True)
    final, ours = jax.jit(run)(jnp.asarray(path[0]))
    assert ours.shape == path.shape
    np.testing.assert_allclose(ours, path, atol=2e-5)
    np.testing.assert_allclose(final, goldens.channels_last(golden["final"]), atol=2e-5)


# ---- single steps, from the published formulas ----


def abar_at(schedule, timesteps):
    return schedule.alphas_cumprod.astype(np.float64)[np.asarray(timesteps, np.int64)]


def reference_ddim(abar, after, x, eps, eta, noise):
    sigma = eta * np.sqrt((1 - after) / (1 - abar)) * np.sqrt(1 - abar / after)
    x0 = (x - np.sqrt(1 - abar) * eps) / np.sqrt(abar)
    return np.sqrt(after) * x0 + np.sqrt(1 - after - sigma**2) * eps + sigma * noise


@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddim_steps_equal_equation_12(eta):
    schedule, key = make_schedule(SD), jax.random.key(3)
    outputs = np.random.default_rng(0).standard_normal((5, 1, 2, 3, 3, 2)).astype(np.float32)
    times = inference_timesteps(schedule, Sampler(), 5)
    start = normal(1, outputs.shape[1:])
    _, path = sample(replay(outputs, times), schedule, Sampler(eta=eta), 5, start, key, trajectory=True)
    abar = np.append(abar_at(schedule, times), schedule.alphas_cumprod[0])
    for i in range(5):
        noise = jax.random.normal(jax.random.fold_in(key, i), start.shape)
        expected = reference_ddim(abar[i], abar[i + 1], path[i], outputs[i], eta, noise)
        np.testing.assert_allclose(path[i + 1], expected, atol=1e-5)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_euler_equals_its_sigma_space_recipe(spacing, prediction):
    """x' = x + (k' - k) (x - x_0)/k on latents scaled by sqrt(k^2 + 1), as diffusers' EulerDiscreteScheduler does it."""
    schedule = make_schedule(dataclasses.replace(SD, spacing=spacing, prediction=prediction))
    outputs = np.random.default_rng(1).standard_normal((6, 1, 2, 2, 2, 2)).astype(np.float32)
    times = inference_timesteps(schedule, Sampler("euler"), 6)
    noise = np.random.default_rng(2).standard_normal(outputs.shape[1:]).astype(np.float32)
    table = np.sqrt(1 / schedule.alphas_cumprod.astype(np.float64) - 1)
    levels = np.append(np.interp(times, np.arange(1000), table), 0)
    x = noise * (np.sqrt(levels[0] ** 2 + 1) if spacing == "leading" else levels[0])
    for i, output in enumerate(outputs):
        k = levels[i]
        x0 = x - k * output if prediction == "epsilon" else -output * k / np.sqrt(k**2 + 1) + x / (k**2 + 1)
        x = x + (x - x0) / k * (levels[i + 1] - k)
    final = sample(replay(outputs, times), schedule, "euler", 6, jnp.asarray(noise))
    np.testing.assert_allclose(final, x, atol=5e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_dpm_equals_the_multistep_recipe(steps, prediction):
    """DPM-Solver++(2M) with midpoint differences, first and last step of order 1, as diffusers' multistep scheduler."""
    schedule = make_schedule(dataclasses.replace(SD, spacing="trailing", prediction=prediction))
    outputs = np.random.default_rng(3).standard_normal((steps, 1, 2, 2, 2, 2)).astype(np.float32)
    times = inference_timesteps(schedule, Sampler("dpm++"), steps)
    x = start = np.random.default_rng(4).standard_normal(outputs.shape[1:]).astype(np.float32)
    abar = np.append(abar_at(schedule, times), 1.0)
    alpha, sigma = np.sqrt(abar), np.sqrt(1 - abar)
    with np.errstate(divide="ignore"):
        lamda = np.log(alpha) - np.log(sigma)
    clean = []
    for i, output in enumerate(outputs):
        is_epsilon = prediction == "epsilon"
        clean.append((x - sigma[i] * output) / alpha[i] if is_epsilon else alpha[i] * x - sigma[i] * output)
        h = lamda[i + 1] - lamda[i]
        x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * np.expm1(-h) * clean[i]
        if 0 < i < steps - 1:
            ratio = (lamda[i] - lamda[i - 1]) / h
            x = x - 0.5 * alpha[i + 1] * np.expm1(-h) * (clean[i] - clean[i - 1]) / ratio
    final = sample(replay(outputs, times), schedule, "dpm++", steps, jnp.asarray(start))
    np.testing.assert_allclose(final, x, rtol=1e-4, atol=1e-4)


# ---- timesteps ----


@pytest.mark.parametrize(
    ("name", "spacing", "steps", "expected"),
    [
        ("ddim", "leading", 4, [751, 501, 251, 1]),
        ("ddim", "trailing", 4, [999, 749, 499, 249]),
        ("ddim", "linspace", 4, [999, 666, 333, 0]),
        ("ddim", "trailing", 7, [999, 856, 713, 570, 428, 285, 142]),
        ("euler", "leading", 3, [667, 334, 1]),
        ("euler", "linspace", 5, [999, 749.25, 499.5, 249.75, 0]),
        ("dpm++", "leading", 4, [801, 601, 401, 201]),
        ("dpm++", "trailing", 4, [999, 749, 499, 249]),
        ("dpm++", "linspace", 4, [999, 749, 500, 250]),
    ],
)
def test_timesteps_are_those_of_diffusers(name, spacing, steps, expected):
    schedule = make_schedule(dataclasses.replace(SD, spacing=spacing))
    np.testing.assert_array_equal(inference_timesteps(schedule, Sampler(name), steps), expected)


def test_every_number_of_trailing_steps_is_possible():
    schedule = make_schedule(dataclasses.replace(SD, spacing="trailing"))
    for steps in range(1, 1001):
        times = inference_timesteps(schedule, Sampler(), steps)
        assert times.shape == (steps,)
        assert times[0] == 999
        assert times[-1] >= 0


@pytest.mark.parametrize("name", ["euler", "dpm++"])
def test_karras_levels_are_straight_in_the_seventh_root(name):
    schedule = make_schedule(dataclasses.replace(SD, spacing="linspace"))
    table, _ = solver_table(schedule, Sampler(name, karras=True), 12)
    roots = (table.sigma.astype(np.float64) / table.alpha) ** (1 / 7)
    np.testing.assert_allclose(np.diff(roots), np.diff(roots).mean(), rtol=1e-4)
    known = np.sqrt(1 / schedule.alphas_cumprod.astype(np.float64) - 1)
    np.testing.assert_allclose(roots[[0, -1]] ** 7, known[[-1, 0]], rtol=1e-5)
    assert table.timestep[0] == 999


def test_karras_levels_span_the_chosen_timesteps_under_euler_and_the_whole_table_under_dpm():
    schedule = make_schedule(dataclasses.replace(SD, spacing="leading"))
    known = np.sqrt(1 / schedule.alphas_cumprod.astype(np.float64) - 1)
    for name, ends in (("euler", known[[901, 1]]), ("dpm++", known[[999, 0]])):
        table, _ = solver_table(schedule, Sampler(name, karras=True), 10)
        np.testing.assert_allclose((table.sigma.astype(np.float64) / table.alpha)[[0, -1]], ends, rtol=1e-5)


# ---- exact solutions: Gaussian data N(mean, spread^2) has a known denoiser and a known ODE solution ----

MEAN, SPREAD = 0.7, 0.4
FINE = ScheduleConfig(
    steps=100_000, beta_start=8.5e-6, beta_end=1.2e-4, kind="linear", spacing="linspace", steps_offset=0
)


def gaussian_denoiser(schedule):
    """The exact conditional mean of the noise (or velocity), the level read off log k between the timesteps."""
    levels = jnp.asarray(0.5 * np.log(1 / schedule.alphas_cumprod.astype(np.float64) - 1), jnp.float32)

    def denoise(latents, timestep):
        low = jnp.clip(timestep.astype(jnp.int32), 0, len(levels) - 2)
        share = timestep - low
        k = jnp.exp((1 - share) * levels[low] + share * levels[low + 1])
        alpha = 1 / jnp.sqrt(k**2 + 1)
        sigma = k * alpha
        variance = (alpha * SPREAD) ** 2 + sigma**2
        epsilon = sigma * (latents - alpha * MEAN) / variance
        x0 = MEAN + alpha * SPREAD**2 * (latents - alpha * MEAN) / variance
        return epsilon if schedule.config.prediction == "epsilon" else alpha * epsilon - sigma * x0

    return denoise


def exact(table, start, index):
    """x_i = alpha_i mean + sqrt((alpha_i spread)^2 + sigma_i^2) z with one z for the whole path."""
    alpha, sigma = table.alpha.astype(np.float64), table.sigma.astype(np.float64)
    width = np.sqrt((alpha * SPREAD) ** 2 + sigma**2)
    return alpha[index] * MEAN + width[index] * (start - alpha[0] * MEAN) / width[0]


def exact_end(alpha, start):
    """The ODE's end at sigma = 0, where the spread is the data's."""
    return MEAN + SPREAD * (start - alpha * MEAN) / np.sqrt((alpha * SPREAD) ** 2 + 1 - alpha**2)


def path_error(schedule, sampler, steps):
    """Error where the last, infinitely long step in log k begins; the end points do not move with `steps`."""
    table, scale = solver_table(schedule, sampler, steps)
    start = jnp.float32([-1.5, 0.2, 1.1])
    run = jax.jit(lambda x: sample(gaussian_denoiser(schedule), schedule, sampler, steps, x, trajectory=True)[1])
    path = np.asarray(run(start), np.float64)
    return np.abs(path[-2] - exact(table, np.asarray(start) * scale, -1)).max()


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize(
    ("sampler", "order"), [(Sampler("ddim"), 1), (Sampler("euler", karras=True), 1), (Sampler("dpm++", karras=True), 2)]
)
def test_error_against_the_exact_path_falls_with_the_order_of_the_method(sampler, order, prediction):
    schedule = make_schedule(dataclasses.replace(FINE, prediction=prediction))
    errors = [path_error(schedule, sampler, steps) for steps in (16, 32, 64)]
    measured = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(measured > order - 0.3), (errors, measured)
    assert np.all(measured < order + 0.6), (errors, measured)


@pytest.mark.parametrize("sampler", ["ddim", "plms", "euler", "dpm++"])
def test_many_steps_carry_every_number_to_its_exact_end(sampler):
    start = normal(0, (2, 5, 8, 8, 4))
    final = jax.jit(lambda x: sample(gaussian_denoiser(STORY), STORY, sampler, 300, x))(start)
    table, _ = solver_table(STORY, Sampler(sampler), 300)
    np.testing.assert_allclose(final, exact_end(table.alpha[0], start), atol=0.04)


@pytest.mark.parametrize("sampler", [Sampler(eta=1.0), Sampler("euler_a")])
def test_ancestral_sampling_also_reaches_the_data(sampler):
    start = normal(0, (4, 5, 16, 16, 8))
    run = jax.jit(lambda x, key: sample(gaussian_denoiser(STORY), STORY, sampler, 200, x, key))
    final = run(start, jax.random.key(1))
    assert float(final.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(final.std()) == pytest.approx(SPREAD, rel=0.05)
    assert not np.array_equal(final, run(start, jax.random.key(2)))
    np.testing.assert_array_equal(final, run(start, jax.random.key(1)))


@pytest.mark.parametrize("sampler", ["ddim", "plms", "euler", "dpm++"])
def test_zero_snr_starts_from_pure_noise_without_dividing_by_zero(sampler):
    config = dataclasses.replace(ScheduleConfig.sd21_v(), zero_snr=True, spacing="trailing")
    schedule = make_schedule(config)
    # The exact velocity at pure noise (k infinite) is minus the mean; elsewhere the Gaussian denoiser holds.
    usable = dataclasses.replace(schedule, alphas_cumprod=np.maximum(schedule.alphas_cumprod, np.float32(2**-24)))
    start = normal(0, (2, 5, 16, 16, 8))
    final = sample(gaussian_denoiser(usable), schedule, sampler, 300, start)
    np.testing.assert_allclose(final, exact_end(0.0, start), atol=0.04)


# ---- one compiled scan, dtypes ----


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpm++"])
def test_a_run_is_one_scan_with_one_network_in_it(sampler):
    calls = []

    def denoise(latents, timestep):
        calls.append(timestep.dtype)
        return latents * 0.1

    text = str(jax.make_jaxpr(lambda x: sample(denoise, STORY, sampler, 20, x))(jnp.zeros((1, 2, 4, 4, 2))))
    assert text.count("scan[") == 1
    assert "length=20" in text
    assert set(calls) == {jnp.dtype(jnp.float32)}
    assert len(calls) <= 2


def test_bfloat16_latents_keep_a_float32_state():
    """Twenty roundings of the state would cost more than the one at the end."""
    start = normal(5, (1, 5, 8, 8, 4)).astype(jnp.bfloat16)
    seen = []

    def denoise(latents, timestep):
        seen.append(latents.dtype)
        return (latents * 0.0 + 0.1).astype(latents.dtype)

    final = sample(denoise, STORY, "ddim", 20, start)
    full = sample(lambda x, t: jnp.full_like(x, jnp.bfloat16(0.1)), STORY, "ddim", 20, start.astype(jnp.float32))
    assert final.dtype == jnp.bfloat16
    assert set(seen) == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_array_equal(final, full.astype(jnp.bfloat16))


def test_sampling_can_be_differentiated():
    def loss(scale):
        return sample(lambda x, t: x * scale, STORY, "dpm++", 5, jnp.ones((1, 1, 2, 2, 1))).sum()

    step = 1e-3
    numeric = (loss(0.2 + step) - loss(0.2 - step)) / (2 * step)
    assert float(jax.grad(loss)(0.2)) == pytest.approx(float(numeric), rel=2e-2)


# ---- mistakes ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "dmp++"}, "unknown sampler 'dmp\\+\\+'; did you mean 'dpm\\+\\+'"),
        ({"name": "eular"}, "did you mean 'euler'"),
        ({"name": "heun"}, "it has: ddim, plms, euler, euler_a, dpm\\+\\+"),
        ({"eta": 1.5}, "expected eta in 0..1, got 1.5"),
        ({"name": "euler", "eta": 0.5}, "'euler' has no eta, got 0.5"),
        ({"karras": True}, "'ddim' has no Karras noise levels"),
        ({"name": "euler_a", "karras": True}, "'euler_a' has no Karras noise levels"),
    ],
)
def test_unknown_methods_and_options_are_refused(arguments, message):
    with pytest.raises(StoryjaxError, match=message):
        Sampler(**arguments)


@pytest.mark.parametrize(
    ("name", "spacing", "steps", "message"),
    [
        ("ddim", "leading", 0, "expected 1..1000 sampling steps .* got 0"),
        ("ddim", "trailing", 1001, "got 1001"),
        ("ddim", "leading", 1000, "do not fit spacing 'leading' .* take fewer steps or spacing 'trailing'"),
        ("dpm++", "leading", 1000, "do not fit"),
        ("ddim", "linspace", 1, "take more steps or spacing 'trailing'"),
    ],
)
def test_step_counts_that_do_not_fit_say_what_to_do(name, spacing, steps, message):
    schedule = make_schedule(dataclasses.replace(SD, spacing=spacing))
    with pytest.raises(StoryjaxError, match=message):
        sample(lambda x, t: x, schedule, name, steps, jnp.zeros((1, 1, 2, 2, 1)))


def test_fresh_noise_without_a_key_is_an_error():
    with pytest.raises(StoryjaxError, match="expected a key, got None"):
        sample(lambda x, t: x, STORY, Sampler(eta=1.0), 4, jnp.zeros((1, 1, 2, 2, 1)))


def test_a_network_of_another_shape_is_an_error():
    with pytest.raises(StoryjaxError, match=r"expected an output of shape \(1, 1, 2, 2, 4\), got \(1, 1, 2, 2, 1\)"):
        sample(lambda x, t: x[..., :1], STORY, "ddim", 4, jnp.zeros((1, 1, 2, 2, 4)))
