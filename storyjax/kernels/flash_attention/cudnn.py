"""cuDNN's fused attention, through JAX. It takes any length of keys, and says how a mesh may cut it."""

import jax
import jax.numpy as jnp

from storyjax.kernels.backends import platform


def refusal(q: jax.Array, k: jax.Array, mask: jax.Array | None) -> str | None:
    """Why it cannot run; None if it can."""
    if platform() != "gpu":
        return f"needs an NVIDIA GPU, this is '{platform()}'"
    if q.ndim != 4 or q.dtype not in (jnp.bfloat16, jnp.float16):
        return f"needs bfloat16 or float16 of shape (B, L, N, D), got {q.dtype} {q.shape}"
    if q.shape[-1] % 8 or q.shape[-1] > 256:
        return f"needs heads of a multiple of 8 and at most 256 channels, got {q.shape[-1]}"
    return None


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None, scale: float) -> jax.Array:
    if mask is not None:
        mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    return jax.nn.dot_product_attention(q, k, v, mask=mask, scale=scale, implementation="cudnn")
