"""FrameInit against the official filter and mixture, and the filters against their definitions."""

import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.diffusion.frame_init import FrameInit, frame_init, freq_mix_3d, low_pass_filter
from storyjax.diffusion.schedule import ScheduleConfig, add_noise, make_schedule
from storyjax.errors import StoryjaxError
from tests.diffusion import goldens
from tests.diffusion.draws import normal

STORY = make_schedule(ScheduleConfig.contextual_story())


def test_the_gaussian_filter_equals_the_official_one():
    golden = goldens.load("schedule_and_frameinit")["filter"]
    np.testing.assert_allclose(low_pass_filter(FrameInit(), 5, 32, 32), golden, rtol=1e-6, atol=1e-7)


def test_the_mixture_equals_the_official_one():
    golden = goldens.load("schedule_and_frameinit")
    low, high = (goldens.named(f"frameinit/{name}", (1, 4, 5, 32, 32)) for name in ("x", "noise"))
    low, high = jnp.asarray(goldens.channels_last(low)), jnp.asarray(goldens.channels_last(high))
    mixed = freq_mix_3d(low, high, low_pass_filter(FrameInit(), 5, 32, 32))
    np.testing.assert_allclose(mixed, goldens.channels_last(golden["mixed"]), atol=3e-6)


@pytest.mark.parametrize("kind", ["gaussian", "ideal", "butterworth", "box"])
def test_filters_equal_their_definitions_point_by_point(kind):
    settings = FrameInit(kind, spatial=0.5, temporal=0.4, order=3)
    size = (5, 8, 6)
    mask = low_pass_filter(settings, *size)
    assert mask.dtype == np.float32
    for index in np.ndindex(size):
        f, h, w = (2 * i / n - 1 for i, n in zip(index, size))
        squared = (f * 0.5 / 0.4) ** 2 + h**2 + w**2
        inside = [abs(i - n // 2 + 0.5) < round(n // 2 * d) for i, n, d in zip(index, size, (0.4, 0.5, 0.5))]
        expected = {
            "gaussian": np.exp(-squared / (2 * 0.5**2)),
            "ideal": float(squared <= 2 * 0.5),
            "butterworth": 1 / (1 + (squared / 0.5**2) ** 3),
            "box": float(all(inside)),
        }[kind]
        assert mask[index] == pytest.approx(expected, abs=1e-6), index
    assert 0 < mask.mean() < 1


@pytest.mark.parametrize("kind", ["gaussian", "ideal", "butterworth", "box"])
def test_a_cut_off_of_zero_keeps_the_noise_as_it_is(kind):
    noise = normal(0, (2, 5, 8, 8, 3))
    settings = FrameInit(kind, spatial=0.0)
    out = frame_init(STORY, settings, jnp.ones((2, 1, 8, 8, 3)), noise)
    np.testing.assert_allclose(out, noise, atol=1e-5)


def test_a_filter_of_ones_takes_everything_from_the_first_argument():
    low, high = normal(1, (2, 2, 5, 8, 6, 3))
    np.testing.assert_allclose(freq_mix_3d(low, high, np.ones((5, 8, 6), np.float32)), low, atol=1e-5)


def test_the_mixture_shifts_as_the_official_code_does_where_the_filter_is_lopsided():
    """The box reaches one frequency further down than up, and odd sizes tell the two shifts apart."""
    low, high = np.asarray(normal(4, (2, 1, 5, 7, 9, 2)))
    mask = low_pass_filter(FrameInit("box", 0.5, 0.6), 5, 7, 9)
    axes = (1, 2, 3)
    spectra = [np.fft.fftshift(np.fft.fftn(x, axes=axes), axes=axes) for x in (low, high)]
    mixed = spectra[0] * mask[..., None] + spectra[1] * (1 - mask[..., None])
    expected = np.fft.ifftn(np.fft.ifftshift(mixed, axes=axes), axes=axes).real
    np.testing.assert_allclose(freq_mix_3d(jnp.asarray(low), jnp.asarray(high), mask), expected, atol=1e-5)


def test_the_start_carries_the_mean_of_the_first_frame_and_the_detail_of_the_noise():
    noise = normal(2, (1, 6, 16, 16, 2))
    first = jnp.full((1, 1, 16, 16, 2), 3.0)
    out = frame_init(STORY, FrameInit(), first, noise)
    diffused = add_noise(STORY, jnp.broadcast_to(first, noise.shape), noise, jnp.array(850))
    # Even sizes put frequency zero exactly on the peak of the filter (1), the highest one where it is 1e-11.
    np.testing.assert_allclose(out.mean((1, 2, 3)), diffused.mean((1, 2, 3)), atol=1e-5)
    checker = (-1.0) ** np.add.outer(np.add.outer(np.arange(6), np.arange(16)), np.arange(16))[None, ..., None]
    np.testing.assert_allclose((out * checker).mean((1, 2, 3)), (noise * checker).mean((1, 2, 3)), atol=1e-5)


def test_bfloat16_latents_go_through_float32_spectra():
    low, high = normal(3, (2, 1, 5, 8, 8, 2)).astype(jnp.bfloat16)
    mask = low_pass_filter(FrameInit(), 5, 8, 8)
    out = freq_mix_3d(low, high, mask)
    exact = freq_mix_3d(low.astype(jnp.float32), high.astype(jnp.float32), mask)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "gausian"}, "unknown filter 'gausian'; did you mean 'gaussian'"),
        ({"spatial": 1.5}, "cut-offs in 0..1, got 1.5 and 0.25"),
        ({"order": 0}, "order of at least 1, got 0"),
    ],
)
def test_impossible_filters_are_refused(arguments, message):
    with pytest.raises(StoryjaxError, match=message):
        FrameInit(**arguments)


def test_arrays_that_do_not_belong_together_are_refused():
    noise = jnp.zeros((2, 5, 8, 8, 3))
    with pytest.raises(StoryjaxError, match=r"expected a first frame \(B, 1, H, W, C\)"):
        frame_init(STORY, FrameInit(), jnp.zeros((2, 8, 8, 3)), noise)
    with pytest.raises(StoryjaxError, match=r"expected a timestep in 0\.\.999, got 1000"):
        frame_init(STORY, FrameInit(timestep=1000), jnp.zeros((2, 1, 8, 8, 3)), noise)
    with pytest.raises(StoryjaxError, match=r"a filter \(F, H, W\)"):
        freq_mix_3d(noise, noise, np.ones((5, 8, 6), np.float32))
