"""Gradients of SETA on a TPU, in two passes that each write what they own, so that nothing is added across programs.

With P the softmax, dP = dO V^T and dS = P (dP - sum(P dP)) scale:

- the queries' pass has all keys of a query at hand: it computes P anew, writes dQ = dS K, and for each query and head the
  log-sum-exp of the scores and sum(P dP);
- the keys' pass does the same from the key's side (who sees whom is symmetric), with scores and their gradients transposed from
  the start so that no tile is: dV = P^T dO, dK = dS^T Q.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from storyjax.kernels.lanes import Head, added, rows_times_rows, times, with_column
from storyjax.kernels.story_attention.program import ROWS, Program, collect, exponentials, scores_of
from storyjax.kernels.story_attention.tiling import Tiling, bias, from_rows, to_rows, windows


def gradients(
    q: jax.Array, k: jax.Array, v: jax.Array, d_out: jax.Array, *, scale: float, tiling: Tiling, interpret: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of q, k and v, in their shape (B, F, H, W, N, D) and dtype."""
    program = Program(q.shape, tiling, q.dtype, interpret)
    rows = [to_rows(x.astype(q.dtype), tiling) for x in (q, k, v, d_out)]
    table = bias(tiling, q.shape[1], q.shape[3])
    d_q, log_sum, mean = _queries(program, table, rows, scale)
    d_k, d_v = _keys(program, table, rows, log_sum, mean, scale)
    return from_rows(d_q, q.shape, tiling), from_rows(d_k, q.shape, tiling), from_rows(d_v, q.shape, tiling)


def _queries(program: Program, table: jax.Array, rows: Sequence[jax.Array], scale: float) -> tuple[jax.Array, ...]:
    """dQ (B, H, row, C), log-sum-exp and mean (B, G, H, row, N / G), G groups of heads."""
    q, k, v, d_out = rows
    count = len(program.heads)
    statistic = pl.BlockSpec((1, 1, 1, program.tiling.tile, count), lambda tile, b, g, h: (b, g, h, tile, 0))
    shape = (program.batch, program.groups, program.height, program.tiling.row, count)
    return program(
        functools.partial(_query_kernel, heads=program.heads, scale=scale),
        in_specs=[program.bias, program.tile, program.tile, *program.three_rows, *program.three_rows],
        out_specs=[program.tile, statistic, statistic],
        out_shape=[jax.ShapeDtypeStruct(q.shape, q.dtype), *[jax.ShapeDtypeStruct(shape, jnp.float32)] * 2],
        scratch=[program.window_scratch, program.window_scratch, program.tile_scratch],
        cost=program.cost(products=3, needed=2, tiles=3),  # the scores anew, dO V^T, dQ
    )(table, q, d_out, *program.repeat(k), *program.repeat(v))


def _query_kernel(bias_ref: Any, q_ref: Any, d_out_ref: Any, *refs: Any, heads: Sequence[Head], scale: float) -> None:
    *parts, d_q_ref, log_sum_ref, mean_ref, k_rows, v_rows, d_q_tile = refs
    collect(parts[: len(parts) // 2], k_rows)
    collect(parts[len(parts) // 2 :], v_rows)
    tile, count = d_q_tile.shape[0], len(heads)
    log_sums = means = jnp.zeros((tile, count), jnp.float32)
    for head in heads:
        lanes = head.lanes
        weights, largest = exponentials(scores_of(head.only(q_ref[0, 0, :, lanes]), k_rows, lanes, bias_ref, scale))
        total = added(w.sum(axis=1, keepdims=True) for w in weights)
        weights = [w / total for w in weights]
        d_out = head.only(d_out_ref[0, 0, :, lanes])
        d_weights = [rows_times_rows(d_out, v_rows[row, :, lanes]) for row in range(3)]
        mean = added((w * d).sum(axis=1, keepdims=True) for w, d in zip(weights, d_weights))
        d_scores = [w * (d - mean) * scale for w, d in zip(weights, d_weights)]
        d_q = added(times(d, k_rows[row, :, lanes]) for row, d in enumerate(d_scores))
        d_q_tile[:, lanes] = jnp.where(head.own(tile), d_q, d_q_tile[:, lanes])
        log_sums = with_column(log_sums, head.index, largest + jnp.log(total))
        means = with_column(means, head.index, mean)
    d_q_ref[0, 0] = d_q_tile[...].astype(d_q_ref.dtype)
    log_sum_ref[0, 0, 0], mean_ref[0, 0, 0] = log_sums, means


def _keys(
    program: Program, table: jax.Array, rows: Sequence[jax.Array], log_sum: jax.Array, mean: jax.Array, scale: float
) -> tuple[jax.Array, ...]:
    """dK, dV (B, H, row, C)."""
    q, k, v, d_out = rows
    # (B, G, H, row, N / G) -> (B, G, H, tiles, N / G, window): queries lie along the lanes here
    log_sum, mean = (jnp.moveaxis(windows(jnp.moveaxis(x, 4, 3), program.tiling), 4, 3) for x in (log_sum, mean))
    block = (1, 1, 1, 1, len(program.heads), program.tiling.window)

    def statistic(row: int) -> pl.BlockSpec:
        return pl.BlockSpec(block, lambda tile, b, g, h: (b, g, program.neighbour(h, row), tile, 0, 0))

    statistics = [statistic(row) for row in (-1, 0, 1)]
    return program(
        functools.partial(_key_kernel, heads=program.heads, scale=scale),
        in_specs=[
            program.bias,
            program.tile,
            program.tile,
            *statistics,
            *statistics,
            *program.three_rows,
            *program.three_rows,
        ],
        out_specs=[program.tile, program.tile],
        out_shape=[jax.ShapeDtypeStruct(k.shape, k.dtype)] * 2,
        scratch=[program.window_scratch, program.window_scratch, program.tile_scratch, program.tile_scratch],
        cost=program.cost(products=4, needed=2, tiles=4),  # scores and dO V^T anew, dV, dK
    )(table, k, v, *[log_sum] * 3, *[mean] * 3, *program.repeat(q), *program.repeat(d_out))


def _key_kernel(bias_ref: Any, k_ref: Any, v_ref: Any, *refs: Any, heads: Sequence[Head], scale: float) -> None:
    log_sums, means, refs = refs[:3], refs[3:6], refs[6:]
    *parts, d_k_ref, d_v_ref, q_rows, d_out_rows, d_k_tile, d_v_tile = refs
    collect(parts[: len(parts) // 2], q_rows)
    collect(parts[len(parts) // 2 :], d_out_rows)
    for head in heads:
        lanes = head.lanes
        k, v, own = head.only(k_ref[0, 0, :, lanes]), head.only(v_ref[0, 0, :, lanes]), head.own(d_k_tile.shape[0])
        one = slice(head.index, head.index + 1)
        d_k = d_v = jnp.zeros((own.shape[0], head.stop - head.start), jnp.float32)
        for row in range(3):
            q, d_out = q_rows[row, :, lanes], d_out_rows[row, :, lanes]
            scores = rows_times_rows(k, q) * scale + bias_ref[ROWS[row], 0]
            weights = jnp.exp(scores - log_sums[row][0, 0, 0, 0, one])
            d_weights = rows_times_rows(v, d_out)
            d_k = d_k + times(weights * (d_weights - means[row][0, 0, 0, 0, one]) * scale, q)
            d_v = d_v + times(weights, d_out)
        d_k_tile[:, lanes] = jnp.where(own, d_k, d_k_tile[:, lanes])
        d_v_tile[:, lanes] = jnp.where(own, d_v, d_v_tile[:, lanes])
    d_k_ref[0, 0] = d_k_tile[...].astype(d_k_ref.dtype)
    d_v_ref[0, 0] = d_v_tile[...].astype(d_v_ref.dtype)
