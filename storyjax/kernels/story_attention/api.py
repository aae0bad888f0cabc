"""The entry of spatially-enhanced temporal attention: chooses the backend for the platform, or takes the named one."""

import math

import jax

from storyjax.errors import StoryjaxError
from storyjax.kernels.backends import known, platform, refuse
from storyjax.kernels.story_attention import reference, ring, xla
from storyjax.kernels.story_attention.tiling import refusal

IMPLEMENTATIONS = ("xla", "tpu", "ring", "gathered")


def story_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, *, scale: float | None = None, implementation: str | None = None
) -> jax.Array:
    """The query of frame t at pixel p sees the keys of p in every frame, and for every other frame the 8 neighbours of p.

        out_tp = sum_s sum_u w_tpsu v_u(p+s),  w = softmax over all visible (s, u) of scale q_tp . k_u(p+s)

    s runs over the 3x3 window (edges of the picture replicated), u over the frames; with s other than the centre, u = t is
    hidden: 9 F - 8 of 9 F keys are seen (ContextualStory, AAAI 2025, section on SETA; positions are in q and k already).

    q, k, v (B, F, H, W, N, D) of one dtype -> the same shape and dtype. scale: default D ** -0.5.
    implementation: "xla" (nine shifted products, any platform), "tpu" (Pallas), "ring" (frames divided over a mesh),
    "gathered" (nine copies of the keys: the reference). None chooses. Scores and softmax are float32. Raises StoryjaxError for
    other shapes and for a named implementation that cannot run here.
    """
    _check(q, k, v)
    factor: float = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if implementation:
        _can_run(known("story_attention", implementation, IMPLEMENTATIONS), q)
    chosen = implementation or choose(q, platform())
    if chosen == "tpu":
        from storyjax.kernels.story_attention import tpu  # imports Pallas, which takes a while

        return tpu.story_attention(q, k, v, factor)
    if chosen == "ring":
        return ring.ring_attention(q, k, v, factor)
    if chosen == "gathered":
        return reference.story_attention(q, k, v, factor)
    return xla.story_attention(q, k, v, factor)


def choose(q: jax.Array, platform: str) -> str:
    """The implementation that None means for queries q on a platform."""
    if ring.pays(q):
        return "ring"
    return "tpu" if platform == "tpu" and refusal(q) is None else "xla"


def _can_run(asked: str, q: jax.Array) -> None:
    if asked == "ring" and not ring.fits(q):
        raise refuse("story_attention", asked, f"needs a mesh whose axis 'frame' divides {q.shape[1]} frames", "xla")
    if asked != "tpu":
        return
    because = f"needs a TPU, this is '{platform()}'" if platform() != "tpu" else refusal(q)
    if because:
        raise refuse("story_attention", asked, because, "xla")


def _check(q: jax.Array, k: jax.Array, v: jax.Array) -> None:
    if q.ndim != 6 or not q.shape == k.shape == v.shape:
        shapes = ", ".join(str(x.shape) for x in (q, k, v))
        raise StoryjaxError(f"story_attention takes q, k and v of one shape (B, F, H, W, N, D), got {shapes}")
    if not q.dtype == k.dtype == v.dtype:
        raise StoryjaxError(f"story_attention takes q, k and v of one dtype, got {q.dtype}, {k.dtype}, {v.dtype}")
