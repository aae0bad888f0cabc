"""Attention over all tokens on a TPU, one Pallas (Mosaic) program for a block of queries: any length of keys, any head width.

The library kernels want keys in multiples of 128 and widths that fill whole registers. Here keys are padded and the padding
hidden, and heads are read inside their lanes (`lanes`), so text of 77 tokens and heads of 40, 80 or 160 go as they are. Blocks of
keys pass one after the other under an online softmax (Dao et al. 2022, algorithm 1); short contexts are one block.
`tpu_backward` has the gradients; the log-sum-exp of the scores is kept for them.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from storyjax.kernels.flash_attention.program import BLOCKS, HIDDEN, PARAMS, Blocks, Program
from storyjax.kernels.flash_attention.tpu_backward import gradients
from storyjax.kernels.lanes import Head, column, rows_times_rows, times, with_column
from storyjax.kernels.partition import partitioned


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def flash_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, scale: float, blocks: Blocks = BLOCKS, interpret: bool = False
) -> jax.Array:
    """(B, L, N, D), (B, M, N, D) twice -> (B, L, N, D). interpret: run the program on a CPU, for tests."""
    return _keep(q, k, v, scale, blocks, interpret)[0]


def _keep(
    q: jax.Array, k: jax.Array, v: jax.Array, scale: float, blocks: Blocks, interpret: bool
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    def run(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _forward(q, k, v, scale, blocks, interpret)

    rule = "b l n d, b m n d, b m n d -> b l n d, b l n"
    out, log_sum = partitioned(run, rule, "b n")(q, k, v)
    return out, (q, k, v, out, log_sum)


def _backward(
    scale: float, blocks: Blocks, interpret: bool, kept: tuple[jax.Array, ...], d_out: jax.Array
) -> tuple[jax.Array, ...]:
    def run(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return gradients(*arrays, scale=scale, blocks=blocks, interpret=interpret)

    q, k, v, out, log_sum = kept
    mean = (d_out.astype(jnp.float32) * out.astype(jnp.float32)).sum(axis=-1)
    rule = "b l n d, b m n d, b m n d, b l n d, b l n, b l n -> b l n d, b m n d, b m n d"
    return partitioned(run, rule, "b n")(q, k, v, d_out, log_sum, mean)


flash_attention.defvjp(_keep, _backward)


def _forward(
    q: jax.Array, k: jax.Array, v: jax.Array, scale: float, blocks: Blocks, interpret: bool
) -> tuple[jax.Array, jax.Array]:
    program = Program(q, k, blocks)
    queries, keys = program.spec(program.block.queries, 2), program.spec(program.block.keys, 3)
    statistics = (program.batch, program.groups, program.rows, len(program.heads))
    numbers = pltpu.VMEM((program.block.queries, len(program.heads)), jnp.float32)
    out, log_sum = pl.pallas_call(
        functools.partial(_kernel, heads=program.heads, scale=scale),
        grid=program.query_grid(),
        in_specs=[pl.BlockSpec((1, program.block.keys), lambda b, g, i, j: (0, j)), queries, keys, keys],
        out_specs=[queries, program.statistic(2)],
        out_shape=[
            jax.ShapeDtypeStruct((program.batch, program.rows, program.width * program.groups), q.dtype),
            jax.ShapeDtypeStruct(statistics, jnp.float32),
        ],
        scratch_shapes=[numbers, numbers, pltpu.VMEM((program.block.queries, program.width), jnp.float32)],
        compiler_params=PARAMS,
        interpret=interpret,
        **program.cost(products=2, needed=2, queries=2, keys=2),
    )(
        program.bias()[None],
        program.tokens(q, program.rows),
        program.tokens(k, program.key_rows),
        program.tokens(v, program.key_rows),
    )
    log_sum = jnp.moveaxis(log_sum, 1, 2).reshape(program.batch, program.rows, -1)
    return out[:, : program.length].reshape(q.shape), log_sum[:, : program.length]


def _kernel(
    bias_ref: Any,
    q_ref: Any,
    k_ref: Any,
    v_ref: Any,
    out_ref: Any,
    log_sum_ref: Any,
    largest_ref: Any,
    total_ref: Any,
    sum_ref: Any,
    *,
    heads: Sequence[Head],
    scale: float,
) -> None:
    @pl.when(pl.program_id(3) == 0)
    def _start() -> None:
        largest_ref[...] = jnp.full(largest_ref.shape, HIDDEN, jnp.float32)
        total_ref[...] = jnp.zeros(total_ref.shape, jnp.float32)
        sum_ref[...] = jnp.zeros(sum_ref.shape, jnp.float32)

    before, totals = largest_ref[...], total_ref[...]
    largest = before
    for head in heads:
        scores = rows_times_rows(head.only(q_ref[0, :, head.lanes]), k_ref[0, :, head.lanes]) * scale + bias_ref[...]
        old = column(before, head.index)
        new = jnp.maximum(old, scores.max(axis=1, keepdims=True))
        kept, weights = jnp.exp(old - new), jnp.exp(scores - new)
        largest = with_column(largest, head.index, new)
        totals = with_column(totals, head.index, kept * column(totals, head.index) + weights.sum(axis=1, keepdims=True))
        sums, own = sum_ref[:, head.lanes], head.own(new.shape[0])
        sum_ref[:, head.lanes] = jnp.where(own, kept * sums + times(weights, v_ref[0, :, head.lanes]), sums)
    largest_ref[...], total_ref[...] = largest, totals

    @pl.when(pl.program_id(3) == pl.num_programs(3) - 1)
    def _finish() -> None:
        for head in heads:
            sums, own = sum_ref[:, head.lanes], head.own(sum_ref.shape[0])
            sum_ref[:, head.lanes] = jnp.where(own, sums / column(total_ref[...], head.index), sums)
        out_ref[0] = sum_ref[...].astype(out_ref.dtype)
        log_sum_ref[0, 0] = largest_ref[...] + jnp.log(total_ref[...])
