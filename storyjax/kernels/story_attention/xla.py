"""SETA in plain XLA, without ever gathering: nine shifted products under one online softmax.

A shift s of the 3x3 window moves the keys of all frames by one pixel, a slice of the padded image. With S_s (F, F) the scores of
one pixel's queries against the keys under s, m and l the running maximum and sum of every query,

    m' = max(m, max S_s),  l' = e^(m - m') l + sum e^(S_s - m'),  o' = e^(m - m') o + e^(S_s - m') V_s

(Milakov and Gimelshein 2018; Dao et al. 2022, algorithm 1). The backward pass keeps the log-sum-exp alone and computes the
scores anew, shift by shift; what flows to shifted keys is added where they came from, edges included.

The shifts are a loop of the compiled program, so that one shifted copy of keys and values exists at a time whatever the
scheduler likes; frames are not. Batch, space and heads are plain batch axes of every product: a mesh may cut stories and
heads without communication, and frames, rows or columns of the picture at the price of gathering keys and values along them.
"""

import functools

import jax
import jax.numpy as jnp

from storyjax.kernels.partition import whole_along

HIDDEN = float(jnp.finfo(jnp.float32).min)
Seen = tuple[jax.Array, jax.Array, jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def story_attention(q: jax.Array, k: jax.Array, v: jax.Array, scale: float) -> jax.Array:
    """(B, F, H, W, N, D) each -> the same; see `api.story_attention`."""
    return _forward(q, k, v, scale)[0]


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, scale: float) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    q, k, v = (pixels_first(x) for x in (q, k, v))
    out, log_sum = online_softmax(q, k, v, scale)
    return frames_first(out), (q, k, v, out, log_sum)


def _backward(scale: float, kept: tuple[jax.Array, ...], d_out: jax.Array) -> tuple[jax.Array, ...]:
    q, k, v, out, log_sum = kept
    grads = gradients(q, k, v, out, log_sum, pixels_first(d_out), scale)
    return tuple(frames_first(grad.astype(x.dtype)) for grad, x in zip(grads, (q, k, v)))


story_attention.defvjp(_forward, _backward)


def online_softmax(q: jax.Array, k: jax.Array, v: jax.Array, scale: float) -> tuple[jax.Array, jax.Array]:
    """(B, H, W, N, F, D) each -> output of that shape, and the log-sum-exp of the scores (B, H, W, N, F, 1) in float32."""
    k, v = (padded(whole_along(x, -2)) for x in (k, v))
    own = jnp.eye(q.shape[-2], dtype=bool)
    return summed_up(absorbed(nothing_seen(q), q, k, v, own, window(), scale), v.dtype)


def nothing_seen(q: jax.Array) -> Seen:
    """Before the first key: queries (B, H, W, N, F, D)."""
    rows = (*q.shape[:-1], 1)
    return jnp.full(rows, HIDDEN), jnp.zeros(rows, jnp.float32), jnp.zeros(q.shape, jnp.float32)


def absorbed(
    seen: Seen, q: jax.Array, k: jax.Array, v: jax.Array, own: jax.Array, shifts: jax.Array, scale: float
) -> Seen:
    """`seen` after the keys of some frames too: k, v (B, H+2, W+2, N, U, D) padded, own (F, U): a query's own frame."""

    def one_shift(carry: Seen, shift: jax.Array) -> tuple[Seen, None]:
        before, total, out = carry
        scores = shifted_scores(q, shifted(k, shift), own, shift, scale)
        largest = jnp.maximum(before, scores.max(axis=-1, keepdims=True))
        kept, weights = jnp.exp(before - largest), jnp.exp(scores - largest)
        total = kept * total + weights.sum(axis=-1, keepdims=True)
        out = kept * out + product("...tu,...ud->...td", weights.astype(v.dtype), shifted(v, shift))
        return (largest, total, out), None

    return jax.lax.scan(one_shift, seen, shifts)[0]


def summed_up(seen: Seen, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Output in `dtype` and log-sum-exp, when all keys have been seen."""
    largest, total, out = seen
    return (out / total).astype(dtype), largest + jnp.log(total)


def gradients(
    q: jax.Array, k: jax.Array, v: jax.Array, out: jax.Array, log_sum: jax.Array, d_out: jax.Array, scale: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of q, k and v in float32; all in the shape (B, H, W, N, F, D).

    With P = e^(S - log-sum-exp):  dV = P^T dO,  dS = P (dO V^T - sum(dO O)) scale,  dQ = dS K,  dK = dS^T Q.
    """
    mean = mean_of(out, d_out)
    k, v = (padded(whole_along(x, -2)) for x in (k, v))
    own = jnp.eye(q.shape[-2], dtype=bool)
    start = jnp.zeros(q.shape, jnp.float32), jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    d_q, d_k, d_v = flowed_back(start, q, k, v, log_sum, mean, d_out, own, window(), scale)
    return d_q, folded(d_k), folded(d_v)


def mean_of(out: jax.Array, d_out: jax.Array) -> jax.Array:
    """sum(dO O) of every query, in float32: the mean of dO V^T under its weights."""
    return (d_out.astype(jnp.float32) * out.astype(jnp.float32)).sum(axis=-1, keepdims=True)


def flowed_back(
    grads: Seen,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    log_sum: jax.Array,
    mean: jax.Array,
    d_out: jax.Array,
    own: jax.Array,
    shifts: jax.Array,
    scale: float,
) -> Seen:
    """`grads` (of q, and of padded k and v) with what flows through the keys of some frames; arguments as of `absorbed`."""

    def one_shift(carry: Seen, shift: jax.Array) -> tuple[Seen, None]:
        d_q, d_k, d_v = carry
        shifted_k = shifted(k, shift)
        weights = jnp.exp(shifted_scores(q, shifted_k, own, shift, scale) - log_sum)
        d_weights = product("...td,...ud->...tu", d_out, shifted(v, shift))
        d_scores = (weights * (d_weights - mean) * scale).astype(q.dtype)
        d_q = d_q + product("...tu,...ud->...td", d_scores, shifted_k)
        d_k = add_shifted(d_k, product("...tu,...td->...ud", d_scores, q), shift)
        d_v = add_shifted(d_v, product("...tu,...td->...ud", weights.astype(d_out.dtype), d_out), shift)
        return (d_q, d_k, d_v), None

    return jax.lax.scan(one_shift, grads, shifts)[0]


def window() -> jax.Array:
    """(9, 2): row and column of every place in the 3x3 window; (1, 1) is the pixel itself."""
    return jnp.stack(jnp.meshgrid(jnp.arange(3), jnp.arange(3), indexing="ij"), axis=-1).reshape(9, 2)


def shifted_scores(q: jax.Array, shifted_k: jax.Array, own: jax.Array, shift: jax.Array, scale: float) -> jax.Array:
    """(..., F, U) float32: queries of every frame against the shifted keys of some frames; own (F, U) neighbours are hidden."""
    scores = product("...td,...ud->...tu", q, shifted_k) * scale
    return jnp.where(own & (shift != 1).any(), HIDDEN, scores)


def product(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, a, b, preferred_element_type=jnp.float32)


def pixels_first(x: jax.Array) -> jax.Array:
    """(B, F, H, W, N, D) -> (B, H, W, N, F, D): what a product multiplies lies together."""
    return jnp.transpose(x, (0, 2, 3, 4, 1, 5))


def frames_first(x: jax.Array) -> jax.Array:
    """The inverse of `pixels_first`."""
    return jnp.transpose(x, (0, 4, 1, 2, 3, 5))


def padded(x: jax.Array) -> jax.Array:
    """One pixel more on every side of axes 1 and 2, edges replicated."""
    return jnp.pad(x, [(1, 1) if axis in (1, 2) else (0, 0) for axis in range(x.ndim)], mode="edge")


def shifted(padded: jax.Array, shift: jax.Array) -> jax.Array:
    """The image as its pixels see it at one place (row, column) of their window."""
    size = (padded.shape[0], padded.shape[1] - 2, padded.shape[2] - 2, *padded.shape[3:])
    return jax.lax.dynamic_slice(padded, _start(padded, shift), size)


def add_shifted(padded: jax.Array, x: jax.Array, shift: jax.Array) -> jax.Array:
    """The transpose of `shifted`: x is added to the pixels that were seen."""
    return jax.lax.dynamic_update_slice(padded, shifted(padded, shift) + x, _start(padded, shift))


def _start(padded: jax.Array, shift: jax.Array) -> list[jax.Array]:
    zero = jnp.zeros((), shift.dtype)
    return [zero, shift[0], shift[1], *[zero] * (padded.ndim - 3)]


def folded(x: jax.Array) -> jax.Array:
    """The transpose of `padded`: every border is added to the edge that it is a copy of."""
    for axis in (1, 2):
        size = x.shape[axis] - 2
        first, inner, last = (jax.lax.slice_in_dim(x, *ends, axis=axis) for ends in _parts(size))
        rest = [(0, 0)] * x.ndim
        before, after = list(rest), list(rest)
        before[axis], after[axis] = (0, size - 1), (size - 1, 0)
        x = inner + jnp.pad(first, before) + jnp.pad(last, after)
    return x


def _parts(size: int) -> tuple[tuple[int, int], ...]:
    return (0, 1), (1, size + 1), (size + 1, size + 2)
