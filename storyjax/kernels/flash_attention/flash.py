"""Our own kernel for a TPU (`tpu`, `tpu_backward`): any length of keys, any head width, and cut by a mesh like any operation."""

import jax
import jax.numpy as jnp

from storyjax.kernels.backends import platform


def refusal(q: jax.Array, k: jax.Array, mask: jax.Array | None) -> str | None:
    """Why it cannot run; None if it can."""
    if platform() != "tpu":
        return f"needs a TPU, this is '{platform()}'"
    if mask is not None:
        return "takes no mask"
    if q.ndim != 4 or q.dtype not in (jnp.bfloat16, jnp.float32):
        return f"needs bfloat16 or float32 of shape (B, L, N, D), got {q.dtype} {q.shape}"
    return None


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None, scale: float) -> jax.Array:
    from storyjax.kernels.flash_attention.tpu import flash_attention

    return flash_attention(q, k, v, scale)
