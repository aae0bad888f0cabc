"""softmax(q k^T scale) v with all scores in memory: plain, and the measure of the other forms."""

import jax
import jax.numpy as jnp


def flash_attention(q: jax.Array, k: jax.Array, v: jax.Array, scale: float, mask: jax.Array | None = None) -> jax.Array:
    """(B, L, N, D), (B, M, N, D) twice -> (B, L, N, D); scores and softmax in float32. See `api.flash_attention`."""
    scores = jnp.einsum("blnd,bmnd->bnlm", q, k, preferred_element_type=jnp.float32) * scale
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bnlm,bmnd->blnd", weights, v, preferred_element_type=jnp.float32).astype(q.dtype)
