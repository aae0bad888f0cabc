"""Noise schedules: the table abar_t and the algebra between clean latents, noise and what a network predicts.

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps,       abar_t = prod_{s <= t} (1 - beta_s)
    v_t = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0        (Salimans & Ho 2022, appendix D)

Sources: Ho et al. 2020 (linear), Rombach et al. 2022 (scaled_linear), Nichol & Dhariwal 2021 eq. 17 (cosine), Lin et al.
2024 "Common diffusion noise schedules and sample steps are flawed", algorithm 1 (zero terminal SNR).
"""

import dataclasses
import functools
import math
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from storyjax.config import nearest
from storyjax.errors import StoryjaxError

Kind = Literal["linear", "scaled_linear", "cosine"]
Prediction = Literal["epsilon", "v"]
Spacing = Literal["leading", "trailing", "linspace", "default"]


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """The settings of a schedule; hashable, so it may be a static argument of a jitted function."""

    steps: int = 1000
    """Number of training timesteps T; timesteps run from 0 (almost clean) to T - 1 (almost noise)."""
    beta_start: float = 0.00085
    """Variance added by the first timestep (linear and scaled_linear)."""
    beta_end: float = 0.012
    """Variance added by the last timestep (linear and scaled_linear)."""
    kind: Kind = "scaled_linear"
    """How beta runs: straight, straight in its square root, or such that sqrt(abar) follows a cosine (beta at most 0.999)."""
    prediction: Prediction = "epsilon"
    """What the network predicts: the noise or the velocity v."""
    zero_snr: bool = False
    """Shift and scale sqrt(abar) so that the last timestep is pure noise; needs prediction 'v'."""
    spacing: Spacing = "leading"
    """How a sampler chooses its timesteps (Lin et al. 2024, table 2); "default": as is usual for the sampler."""
    steps_offset: int = 1
    """Added to every timestep under spacing 'leading'."""
    set_alpha_to_one: bool = False
    """DDIM's last step goes to abar = 1 (True) or to abar_0 (False)."""

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, Kind)
        _check_choice("prediction", self.prediction, Prediction)
        _check_choice("spacing", self.spacing, Spacing)
        if self.steps < 2:
            raise StoryjaxError(f"schedule: expected at least 2 training steps, got {self.steps}; 1000 is usual")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise StoryjaxError(
                f"schedule: expected 0 < beta_start <= beta_end < 1, got {self.beta_start} and {self.beta_end}"
            )
        if not 0 <= self.steps_offset < self.steps:
            raise StoryjaxError(f"schedule: expected steps_offset in 0..{self.steps - 1}, got {self.steps_offset}")
        if self.zero_snr and self.prediction != "v":
            raise StoryjaxError(
                "schedule: zero_snr needs prediction 'v', got 'epsilon' (pure noise does not determine x_0); "
                "set prediction='v' or zero_snr=False"
            )

    @classmethod
    def contextual_story(cls) -> "ScheduleConfig":
        """ContextualStory as released: linear betas (SD itself uses scaled_linear), last abar 1."""
        return cls(kind="linear", set_alpha_to_one=True)

    @classmethod
    def sd15(cls) -> "ScheduleConfig":
        """Stable Diffusion 1.4, 1.5 and the 1.5 inpainting model (released with PLMS)."""
        return cls(spacing="default")

    @classmethod
    def sd21_base(cls) -> "ScheduleConfig":
        """Stable Diffusion 2.1-base (512 pixels, epsilon; released with PLMS)."""
        return cls(spacing="default")

    @classmethod
    def sd21_v(cls) -> "ScheduleConfig":
        """Stable Diffusion 2.1 (768 pixels, v-prediction; released with DDIM)."""
        return cls(prediction="v", spacing="default")

    @classmethod
    def sdxl(cls) -> "ScheduleConfig":
        """Stable Diffusion XL base 1.0 (released with the Euler sampler)."""
        return cls()


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Settings and table. Equality and hash follow the settings alone: the table is a function of them."""

    config: ScheduleConfig
    alphas_cumprod: np.ndarray = dataclasses.field(compare=False, repr=False)
    """abar_t, float32, shape (T,), falling with t."""


@functools.lru_cache(maxsize=32)
def make_schedule(config: ScheduleConfig) -> Schedule:
    """The schedule of `config`. The table equals the official PyTorch code's to the last bit."""
    betas = _betas(config)
    if config.zero_snr:
        betas = _rescale_zero_terminal_snr(betas)
    table = _cumprod(np.float32(1) - betas)
    table.setflags(write=False)
    return Schedule(config, table)


def add_noise(schedule: Schedule, x0: jax.Array, noise: jax.Array, timesteps: jax.Array) -> jax.Array:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, computed in float32, in the dtype of `x0`.

    x0, noise: (B, ...), in practice (B, F, H, W, C); timesteps: integers, scalar or (B,), one per story.
    """
    alpha, sigma = _alpha_sigma(schedule, timesteps, x0.ndim)
    return (alpha * _f32(x0) + sigma * _f32(noise)).astype(x0.dtype)


def velocity(schedule: Schedule, x0: jax.Array, noise: jax.Array, timesteps: jax.Array) -> jax.Array:
    """v_t = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0; shapes as in `add_noise`."""
    alpha, sigma = _alpha_sigma(schedule, timesteps, x0.ndim)
    return (alpha * _f32(noise) - sigma * _f32(x0)).astype(x0.dtype)


def training_target(schedule: Schedule, x0: jax.Array, noise: jax.Array, timesteps: jax.Array) -> jax.Array:
    """What the network has to predict under the schedule's prediction type; shapes as in `add_noise`."""
    return noise if schedule.config.prediction == "epsilon" else velocity(schedule, x0, noise, timesteps)


def to_x0(schedule: Schedule, output: jax.Array, latents: jax.Array, timesteps: jax.Array) -> jax.Array:
    """Clean latents implied by a network output: (x - sigma e) / alpha, or alpha x - sigma v. All (B, ...)."""
    alpha, sigma = _alpha_sigma(schedule, timesteps, latents.ndim)
    x, out = _f32(latents), _f32(output)
    x0 = (x - sigma * out) / alpha if schedule.config.prediction == "epsilon" else alpha * x - sigma * out
    return x0.astype(latents.dtype)


def to_epsilon(schedule: Schedule, output: jax.Array, latents: jax.Array, timesteps: jax.Array) -> jax.Array:
    """Noise implied by a network output: the output itself, or alpha v + sigma x. All (B, ...)."""
    if schedule.config.prediction == "epsilon":
        return output
    alpha, sigma = _alpha_sigma(schedule, timesteps, latents.ndim)
    return (alpha * _f32(output) + sigma * _f32(latents)).astype(latents.dtype)


def snr(schedule: Schedule, timesteps: jax.Array) -> jax.Array:
    """Signal-to-noise ratio abar_t / (1 - abar_t), float32, the shape of `timesteps`."""
    alpha, sigma = _alpha_sigma(schedule, timesteps, 0)
    return (alpha / sigma) ** 2


def _alpha_sigma(schedule: Schedule, timesteps: jax.Array, ndim: int) -> tuple[jax.Array, jax.Array]:
    timesteps = jnp.asarray(timesteps)
    abar = jnp.asarray(schedule.alphas_cumprod)[timesteps]
    abar = abar.reshape(abar.shape + (1,) * max(0, ndim - abar.ndim))
    return jnp.sqrt(abar), jnp.sqrt(1 - abar)


def _f32(x: jax.Array) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


def _check_choice(field: str, value: str, literal: Any) -> None:
    if value not in get_args(literal):
        raise StoryjaxError(f"schedule: unknown {field} '{value}'{nearest(str(value), list(get_args(literal)))}")


def _betas(config: ScheduleConfig) -> np.ndarray:
    if config.kind == "linear":
        return _linspace(config.beta_start, config.beta_end, config.steps)
    if config.kind == "scaled_linear":
        return _linspace(config.beta_start**0.5, config.beta_end**0.5, config.steps) ** 2

    def abar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    pairs = [(i / config.steps, (i + 1) / config.steps) for i in range(config.steps)]
    return np.array([min(1 - abar(end) / abar(start), 0.999) for start, end in pairs], np.float32)


def _linspace(start: float, end: float, count: int) -> np.ndarray:
    """torch.linspace in float32: a rounded step, counted from both ends, multiply and add rounded once."""
    first, last = np.float32(start), np.float32(end)
    step = np.float64(np.float32((last - first) / np.float32(count - 1)))
    index = np.arange(count)
    return np.where(index < count // 2, first + step * index, last - step * (count - 1 - index)).astype(np.float32)


def _cumprod(alphas: np.ndarray) -> np.ndarray:
    """torch.cumprod of float32 on a CPU: accumulated in float64, each product stored as float32."""
    return np.cumprod(alphas.astype(np.float64)).astype(np.float32)


def _rescale_zero_terminal_snr(betas: np.ndarray) -> np.ndarray:
    root = np.sqrt(_cumprod(np.float32(1) - betas))
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    abar = root**2
    return np.float32(1) - np.concatenate([abar[:1], abar[1:] / abar[:-1]])
