"""Gradients of attention on a TPU, in two passes: one sums over keys what flows to queries, one over queries what flows to keys.

With P = e^(S - log-sum-exp) and dS = P (dO V^T - sum(dO O)) scale:  dQ = dS K,  dV = P^T dO,  dK = dS^T Q. In the keys' pass
scores are computed transposed, so that no tile is.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from storyjax.kernels.flash_attention.program import PARAMS, Blocks, Program
from storyjax.kernels.lanes import Head, column, rows_times_rows, times


def gradients(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    d_out: jax.Array,
    log_sum: jax.Array,
    mean: jax.Array,
    *,
    scale: float,
    blocks: Blocks,
    interpret: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of q, k and v in their shapes and dtypes. log_sum, mean (B, L, N): of the scores, and sum(dO O)."""
    program = Program(q, k, blocks)
    tokens = [program.tokens(q, program.rows), program.tokens(k, program.key_rows), program.tokens(v, program.key_rows)]
    tokens.append(program.tokens(d_out.astype(q.dtype), program.rows))
    numbers = [_by_group(program, x) for x in (log_sum, mean)]
    d_q = _queries(program, tokens, numbers, scale, interpret)
    d_k, d_v = _keys(program, tokens, [jnp.swapaxes(x, 2, 3) for x in numbers], scale, interpret)
    return (
        d_q[:, : program.length].reshape(q.shape),
        d_k[:, : program.keys].reshape(k.shape),
        d_v[:, : program.keys].reshape(v.shape),
    )


def _by_group(program: Program, x: jax.Array) -> jax.Array:
    """(B, L, N) -> (B, G, rows, N / G)."""
    x = jnp.pad(x, [(0, 0), (0, program.rows - x.shape[1]), (0, 0)])
    return jnp.moveaxis(x.reshape(program.batch, program.rows, program.groups, -1), 2, 1)


def _queries(
    program: Program, tokens: Sequence[jax.Array], numbers: Sequence[jax.Array], scale: float, interpret: bool
) -> jax.Array:
    q, k, v, d_out = tokens
    queries, keys = program.spec(program.block.queries, 2), program.spec(program.block.keys, 3)
    bias = pl.BlockSpec((1, program.block.keys), lambda b, g, i, j: (0, j))
    return pl.pallas_call(
        functools.partial(_query_kernel, heads=program.heads, scale=scale),
        grid=program.query_grid(),
        in_specs=[bias, queries, keys, keys, queries, program.statistic(2), program.statistic(2)],
        out_specs=queries,
        out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
        scratch_shapes=[pltpu.VMEM((program.block.queries, program.width), jnp.float32)],
        compiler_params=PARAMS,
        interpret=interpret,
        **program.cost(products=3, needed=2, queries=3, keys=2),  # the scores anew, dO V^T, dQ
    )(program.bias()[None], q, k, v, d_out, *numbers)


def _query_kernel(
    bias_ref: Any,
    q_ref: Any,
    k_ref: Any,
    v_ref: Any,
    d_out_ref: Any,
    log_sum_ref: Any,
    mean_ref: Any,
    d_q_ref: Any,
    sum_ref: Any,
    *,
    heads: Sequence[Head],
    scale: float,
) -> None:
    @pl.when(pl.program_id(3) == 0)
    def _start() -> None:
        sum_ref[...] = jnp.zeros(sum_ref.shape, jnp.float32)

    log_sums, means = log_sum_ref[0, 0], mean_ref[0, 0]
    for head in heads:
        k = k_ref[0, :, head.lanes]
        scores = rows_times_rows(head.only(q_ref[0, :, head.lanes]), k) * scale + bias_ref[...]
        weights = jnp.exp(scores - column(log_sums, head.index))
        d_weights = rows_times_rows(head.only(d_out_ref[0, :, head.lanes]), v_ref[0, :, head.lanes])
        d_q = times(weights * (d_weights - column(means, head.index)) * scale, k)
        sum_ref[:, head.lanes] += jnp.where(head.own(d_q.shape[0]), d_q, 0.0)

    @pl.when(pl.program_id(3) == pl.num_programs(3) - 1)
    def _finish() -> None:
        d_q_ref[0] = sum_ref[...].astype(d_q_ref.dtype)


def _keys(
    program: Program, tokens: Sequence[jax.Array], numbers: Sequence[jax.Array], scale: float, interpret: bool
) -> tuple[jax.Array, jax.Array]:
    q, k, v, d_out = tokens
    queries, keys = program.spec(program.block.queries, 3), program.spec(program.block.keys, 2)
    bias = pl.BlockSpec((program.block.keys, 1), lambda b, g, j, i: (j, 0))
    number = pl.BlockSpec((1, 1, len(program.heads), program.block.queries), lambda b, g, j, i: (b, g, 0, i))
    batch, groups, query_blocks, key_blocks = program.query_grid()
    return pl.pallas_call(
        functools.partial(_key_kernel, heads=program.heads, scale=scale),
        grid=(batch, groups, key_blocks, query_blocks),
        in_specs=[bias, queries, keys, keys, queries, number, number],
        out_specs=[keys, keys],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (k, v)],
        scratch_shapes=[pltpu.VMEM((program.block.keys, program.width), jnp.float32)] * 2,
        compiler_params=PARAMS,
        interpret=interpret,
        **program.cost(products=4, needed=2, queries=2, keys=4, keys_stay=True),  # scores and dO V^T anew, dV, dK
    )(program.bias()[:, None], q, k, v, d_out, *numbers)


def _key_kernel(
    bias_ref: Any,
    q_ref: Any,
    k_ref: Any,
    v_ref: Any,
    d_out_ref: Any,
    log_sum_ref: Any,
    mean_ref: Any,
    d_k_ref: Any,
    d_v_ref: Any,
    d_k_sum: Any,
    d_v_sum: Any,
    *,
    heads: Sequence[Head],
    scale: float,
) -> None:
    @pl.when(pl.program_id(3) == 0)
    def _start() -> None:
        d_k_sum[...] = jnp.zeros(d_k_sum.shape, jnp.float32)
        d_v_sum[...] = jnp.zeros(d_v_sum.shape, jnp.float32)

    for head in heads:
        q, d_out = q_ref[0, :, head.lanes], d_out_ref[0, :, head.lanes]
        one, own = slice(head.index, head.index + 1), head.own(d_k_sum.shape[0])
        scores = rows_times_rows(head.only(k_ref[0, :, head.lanes]), q) * scale + bias_ref[...]
        weights = jnp.exp(scores - log_sum_ref[0, 0, one])
        d_weights = rows_times_rows(head.only(v_ref[0, :, head.lanes]), d_out)
        d_scores = weights * (d_weights - mean_ref[0, 0, one]) * scale
        d_k_sum[:, head.lanes] += jnp.where(own, times(d_scores, q), 0.0)
        d_v_sum[:, head.lanes] += jnp.where(own, times(weights, d_out), 0.0)

    @pl.when(pl.program_id(3) == pl.num_programs(3) - 1)
    def _finish() -> None:
        d_k_ref[0] = d_k_sum[...].astype(d_k_ref.dtype)
        d_v_ref[0] = d_v_sum[...].astype(d_v_ref.dtype)
