"""SETA as the paper draws it: all nine copies of the keys and values are collected, then attended to under a mask.

Plain, and the measure of the other forms; its memory is nine times theirs.
"""

import jax
import jax.numpy as jnp


def story_attention(q: jax.Array, k: jax.Array, v: jax.Array, scale: float) -> jax.Array:
    """(B, F, H, W, N, D) each -> the same; see `api.story_attention`."""
    frames = q.shape[1]
    q = jnp.moveaxis(q, (1, 4), (4, 3))  # (B, H, W, N, F, D)
    k, v = (keys_of_each_pixel(x) for x in (k, v))  # (B, H, W, N, 9 F, D)
    scores = jnp.matmul(q, jnp.swapaxes(k, -1, -2), preferred_element_type=jnp.float32) * scale
    scores = jnp.where(visible_keys(frames), scores, jnp.finfo(jnp.float32).min)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1, keepdims=True)
    out = jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=jnp.float32) / total
    return jnp.moveaxis(out.astype(v.dtype), (4, 3), (1, 4))


def keys_of_each_pixel(x: jax.Array) -> jax.Array:
    """(B, F, H, W, N, D) -> (B, H, W, N, 9 F, D), keys frame by frame, each frame's window row by row."""
    window = jnp.moveaxis(neighbourhood(x), (1, 2), (4, 5))  # (B, H, W, N, F, 9, D)
    return window.reshape(*window.shape[:4], -1, window.shape[-1])


def neighbourhood(z: jax.Array) -> jax.Array:
    """(B, F, H, W, ...) -> (B, F, 9, H, W, ...): the 3x3 window of every pixel, row by row, edges replicated."""
    height, width = z.shape[2:4]
    edges = [(1, 1) if axis in (2, 3) else (0, 0) for axis in range(z.ndim)]
    padded = jnp.pad(z, edges, mode="edge")
    return jnp.stack([padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=2)


def visible_keys(frames: int) -> jax.Array:
    """(F, 9 F) booleans: the centre of every frame's window, and the neighbours of every other frame's."""
    own = jnp.eye(frames, dtype=bool)[:, :, None]
    centre = (jnp.arange(9) == 4)[None, None, :]
    return (centre | ~own).reshape(frames, 9 * frames)
