"""Temporal attention by devices that each hold some of the frames: keys and values go round a ring and meet every query.

With n devices along the mesh axis `frame`, device i keeps the queries of its F/n frames; in step j it sees the keys and values that
device i - j began with, sends them on to device i + 1, and adds them to the same online softmax as `xla.py`. Backward, the
gradients of keys and values travel with them and are home after n steps (Liu et al. 2023, ring attention).

Each device sends what gathering would send, but holds the keys and values of 2 F/n frames at a time, not of F, and the sending of
one step goes on beside the products of the step before.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from storyjax.kernels.story_attention import xla
from storyjax.kernels.story_attention.xla import Seen

AXIS = "frame"
GATHERED = 256 << 20  # bytes of gathered keys and values a device may hold; beyond, they go round instead
_FRAMES = P(None, None, None, None, AXIS)  # of (B, H, W, N, F, D)


def pays(q: jax.Array) -> bool:
    """Whether keys and values of queries (B, F, H, W, N, D) are too many to be gathered by every device of the current mesh."""
    return fits(q) and 2 * q.size * q.dtype.itemsize // _divided(q) > GATHERED


def fits(q: jax.Array) -> bool:
    """Whether the current mesh divides the frames of q (B, F, H, W, N, D)."""
    ring = _size()
    return ring > 1 and q.shape[1] % ring == 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def ring_attention(q: jax.Array, k: jax.Array, v: jax.Array, scale: float, window: bool = True) -> jax.Array:
    """(B, F, H, W, N, D) each -> the same, as `api.story_attention`; without `window` a pixel sees only itself in all frames.

    The mesh of `jax.set_mesh` must have an axis `frame` that divides F; its other axes are as the compiler cuts them.
    """
    return _forward(q, k, v, scale, window)[0]


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, scale: float, window: bool) -> tuple[jax.Array, tuple]:
    q, k, v = (xla.pixels_first(x) for x in (q, k, v))
    out, log_sum = _on_ring(functools.partial(_seen_round, scale=scale, window=window), 3, 2)(q, k, v)
    return xla.frames_first(out), (q, k, v, out, log_sum)


def _backward(scale: float, window: bool, kept: tuple[jax.Array, ...], d_out: jax.Array) -> tuple[jax.Array, ...]:
    run = _on_ring(functools.partial(_back_round, scale=scale, window=window), 6, 3)
    grads = run(*kept, xla.pixels_first(d_out))
    return tuple(xla.frames_first(grad.astype(x.dtype)) for grad, x in zip(grads, kept))


ring_attention.defvjp(_forward, _backward)


def _seen_round(q: jax.Array, k: jax.Array, v: jax.Array, *, scale: float, window: bool) -> tuple[jax.Array, jax.Array]:
    """This device's queries against all keys: output and log-sum-exp."""
    shifts = _shifts(window)

    def one(carry: tuple[Seen, jax.Array], step: jax.Array) -> tuple[tuple[Seen, jax.Array], None]:
        seen, travelling = carry
        sent = _passed_on(travelling)
        key, value = (xla.padded(x) for x in travelling)
        return (xla.absorbed(seen, q, key, value, _own(q, step), shifts, scale), sent), None

    (seen, _), _ = jax.lax.scan(one, (xla.nothing_seen(q), jnp.stack([k, v])), jnp.arange(_size()))
    return xla.summed_up(seen, v.dtype)


def _back_round(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    out: jax.Array,
    log_sum: jax.Array,
    d_out: jax.Array,
    *,
    scale: float,
    window: bool,
) -> Seen:
    """Gradients of this device's queries, keys and values, in float32."""
    shifts, mean = _shifts(window), xla.mean_of(out, d_out)

    def one(carry: tuple, step: jax.Array) -> tuple[tuple, None]:
        d_q, travelling, grads = carry
        sent = _passed_on(travelling)
        key, value = (xla.padded(x) for x in travelling)
        zeros = jnp.zeros(key.shape, jnp.float32)
        d_q, d_k, d_v = xla.flowed_back(
            (d_q, zeros, zeros), q, key, value, log_sum, mean, d_out, _own(q, step), shifts, scale
        )
        return (d_q, sent, _passed_on(grads + jnp.stack([xla.folded(d_k), xla.folded(d_v)]))), None

    both = jnp.stack([k, v])
    start = jnp.zeros(q.shape, jnp.float32), both, jnp.zeros(both.shape, jnp.float32)
    (d_q, _, (d_k, d_v)), _ = jax.lax.scan(one, start, jnp.arange(_size()))
    return d_q, d_k, d_v


def _on_ring(function: Callable, operands: int, results: int) -> Callable:
    """`function` on every device's own frames; the other mesh axes stay the compiler's."""
    return jax.shard_map(
        function,
        in_specs=(_FRAMES,) * operands,
        out_specs=(_FRAMES,) * results,
        axis_names={AXIS},
        check_vma=False,
    )


def _passed_on(x: jax.Array) -> jax.Array:
    """What the device before had."""
    ring = _size()
    return jax.lax.ppermute(x, AXIS, [(i, (i + 1) % ring) for i in range(ring)])


def _own(q: jax.Array, step: jax.Array) -> jax.Array:
    """(F/n, F/n): in the first step keys and queries are of the same frames, later never."""
    return jnp.eye(q.shape[-2], dtype=bool) & (step == 0)


def _shifts(window: bool) -> jax.Array:
    shifts = xla.window()
    return shifts if window else shifts[4:5]


def _size() -> int:
    return dict(jax.sharding.get_abstract_mesh().shape).get(AXIS, 1)


def _divided(q: jax.Array) -> int:
    """Into how many parts stories and heads of q are cut at most."""
    sizes = dict(jax.sharding.get_abstract_mesh().shape)
    stories, heads = sizes.get("data", 1) * sizes.get("fsdp", 1), sizes.get("tensor", 1)
    return math.gcd(q.shape[0], stories) * math.gcd(q.shape[4], heads)
