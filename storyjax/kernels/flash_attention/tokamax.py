"""tokamax's attention, where that library is installed; which kernel and which tiles, it decides itself."""

import importlib.util

import jax

from storyjax.kernels.backends import platform


def refusal(q: jax.Array, k: jax.Array, mask: jax.Array | None) -> str | None:
    """Why it cannot run; None if it can."""
    if importlib.util.find_spec("tokamax") is None:
        return "needs the package tokamax, which is not installed"
    if platform() == "cpu":
        return "needs a GPU or a TPU, this is 'cpu'"
    if mask is not None:
        return "takes no mask here"
    return None if q.ndim == 4 else f"needs shapes (B, L, N, D), got {q.shape}"


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None, scale: float) -> jax.Array:
    tokamax = importlib.import_module("tokamax")
    return tokamax.dot_product_attention(q, k, v, scale=scale)
