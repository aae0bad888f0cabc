"""The attention kernel that comes with JAX for TPUs, forward and backward; queries and keys in multiples of 128."""

from typing import Any

import jax
import jax.numpy as jnp

from storyjax.kernels.flash_attention import flash
from storyjax.kernels.lanes import LANES


def refusal(q: jax.Array, k: jax.Array, mask: jax.Array | None) -> str | None:
    """Why it cannot run; None if it can."""
    if because := flash.refusal(q, k, mask):  # it needs what ours does, and more
        return because
    if q.shape[1] % LANES or k.shape[1] % LANES:
        return f"needs multiples of {LANES} queries and keys, got {q.shape[1]} and {k.shape[1]}"
    return None


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None, scale: float) -> jax.Array:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

    length, heads, keys = q.shape[1], q.shape[2], k.shape[1]
    everything = splash_attention_mask.FullMask((length, keys))
    rows, columns = _block(length), _block(keys)
    sizes = splash_attention_kernel.BlockSizes(
        block_q=rows, block_kv=columns, block_q_dkv=rows, block_kv_dkv=columns, block_q_dq=rows, block_kv_dq=columns
    )
    kernel = splash_attention_kernel.make_splash_mha(
        splash_attention_mask.MultiHeadMask([everything] * heads), block_sizes=sizes, head_shards=1, q_seq_shards=1
    )
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q * jnp.asarray(scale, q.dtype), k, v))
    out: Any = jax.vmap(kernel)(q, k, v)
    return jnp.swapaxes(out, 1, 2)


def _block(length: int) -> int:
    """The largest block of tokens that divides the length."""
    return next(size for size in (512, 256, LANES) if length % size == 0)
