"""Training loss: mean squared error per story, weighted by min-SNR (Hang et al. 2023, section 3.4).

w_t = min(SNR_t, gamma) / SNR_t          epsilon prediction
w_t = min(SNR_t, gamma) / (SNR_t + 1)    v prediction
loss = mean_b w_{t_b} mean_{F,H,W,C} (prediction - target)^2
"""

import jax
import jax.numpy as jnp

from storyjax.diffusion.schedule import Schedule, snr
from storyjax.errors import StoryjaxError


def min_snr_weights(schedule: Schedule, timesteps: jax.Array, gamma: float | None = 5.0) -> jax.Array:
    """Weight of each timestep, float32, the shape of `timesteps`; ones for gamma None."""
    if gamma is None:
        return jnp.ones(jnp.shape(timesteps), jnp.float32)
    if gamma <= 0:
        raise StoryjaxError(f"min-SNR: expected gamma above 0 (5 is usual) or None for no weighting, got {gamma}")
    ratio = snr(schedule, timesteps)
    clipped = jnp.minimum(ratio, gamma)
    return clipped / ratio if schedule.config.prediction == "epsilon" else clipped / (ratio + 1)


def story_mse(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared error of each story over all its frames, pixels and channels: (B, ...) -> (B,), float32."""
    if prediction.shape != target.shape:
        raise StoryjaxError(f"loss: expected a prediction of shape {target.shape}, got {prediction.shape}")
    error = prediction.astype(jnp.float32) - target.astype(jnp.float32)
    return jnp.mean(error**2, axis=tuple(range(1, error.ndim)))


def diffusion_loss(
    schedule: Schedule, prediction: jax.Array, target: jax.Array, timesteps: jax.Array, gamma: float | None = 5.0
) -> tuple[jax.Array, jax.Array]:
    """Weighted loss () and the unweighted error of each story (B,). prediction, target: (B, ...); timesteps: (B,)."""
    per_story = story_mse(prediction, target)
    return jnp.mean(min_snr_weights(schedule, timesteps, gamma) * per_story), per_story
