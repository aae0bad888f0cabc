"""The entry of fused attention: which kernel a platform has for a shape, and the one that was named or nothing."""

import jax

from storyjax.errors import StoryjaxError
from storyjax.kernels.backends import known, platform, refuse
from storyjax.kernels.flash_attention import cudnn, flash, reference, splash, tokamax

BACKENDS = {"cudnn": cudnn, "splash": splash, "tokamax": tokamax, "flash": flash}
IMPLEMENTATIONS = (*BACKENDS, "reference")
LONG = 1024  # queries from which a TPU takes a fused kernel; fewer make scores that fit on the chip anyway


def flash_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    mask: jax.Array | None = None,
    scale: float | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """softmax(q k^T scale) v of (B, L, N, D), (B, M, N, D) twice -> (B, L, N, D); softmax in float32.

    mask: boolean, broadcastable to (B, N, L, M), True where a query may look; "cudnn" alone takes one. scale: default D ** -0.5.
    implementation: "cudnn" (NVIDIA), "splash" (TPU, from JAX), "tokamax" (if installed), "flash" (TPU, ours), "reference" (all
    scores in memory). None chooses and falls back to "reference". Raises StoryjaxError for other shapes, and for a named
    implementation that cannot run here: with what it needs, what is there, and what would run.
    """
    if q.ndim != 4 or k.shape != v.shape or k.ndim != 4 or (q.shape[0], *q.shape[2:]) != (k.shape[0], *k.shape[2:]):
        shapes = ", ".join(str(x.shape) for x in (q, k, v))
        raise StoryjaxError(f"flash_attention takes q (B, L, N, D), k and v (B, M, N, D), got {shapes}")
    factor: float = q.shape[-1] ** -0.5 if scale is None else scale
    if implementation:
        must_run(implementation, q, k, mask)
    chosen = implementation or choose(q, k, mask) or "reference"
    if chosen == "reference":
        return reference.flash_attention(q, k, v, factor, mask)
    return BACKENDS[chosen].attend(q, k, v, mask, factor)


def choose(q: jax.Array, k: jax.Array, mask: jax.Array | None = None) -> str | None:
    """The fused kernel that this platform does best with; None where plain products are better.

    On a TPU the library kernels come first, and ours for what they refuse: keys that are no multiple of 128 (text of 77
    tokens), and more than one device, since ours alone says how a mesh may cut it.
    """
    here = platform()
    if here == "gpu":
        return "cudnn" if mask is None and cudnn.refusal(q, k, mask) is None and q.shape[-1] <= 128 else None
    if here != "tpu" or q.ndim != 4 or q.shape[1] < LONG:
        return None
    libraries = ("tokamax", "splash") if jax.device_count() == 1 else ()
    return next((name for name in (*libraries, "flash") if BACKENDS[name].refusal(q, k, mask) is None), None)


def must_run(
    asked: str, q: jax.Array, k: jax.Array, mask: jax.Array | None, operation: str = "flash_attention"
) -> None:
    """Raises StoryjaxError if the implementation of that name cannot take these arrays here."""
    if known(operation, asked, IMPLEMENTATIONS) == "reference":
        return
    because = BACKENDS[asked].refusal(q, k, mask)
    if because:
        plain = "reference" if operation == "flash_attention" else "xla"
        raise refuse(operation, asked, because, choose(q, k, mask) or plain)
