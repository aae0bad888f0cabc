"""FrameInit: begin a continuation with noise whose low frequencies come from the given first frame (ConsistI2V, section 4.3).

    z = noise to timestep tau of the first frame repeated over all frames, with the start noise eps
    start = IFFT( L * FFT(z) + (1 - L) * FFT(eps) ),       FFT over (F, H, W), L a low-pass filter

With d^2 = ((d_s/d_t)(2f/F - 1))^2 + (2h/H - 1)^2 + (2w/W - 1)^2 on the shifted grid:

    gaussian exp(-d^2 / (2 d_s^2)); ideal 1 where d^2 <= 2 d_s; butterworth 1 / (1 + (d^2/d_s^2)^n);
    box 1 within round(size//2 * d) of the centre along each axis (so empty when that rounds to 0).
"""

import dataclasses
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from storyjax.config import nearest
from storyjax.diffusion.schedule import Schedule, add_noise
from storyjax.errors import StoryjaxError

Kind = Literal["gaussian", "ideal", "box", "butterworth"]
_AXES = (1, 2, 3)


@dataclasses.dataclass(frozen=True)
class FrameInit:
    """Settings of the start; the defaults are the released ones (which leave it switched off)."""

    kind: Kind = "gaussian"
    """Shape of the low-pass filter."""
    spatial: float = 0.25
    """Cut-off d_s in H and W, as a share of the highest frequency."""
    temporal: float = 0.25
    """Cut-off d_t in F."""
    order: int = 4
    """Steepness n of butterworth."""
    timestep: int = 850
    """Training timestep tau to which the repeated first frame is noised."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise StoryjaxError(
                f"FrameInit: unknown filter '{self.kind}'{nearest(str(self.kind), list(get_args(Kind)))}"
            )
        if not (0 <= self.spatial <= 1 and 0 <= self.temporal <= 1):
            raise StoryjaxError(f"FrameInit: expected cut-offs in 0..1, got {self.spatial} and {self.temporal}")
        if self.order < 1:
            raise StoryjaxError(f"FrameInit: expected an order of at least 1, got {self.order}")


def low_pass_filter(settings: FrameInit, frames: int, height: int, width: int) -> np.ndarray:
    """The filter L on the shifted frequency grid, float32 of shape (F, H, W); all 0 when a cut-off is 0."""
    size = (frames, height, width)
    if settings.spatial == 0 or settings.temporal == 0:
        return np.zeros(size, np.float32)
    if settings.kind == "box":
        return _box(size, (settings.temporal, settings.spatial, settings.spatial))
    f, h, w = (2 * np.arange(n) / n - 1 for n in size)
    f = f * (settings.spatial / settings.temporal)
    squared = f[:, None, None] ** 2 + h[:, None] ** 2 + w**2
    if settings.kind == "gaussian":
        mask = np.exp(-squared / (2 * settings.spatial**2))
    elif settings.kind == "ideal":
        mask = squared <= 2 * settings.spatial
    else:
        mask = 1 / (1 + (squared / settings.spatial**2) ** settings.order)
    return mask.astype(np.float32)


def freq_mix_3d(low: jax.Array, high: jax.Array, mask: np.ndarray) -> jax.Array:
    """Low frequencies of `low`, the rest of `high`: both (B, F, H, W, C), mask (F, H, W); the dtype of `low`."""
    if low.ndim != 5 or low.shape != high.shape or mask.shape != low.shape[1:4]:
        raise StoryjaxError(
            f"FrameInit: expected two arrays (B, F, H, W, C) and a filter (F, H, W), got {low.shape}, {high.shape} "
            f"and {mask.shape}"
        )
    # Shifting the filter once is the same as shifting both spectra and shifting the mixture back.
    share = jnp.fft.ifftshift(jnp.asarray(mask, jnp.float32))[..., None]
    spectra = [jnp.fft.fftn(x.astype(jnp.float32), axes=_AXES) for x in (low, high)]
    mixed = spectra[0] * share + spectra[1] * (1 - share)
    return jnp.fft.ifftn(mixed, axes=_AXES).real.astype(low.dtype)


def frame_init(schedule: Schedule, settings: FrameInit, first_frame: jax.Array, noise: jax.Array) -> jax.Array:
    """Start noise (B, F, H, W, C) from the clean first-frame latents (B, 1, H, W, C) and plain start noise."""
    if not 0 <= settings.timestep < schedule.config.steps:
        raise StoryjaxError(
            f"FrameInit: expected a timestep in 0..{schedule.config.steps - 1}, got {settings.timestep}"
        )
    if first_frame.shape != (noise.shape[0], 1, *noise.shape[2:]):
        raise StoryjaxError(
            f"FrameInit: expected a first frame (B, 1, H, W, C) beside noise {noise.shape}, got {first_frame.shape}"
        )
    still = jnp.broadcast_to(first_frame, noise.shape)
    diffused = add_noise(schedule, still, noise, jnp.asarray(settings.timestep))
    return freq_mix_3d(diffused, noise, low_pass_filter(settings, *noise.shape[1:4]))


def _box(size: tuple[int, ...], cutoffs: tuple[float, ...]) -> np.ndarray:
    mask = np.zeros(size, np.float32)
    reach = [round(n // 2 * cutoff) for n, cutoff in zip(size, cutoffs)]
    mask[tuple(slice(n // 2 - r, n // 2 + r) for n, r in zip(size, reach))] = 1
    return mask
