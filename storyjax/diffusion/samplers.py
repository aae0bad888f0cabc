"""Samplers: one scan body, one table of coefficients per step and method.

With m_i, the clean latents implied by the network at step i (PLMS: its output as it is), every method here is one linear step

    x_{i+1} = c_x x_i + c_now m_i + sum_j c_before_j m_{i-j} + c_noise z_i,       m_i = p_x x_i + p_out network(x_i, t_i)

in variance-preserving space (x = alpha x_0 + sigma eps, alpha^2 + sigma^2 = 1), so a method is its table, computed once on
the host in float64 and kept in float32, and a whole run is one `lax.scan`. With k = sigma/alpha and primes for "after":

    DDIM         (Song et al. 2021, eq. 12 and 16): c_x = d/sigma, c_now = alpha' - d alpha/sigma, c_noise = s,
                 s = eta sqrt((1-abar')/(1-abar)) sqrt(1 - abar/abar'), d = sqrt(1 - abar' - s^2)
    PLMS         (Liu et al. 2022, eq. 12, started as by Crowson): DDIM's step with e_i, the mean of two, or the Adams-Bashforth sum
                 of up to four outputs; the second timestep is computed twice, so n steps ask the network n + 1 times
    Euler        (Karras et al. 2022, algorithm 1 without churn): c_x = sigma'/sigma, c_now = alpha' (1 - k'/k)
    Euler a      (ancestral): the same down to k_d = k'^2/k, then fresh noise: c_x = alpha'/alpha k_d/k,
                 c_now = alpha' (1 - k_d/k), c_noise = alpha' k' sqrt(1 - k'^2/k^2)
    DPM-Solver++ (2M) (Lu et al. 2022, algorithm 2, midpoint): Euler's c_x; with h = log(k/k') and the step before it h_0,
                 c_now = alpha' (1 - k'/k) (1 + h/(2 h_0)), c_before = -alpha' (1 - k'/k) h/(2 h_0); first and last step of order 1

Timesteps and start scale follow diffusers' DDIMScheduler, PNDMScheduler, Euler(Ancestral)DiscreteScheduler and
DPMSolverMultistepScheduler. Differences: Euler's latents there are ours times sqrt(k^2 + 1), since ours are always what the network
sees; DDIM and PNDM there step to t - T//n, here to the next timestep of the list (the same under 'leading' with n <= T/2, and under
'trailing' when n divides T).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args, overload

import jax
import jax.numpy as jnp
import numpy as np

from storyjax.config import nearest
from storyjax.diffusion.schedule import Schedule, Spacing
from storyjax.errors import StoryjaxError

Name = Literal["ddim", "plms", "euler", "euler_a", "dpm++"]
Denoise = Callable[[jax.Array, jax.Array], jax.Array]

# Euler and DPM-Solver++ divide by alpha: under zero terminal SNR the last abar is this instead of 0, as in diffusers.
_SMALLEST_ABAR = 2.0**-24


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A sampling method and its options."""

    name: Name = "ddim"
    """ddim, plms (fourth-order multistep), euler, euler_a (ancestral) or dpm++ (second-order multistep)."""
    eta: float = 0.0
    """DDIM's share of fresh noise: 0 deterministic, 1 ancestral (DDPM)."""
    karras: bool = False
    """Noise levels of Karras et al. 2022, eq. 5 (rho 7); euler and dpm++."""

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise StoryjaxError(f"unknown sampler '{self.name}'{nearest(str(self.name), list(get_args(Name)))}")
        if not 0 <= self.eta <= 1:
            raise StoryjaxError(f"sampler: expected eta in 0..1, got {self.eta}")
        if self.eta and self.name != "ddim":
            raise StoryjaxError(f"sampler '{self.name}' has no eta, got {self.eta}; use ddim or eta 0")
        if self.karras and self.name not in ("euler", "dpm++"):
            raise StoryjaxError(
                f"sampler '{self.name}' has no Karras noise levels; use euler or dpm++, or karras=False"
            )

    @property
    def noisy(self) -> bool:
        """Whether it adds fresh noise on the way, and so needs a key."""
        return self.name == "euler_a" or self.eta > 0


class Table(NamedTuple):
    """One row per call of the network, float32 arrays of shape (rows,): numpy from `solver_table`, jax scalars inside the scan.

    `c_before` is (rows, H), newest first; H, how many earlier m a method looks back on, may be 0.
    """

    timestep: Any
    alpha: Any
    sigma: Any
    p_x: Any
    p_out: Any
    c_x: Any
    c_now: Any
    c_before: Any
    c_noise: Any


@overload
def sample(
    denoise: Denoise,
    schedule: Schedule,
    sampler: Sampler | str,
    steps: int,
    latents: jax.Array,
    key: jax.Array | None = None,
    *,
    trajectory: Literal[False] = False,
) -> jax.Array: ...


@overload
def sample(
    denoise: Denoise,
    schedule: Schedule,
    sampler: Sampler | str,
    steps: int,
    latents: jax.Array,
    key: jax.Array | None = None,
    *,
    trajectory: Literal[True],
) -> tuple[jax.Array, jax.Array]: ...


def sample(
    denoise: Denoise,
    schedule: Schedule,
    sampler: Sampler | str,
    steps: int,
    latents: jax.Array,
    key: jax.Array | None = None,
    *,
    trajectory: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Run a whole sampling as one scan; traceable, with everything but `latents` and `key` static.

    denoise: (latents, timestep) -> network output of the same shape, already guided; the timestep is a float32 scalar
        (whole numbers, except for the Euler methods under 'linspace' or Karras levels).
    latents: start noise of unit variance, any shape, in practice (B, F, H, W, C); scaled here where a method wants that.
        The state is float32; the network is given, and the caller gets back, the dtype of `latents`.
    key: needed where the sampler is `noisy`; one for the whole batch, or (B,) of them, one per row, so that a row's noise
        does not depend on what else is in the batch.
    Returns the final latents; with `trajectory` also (rows + 1, ...): the latents before each call of the network and after
        the last.
    """
    sampler = Sampler(sampler) if isinstance(sampler, str) else sampler  # type: ignore[arg-type]
    table, start_scale = solver_table(schedule, sampler, steps)
    if sampler.noisy and key is None:
        raise StoryjaxError(
            f"sampler '{sampler.name}' with eta {sampler.eta} draws noise: expected a key, got None; pass key="
        )
    dtype, looks_back = latents.dtype, table.c_before.shape[1]

    def step(carry: tuple[jax.Array, tuple[jax.Array, ...]], row: tuple[Table, jax.Array]):
        x, before = carry
        c, index = row
        output = denoise(x.astype(dtype), c.timestep)
        if output.shape != x.shape:
            raise StoryjaxError(f"denoise: expected an output of shape {x.shape}, got {output.shape}")
        now = c.p_x * x + c.p_out * output.astype(jnp.float32)
        after = c.c_x * x + c.c_now * now
        for j, earlier in enumerate(before):
            after += c.c_before[j] * earlier
        if key is not None and sampler.noisy:
            after += c.c_noise * _fresh_noise(key, index, x.shape)
        return (after, (now, *before)[:looks_back]), x.astype(dtype) if trajectory else None

    start = latents.astype(jnp.float32) * start_scale
    rows = (Table(*(jnp.asarray(column) for column in table)), jnp.arange(len(table.timestep)))
    (final, _), path = jax.lax.scan(step, (start, (jnp.zeros_like(start),) * looks_back), rows)
    final = final.astype(dtype)
    return final if path is None else (final, jnp.concatenate([path, final[None]]))


def _fresh_noise(key: jax.Array, index: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal noise of step `index`: from one key for everything, or row by row from (B,) keys."""
    if not (jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim):
        return jax.random.normal(jax.random.fold_in(key, index), shape, jnp.float32)
    if key.shape != shape[:1]:
        raise StoryjaxError(f"sampler: expected one key or {shape[0]}, one per row, got {key.shape}")
    return jax.vmap(lambda row: jax.random.normal(jax.random.fold_in(row, index), shape[1:], jnp.float32))(key)


def solver_table(schedule: Schedule, sampler: Sampler, steps: int) -> tuple[Table, float]:
    """The coefficients of a run of `steps` steps and the factor on its start noise. Errors: steps that do not fit."""
    if sampler.name in ("ddim", "plms"):
        timesteps, scale = inference_timesteps(schedule, sampler, steps), 1.0
        final = 1.0 if schedule.config.set_alpha_to_one else schedule.alphas_cumprod[0]
        abar = np.append(schedule.alphas_cumprod[timesteps.astype(np.int64)], final).astype(np.float64)
        alpha, sigma = np.sqrt(abar), np.sqrt(1 - abar)
        coefficients = _ddim(abar, sampler.eta)
    else:
        timesteps, levels = _noise_levels(schedule, sampler, steps)
        alpha = 1 / np.sqrt(levels**2 + 1)
        sigma = levels * alpha
        coefficients = (
            _euler_a(levels, alpha) if sampler.name == "euler_a" else _exponential(levels, alpha, sigma, sampler)
        )
        exact = sampler.name != "dpm++" and spacing_of(schedule, sampler) != "leading"
        scale = float(sigma[0]) if exact else 1.0
    if sampler.name == "plms":
        columns = _plms(timesteps, alpha, sigma, schedule.config.prediction)
    else:
        alpha, sigma = alpha[:-1], sigma[:-1]
        inverse = (1 / alpha, -sigma / alpha) if schedule.config.prediction == "epsilon" else (alpha, -sigma)
        columns = (timesteps, alpha, sigma, *inverse, *coefficients)
    return Table(*(np.asarray(column, np.float32) for column in columns)), scale


def spacing_of(schedule: Schedule, sampler: Sampler) -> Spacing:
    """The schedule's spacing, or where it leaves that open what the sampler's class in diffusers does by default."""
    if schedule.config.spacing != "default":
        return schedule.config.spacing
    return "leading" if sampler.name in ("ddim", "plms") else "linspace"


def inference_timesteps(schedule: Schedule, sampler: Sampler, steps: int) -> np.ndarray:
    """The timesteps of a run, falling, float64 of shape (steps,) (Lin et al. 2024, table 2; diffusers' rounding).

    PLMS asks the network twice at the second of them.
    """
    total, spacing = schedule.config.steps, spacing_of(schedule, sampler)
    if not 1 <= steps <= total:
        raise StoryjaxError(f"expected 1..{total} sampling steps (the schedule's training steps), got {steps}")
    # DPM-Solver++ lays one point more and leaves the cleanest out.
    points = steps + 1 if sampler.name == "dpm++" else steps
    if spacing == "trailing":
        times = np.round(total - total / steps * np.arange(steps)) - 1
    elif spacing == "leading":
        times = np.arange(points)[::-1][:steps] * float(total // points) + schedule.config.steps_offset
    else:
        times = np.linspace(0, total - 1, points)[::-1][:steps]
        times = times if sampler.name in ("euler", "euler_a") else np.round(times)
    if times[0] > total - 1 or np.any(np.diff(times) >= 0) or (spacing == "linspace" and times[0] == 0):
        raise StoryjaxError(
            f"{steps} steps of '{sampler.name}' do not fit spacing '{spacing}' (offset {schedule.config.steps_offset}) over "
            f"{total} training steps; take {'more' if times[0] == 0 else 'fewer'} steps or spacing 'trailing'"
        )
    return times


def _noise_levels(schedule: Schedule, sampler: Sampler, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Timesteps (steps,) and k = sigma/alpha (steps + 1,), the last 0."""
    abar = schedule.alphas_cumprod.astype(np.float64)
    if schedule.config.zero_snr:
        abar[-1] = _SMALLEST_ABAR
    known = np.sqrt((1 - abar) / abar)
    timesteps = inference_timesteps(schedule, sampler, steps)
    levels = np.interp(timesteps, np.arange(len(known)), known)
    if sampler.karras:
        # diffusers spans the chosen timesteps under Euler and the whole table under DPM-Solver++.
        largest, smallest = (levels[0], levels[-1]) if sampler.name == "euler" else (known[-1], known[0])
        ramp = np.linspace(0, 1, steps)
        levels = (largest ** (1 / 7) + ramp * (smallest ** (1 / 7) - largest ** (1 / 7))) ** 7
        timesteps = np.interp(np.log(levels), np.log(known), np.arange(len(known)))
        timesteps = timesteps if sampler.name == "euler" else np.round(timesteps)
    return timesteps, np.append(levels, 0.0)


def _ddim(abar: np.ndarray, eta: float) -> tuple[np.ndarray, ...]:
    now, after = abar[:-1], abar[1:]
    fresh = eta * np.sqrt((1 - after) / (1 - now) * (1 - now / after))
    direction = np.sqrt(np.maximum(1 - after - fresh**2, 0)) / np.sqrt(1 - now)
    return direction, np.sqrt(after) - direction * np.sqrt(now), np.zeros((len(now), 0)), fresh


def _euler_a(levels: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, ...]:
    share = (levels[1:] / levels[:-1]) ** 2
    fresh = alpha[1:] * levels[1:] * np.sqrt(1 - share)
    return alpha[1:] / alpha[:-1] * share, alpha[1:] * (1 - share), np.zeros((len(share), 0)), fresh


def _exponential(levels: np.ndarray, alpha: np.ndarray, sigma: np.ndarray, sampler: Sampler) -> tuple[np.ndarray, ...]:
    """x' = sigma'/sigma x + alpha' (1 - k'/k) D, D = m (order 1) or m + h/(2 h_0) (m - m_before) (order 2)."""
    weight, second_order = alpha[1:] * (1 - levels[1:] / levels[:-1]), sampler.name == "dpm++"
    extrapolation = np.zeros_like(weight)
    if second_order and len(weight) > 2:
        step = np.log(levels[:-2] / levels[1:-1])  # every step but the last, which is infinitely long
        extrapolation[1:-1] = step[1:] / (2 * step[:-1])
    before = -(weight * extrapolation)[:, None][:, :second_order]
    return sigma[1:] / sigma[:-1], weight * (1 + extrapolation), before, np.zeros_like(weight)


# Adams-Bashforth weights of one to four outputs, newest first.
_ADAMS_BASHFORTH = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def _plms(timesteps: np.ndarray, alpha: np.ndarray, sigma: np.ndarray, prediction: str) -> tuple[np.ndarray, ...]:
    """Whole rows of the table, one more than timesteps (if there are two): x' = a x + b (weighted outputs), DDIM's a and b.

    Row 1 repeats the first step from where it began, x_0, with the mean of both outputs: a x_0 + b (e_0 + e_1)/2, which is
    x_1 + b (e_1 - e_0)/2. Its output is not looked back on later.
    """
    if prediction == "epsilon":
        a, b = alpha[1:] / alpha[:-1], sigma[1:] - alpha[1:] / alpha[:-1] * sigma[:-1]
    else:
        a = alpha[1:] * alpha[:-1] + sigma[1:] * sigma[:-1]
        b = sigma[1:] * alpha[:-1] - alpha[1:] * sigma[:-1]
    place = [0] if len(a) == 1 else [0, 1, *range(1, len(a))]  # of each row in the list of timesteps
    c_x, c_now, c_before = a[place], np.zeros(len(place)), np.zeros((len(place), 4))
    kept: list[int] = []
    for row, at in enumerate(place):
        if row == 1:
            c_x[row], c_now[row], c_before[row, 0] = 1.0, b[0] / 2, -b[0] / 2
            continue
        weights = _ADAMS_BASHFORTH[min(len(kept), 3)]
        c_now[row] = b[at] * weights[0]
        for weight, earlier in zip(weights[1:], reversed(kept)):
            c_before[row, row - earlier - 1] = b[at] * weight
        kept.append(row)
    zero, one = np.zeros(len(place)), np.ones(len(place))
    return timesteps[place], alpha[place], sigma[place], zero, one, c_x, c_now, c_before, zero
