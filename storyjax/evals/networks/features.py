"""A network behind uint8 pictures: what every metric of features stands on. float32 throughout, whatever the device would prefer.

A picture's features must not depend on its company, or a caller's batches would change a score. The same compiled program runs
whatever number of pictures comes: they are taken in batches of one size, the last one filled up. On a CPU that is not enough,
because the rows at a batch's end are computed in another way than those before; there the program takes one picture after the
other, up to the last real one, which is also faster: what lies between two layers stays in the cache.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from storyjax.errors import StoryjaxError
from storyjax.nn.build import Params, bind

Compute = Callable[[Any, jax.Array], jax.Array]  # (network, prepared pictures) -> one row each
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """From uint8 pictures (..., H, W, 3) to what a network looks at: scaled to 0..1, resized, then (x - mean) / deviation.

    size: (height, width) in pixels, stretched to, None: as they are. antialias: whether a smaller picture is an average of what it
    shows. PyTorch's `interpolate` does not, which published FIDs depend on; PIL and torchvision's Resize do. Bilinear, half-pixel
    centres (PyTorch's align_corners=False), in float32 without rounding to 8 bits in between.
    """

    size: tuple[int, int] | None = None
    antialias: bool = False
    mean: tuple[float, float, float] = HALF
    deviation: tuple[float, float, float] = HALF

    def __call__(self, pictures: jax.Array) -> jax.Array:
        x = pictures.astype(jnp.float32) / 255
        if self.size is not None and x.shape[-3:-1] != self.size:
            shape = (*x.shape[:-3], *self.size, x.shape[-1])
            x = jax.image.resize(x, shape, "linear", antialias=self.antialias)
        return (x - jnp.array(self.mean)) / jnp.array(self.deviation)

    def about(self) -> dict[str, Any]:
        """In words and numbers, for a result's record."""
        size = f"{self.size[0]}x{self.size[1]} pixels, bilinear" if self.size else "none"
        how = (", antialiased" if self.antialias else ", without antialiasing") if self.size else ""
        return {"resize": size + how, "mean": list(self.mean), "deviation": list(self.deviation)}


class FeatureNetwork:
    """uint8 pictures (N, H, W, 3), or clips (N, T, H, W, 3), -> one row of features each, (N, ...) float32.

    compute: (network, prepared pictures) -> rows; a function of the module's level, because programs are kept by it. batch:
    pictures a device and call, on a CPU two at most; it changes the speed only. devices: that share the work (default: all of
    this process).
    """

    def __init__(
        self,
        graphdef: nnx.GraphDef,
        params: Params,
        compute: Compute,
        prepare: Preparation,
        *,
        batch: int = 16,
        devices: Sequence[Any] | None = None,
    ):
        if batch < 1:
            raise StoryjaxError(f"expected a batch of 1 picture or more, got {batch}")
        self._mesh = Mesh(np.array(devices or jax.local_devices()), ("data",))
        on_cpu = self._mesh.devices.flat[0].platform == "cpu"
        self.prepare, self.batch = prepare, min(batch, 2) if on_cpu else batch
        # One picture keeps no more than about one core busy: several calls at a time keep them all.
        self._together = 2 * (os.cpu_count() or 1) if on_cpu and self._mesh.size == 1 else 2
        self._graphdef, self._compute = graphdef, compute
        self._compiled: set[tuple[int, ...]] = set()  # for pictures of these shapes
        self._params = jax.device_put(params, NamedSharding(self._mesh, P()))

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Errors: other than uint8 of shape (N, ..., H, W, 3)."""
        pictures = np.asarray(pictures)
        if pictures.dtype != np.uint8 or pictures.ndim < 4 or pictures.shape[-1] != 3:
            raise StoryjaxError(
                f"expected pictures as uint8 of shape (N, H, W, 3), or clips (N, T, H, W, 3), got {pictures.dtype} "
                f"{pictures.shape}; values are 0 to 255"
            )
        step = self.batch * self._mesh.size
        parts = [pictures[start : start + step] for start in range(0, max(len(pictures), 1), step)]
        found = []
        if pictures.shape[1:] not in self._compiled:  # alone, or several would compile the same
            found.append(self._rows(parts.pop(0), step))
            self._compiled.add(pictures.shape[1:])
        with futures.ThreadPoolExecutor(self._together) as pool:
            found += pool.map(lambda part: self._rows(part, step), parts)
        return np.concatenate(found)

    def _rows(self, part: np.ndarray, step: int) -> np.ndarray:
        return np.asarray(self._run(part, step))[: len(part)]

    def _run(self, part: np.ndarray, step: int) -> jax.Array:
        filled = np.concatenate([part, np.zeros((step - len(part), *part.shape[1:]), np.uint8)])
        counts = np.clip(len(part) - self.batch * np.arange(self._mesh.size), 0, self.batch)  # of each device
        placed, counts = jax.device_put((filled, counts.astype(np.int32)), NamedSharding(self._mesh, P("data")))
        with jax.set_mesh(self._mesh), jax.default_matmul_precision("highest"):
            return _features(self._graphdef, self._compute, self.prepare, self._mesh, self._params, placed, counts)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _features(
    graphdef: nnx.GraphDef,
    compute: Compute,
    prepare: Preparation,
    mesh: Mesh,
    params: Params,
    pictures: jax.Array,
    counts: jax.Array,
) -> jax.Array:
    """Each device computes its own share, by a program that is the same for any number of devices."""

    def rows(params: Params, pictures: jax.Array) -> jax.Array:
        return compute(bind(graphdef, params), prepare(pictures)).astype(jnp.float32)

    def share(params: Params, pictures: jax.Array, counts: jax.Array) -> jax.Array:
        if mesh.devices.flat[0].platform != "cpu":
            return rows(params, pictures)
        found = jax.eval_shape(rows, params, pictures)

        def one(i: jax.Array, found: jax.Array) -> jax.Array:
            return found.at[i].set(rows(params, jax.lax.dynamic_slice_in_dim(pictures, i, 1))[0])

        return jax.lax.fori_loop(0, counts[0], one, jnp.zeros(found.shape, found.dtype))

    specs = (P(), P("data"), P("data"))
    run = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=P("data"), check_vma=False)
    return run(params, pictures, counts)
