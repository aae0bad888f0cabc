"""SETA on a TPU: one Pallas (Mosaic) program for every tile of a row of the picture, forward; `tpu_backward` has the gradients.

A program reads its tile's queries and, where they lie, the keys and values of three rows (the picture's first and last row count
as their own neighbours). All keys of a query are then on the chip at once, so the softmax is an ordinary one. See `tiling` for the
cut and the mask, `lanes` for the heads. Only q, k and v are kept for the backward pass.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from storyjax.kernels.lanes import Head, added, times
from storyjax.kernels.partition import partitioned
from storyjax.kernels.story_attention.program import Program, collect, exponentials, scores_of
from storyjax.kernels.story_attention.tiling import Tiling, bias, from_rows, tiling_of, to_rows
from storyjax.kernels.story_attention.tpu_backward import gradients

AXES = "b f h w n d"


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def story_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, scale: float, tiling: Tiling | None = None, interpret: bool = False
) -> jax.Array:
    """(B, F, H, W, N, D) each -> the same; see `api.story_attention`. interpret: run the program on a CPU, for tests."""

    def run(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return _forward(q, k, v, scale, _tiling(q, tiling), interpret)

    return partitioned(run, f"{AXES}, {AXES}, {AXES} -> {AXES}", "b n")(q, k, v)


def _keep(q: jax.Array, k: jax.Array, v: jax.Array, *settings: Any) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return story_attention(q, k, v, *settings), (q, k, v)


def _backward(
    scale: float, tiling: Tiling | None, interpret: bool, kept: tuple[jax.Array, ...], d_out: jax.Array
) -> tuple[jax.Array, ...]:
    def run(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return gradients(*arrays, scale=scale, tiling=_tiling(arrays[0], tiling), interpret=interpret)

    rule = f"{AXES}, {AXES}, {AXES}, {AXES} -> {AXES}, {AXES}, {AXES}"
    return partitioned(run, rule, "b n")(*kept, d_out)


story_attention.defvjp(_keep, _backward)


def _tiling(q: jax.Array, tiling: Tiling | None) -> Tiling:
    found = tiling or tiling_of(q)
    assert found, "refusal() was not asked"
    return found


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, scale: float, tiling: Tiling, interpret: bool) -> jax.Array:
    program = Program(q.shape, tiling, q.dtype, interpret)
    rows = [to_rows(x, tiling) for x in (q, k, v)]
    out = program(
        functools.partial(_kernel, heads=program.heads, scale=scale),
        in_specs=[program.bias, program.tile, *program.three_rows, *program.three_rows],
        out_specs=program.tile,
        out_shape=jax.ShapeDtypeStruct(rows[0].shape, q.dtype),
        scratch=[program.window_scratch, program.window_scratch, program.tile_scratch],
        cost=program.cost(products=2, needed=2, tiles=2),
    )(bias(tiling, q.shape[1], q.shape[3]), rows[0], *program.repeat(rows[1]), *program.repeat(rows[2]))
    return from_rows(out, q.shape, tiling)


def _kernel(bias_ref: Any, q_ref: Any, *refs: Any, heads: Sequence[Head], scale: float) -> None:
    *parts, out_ref, k_rows, v_rows, out_tile = refs
    collect(parts[: len(parts) // 2], k_rows)
    collect(parts[len(parts) // 2 :], v_rows)
    for head in heads:
        lanes = head.lanes
        scores = scores_of(head.only(q_ref[0, 0, :, lanes]), k_rows, lanes, bias_ref, scale)
        weights, _ = exponentials(scores)
        total = added(w.sum(axis=1, keepdims=True) for w in weights)
        out = added(times(w, v_rows[row, :, lanes]) for row, w in enumerate(weights)) / total
        out_tile[:, lanes] = jnp.where(head.own(out.shape[0]), out, out_tile[:, lanes])
    out_ref[0, 0] = out_tile[...].astype(out_ref.dtype)
