"""A long story through a network of F frames: overlapping windows are denoised together and their predictions blended.

    prediction of frame n = sum_w v_w(n) network(window w)[n],    v_w(n) = weight of n's place in window w, normed to sum 1

and one solver step is made on the blend. MultiDiffusion (Bar-Tal et al. 2023) averages the stepped windows of a picture so, and
Gen-L-Video (Wang et al. 2023) those of a video; since every step of `samplers.py` is linear in the prediction and windows agree on
the frames they share, averaging before the step comes to the same, and to a sampler the blend is the network's output. Frames far
apart are held together by the shared part of the noise prior; FreeNoise (Qiu et al. 2023) reuses noise to that end.

A window may begin with anchors: earlier frames that it sees but does not write, so that its frames look like them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from storyjax.config import nearest
from storyjax.errors import StoryjaxError

Blend = Literal["triangular", "uniform"]


@dataclasses.dataclass(frozen=True)
class Windows:
    """`frames` (W, F) int32: the frames of each window in rising order; `weights` (W, F) float32, 0 for anchors.

    Over all windows the weights of a frame sum to 1.
    """

    frames: np.ndarray
    weights: np.ndarray

    @property
    def count(self) -> int:
        """Frames of the story."""
        return int(self.frames.max()) + 1


class Rows(NamedTuple):
    """The windows of B stories as one list of M rows, padded to whole chunks; integer and float arrays for a compiled program."""

    story: Any  # (M,) int32
    frames: Any  # (M, F) int32
    slots: Any  # (B, N, K) int32: where in the M F predictions those of a frame are
    weights: Any  # (B, N, K) float32


def default_overlap(frames: int) -> int:
    """The smallest overlap by which every frame but the ends is in two windows or more: F - F//2."""
    return min(frames - frames // 2, frames - 1)


def starts(count: int, frames: int, overlap: int) -> list[int]:
    """First frames of windows of `frames` that share `overlap`; the last one is shifted to end exactly at `count`.

    Errors: an overlap that is not in 0..frames - 1, fewer frames than one window.
    """
    if not 0 <= overlap < frames:
        raise StoryjaxError(
            f"windows of {frames} frames can share 0 to {frames - 1} of them, got an overlap of {overlap}; "
            f"take {min(max(overlap, 0), default_overlap(frames))}"
        )
    if count < frames:
        raise StoryjaxError(f"expected at least the {frames} frames of one window, got {count}")
    return [*range(0, count - frames, frames - overlap), count - frames]


def make_windows(
    count: int,
    frames: int,
    overlap: int,
    *,
    anchors: Sequence[Sequence[int]] | None = None,
    blend: Blend = "triangular",
) -> Windows:
    """Windows over a story of `count` >= `frames` frames.

    overlap: own frames that neighbouring windows share. A window's own frames are all but its anchors.
    anchors: for every frame n of the story the earlier frames, A of them and rising, that a window sees whose own frames begin at
        n. The first window has none.
    blend: weight of place i of m own frames: "triangular" min(i + 1, m - i), "uniform" 1.
    """
    if blend not in get_args(Blend):
        raise StoryjaxError(f"there is no blend '{blend}'{nearest(str(blend), list(get_args(Blend)))}")
    seen = len(anchors[-1]) if anchors else 0
    own = frames - seen
    table, weights = [np.arange(frames)], [_ramp(frames, blend)]
    for start in starts(count - seen, own, overlap)[1:]:
        begin = start + seen  # of the window's own frames; those of the first window are its last
        given = np.asarray(anchors[begin] if anchors else (), int)
        table.append(np.concatenate([given, np.arange(begin, begin + own)]))
        weights.append(np.concatenate([np.zeros(seen), _ramp(own, blend)]))
    totals = np.bincount(np.ravel(table), np.ravel(weights), minlength=count)
    return Windows(np.array(table, np.int32), (np.array(weights) / totals[np.array(table)]).astype(np.float32))


def make_rows(windows: Sequence[Windows], multiple: int) -> Rows:
    """The rows of B stories of equally many windows and frames; the list is padded to a multiple with row 0, which nobody reads."""
    per_story, frames = windows[0].frames.shape
    story = np.repeat(np.arange(len(windows)), per_story)
    table = np.concatenate([w.frames for w in windows])
    found = [_slots_of(w, b * per_story * frames) for b, w in enumerate(windows)]
    deepest = max(len(places) for one in found for places in one)
    slots = np.zeros((len(windows), windows[0].count, deepest), np.int32)
    weights = np.zeros(slots.shape, np.float32)
    for b, one in enumerate(found):
        for n, places in enumerate(one):
            slots[b, n, : len(places)], weights[b, n, : len(places)] = zip(*places)
    short = -len(table) % multiple
    story, table = (np.concatenate([x, np.repeat(x[:1], short, axis=0)]).astype(np.int32) for x in (story, table))
    return Rows(story, table, slots, weights)


def gather(latents: jax.Array, story: Any, frames: Any) -> jax.Array:
    """(B, N, ...) -> frames (M, F) of stories (M,): (M, F, ...)."""
    return latents[jnp.asarray(story)[:, None], jnp.asarray(frames)]


def blended(predictions: jax.Array, rows: Rows) -> jax.Array:
    """Predictions of the rows (M, F, ...) -> of the stories (B, N, ...), summed in float32, in the same dtype.

    Each frame gathers its own few predictions: the sum has one order, on any number of devices.
    """
    flat = predictions.reshape(-1, *predictions.shape[2:])
    found = flat[jnp.asarray(rows.slots)].astype(jnp.float32)
    weights = jnp.asarray(rows.weights).reshape(*rows.weights.shape, *(1,) * (flat.ndim - 1))
    return (found * weights).sum(axis=2).astype(predictions.dtype)


def chunked(work: Callable[..., Any], size: int, mesh: Mesh | None, *arrays: Any) -> Any:
    """`work` on parts of `size` rows of the arrays (pytrees with one leading axis), one after the other; results joined.

    Memory is that of one part. The last one is filled up with row 0, whose results are dropped.
    """
    rows = jax.tree.leaves(arrays)[0].shape[0]
    short = -rows % size

    def filled(x: jax.Array) -> jax.Array:
        return jnp.concatenate([x, jnp.broadcast_to(x[:1], (short, *x.shape[1:]))]) if short else jnp.asarray(x)

    done = on_parts(work, parts_of(jax.tree.map(filled, arrays), size, mesh))
    return jax.tree.map(lambda x: x[:rows], done)


def parts_of(arrays: Any, size: int, mesh: Mesh | None) -> Any:
    """Arrays (M, ...) as parts (M / size, size, ...), each divided over all devices of the mesh where `size` divides."""
    return jax.tree.map(lambda x: spread(jnp.asarray(x).reshape(-1, size, *x.shape[1:]), mesh, axis=1), arrays)


def on_parts(work: Callable[..., Any], parts: Any) -> Any:
    """`work` on each of the parts of a tuple of arrays, one after the other; results joined to (M, ...)."""
    done = jax.lax.map(lambda part: work(*part), parts)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), done)


def spread(x: jax.Array, mesh: Mesh | None, axis: int = 0) -> jax.Array:
    """One axis divided over all devices of the mesh; as it is without a mesh, or where it does not divide."""
    if mesh is None or x.shape[axis] % mesh.size:
        return x
    spec = P(*(None,) * axis, mesh.axis_names)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def _ramp(frames: int, blend: Blend) -> np.ndarray:
    place = np.arange(frames)
    return np.ones(frames) if blend == "uniform" else np.minimum(place + 1, frames - place).astype(float)


def _slots_of(windows: Windows, offset: int) -> list[list[tuple[int, float]]]:
    """For each frame the (place in the flat list of predictions, weight) of those windows that write it."""
    found: list[list[tuple[int, float]]] = [[] for _ in range(windows.count)]
    for place, (frame, weight) in enumerate(zip(windows.frames.ravel(), windows.weights.ravel())):
        if weight:
            found[frame].append((offset + place, float(weight)))
    return found
