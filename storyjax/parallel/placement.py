"""What a training run asks of the mesh: where its state lies, which stories this process reads, how they become one batch."""

import dataclasses
import functools
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from storyjax.parallel.mesh import STORIES, make_mesh, shape_of
from storyjax.parallel.rules import shardings


@dataclasses.dataclass(frozen=True)
class Placement:
    """A mesh and the questions a run has for it; the same answers on one device and on many processes."""

    mesh: Mesh

    @classmethod
    def of(cls, mesh: "Mesh | str | None" = None) -> "Placement":
        """Of a mesh, of its text, or (None) of all devices side by side over the stories."""
        return cls(mesh if isinstance(mesh, Mesh) else make_mesh(mesh or "data=-1"))

    def __str__(self) -> str:
        devices = f"{self.mesh.size} {self.mesh.devices.flat[0].device_kind} device{'s' if self.mesh.size > 1 else ''}"
        return devices if self.mesh.size == 1 else f"{devices}, mesh {shape_of(self.mesh)}"

    @property
    def everywhere(self) -> NamedSharding:
        """A copy on every device."""
        return NamedSharding(self.mesh, P())

    @property
    def stories(self) -> NamedSharding:
        """The leading axis divided over the shares of a batch."""
        return NamedSharding(self.mesh, P(STORIES))

    def current(self) -> AbstractContextManager:
        """Within it, what is traced is laid out on this mesh (`layouts.py`)."""
        return jax.set_mesh(self.mesh)

    def shardings(self, tree: Any) -> Any:
        """A sharding for every leaf, by the table of `rules.py`."""
        return shardings(tree, self.mesh)

    def targets(self, tree: Any) -> Any:
        """The same leaves as ShapeDtypeStructs that know where they lie: what a checkpoint is restored into."""
        return jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            tree,
            self.shardings(tree),
        )

    def put(self, tree: Any) -> Any:
        """Host arrays (or arrays of one device) onto the mesh, each device getting its own part only."""

        def one(leaf: Any, place: NamedSharding) -> jax.Array:
            if self.mesh.size == 1:
                return jax.device_put(leaf, place)
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, place, lambda index: host[index])

        return jax.tree.map(one, tree, self.shardings(tree))

    def rows(self, batch_size: int) -> tuple[int, ...]:
        """The rows of each global batch that the devices of this process hold, in ascending order."""
        return _rows(self.stories, batch_size)

    def batch(self, local: dict[str, np.ndarray], batch_size: int) -> dict[str, jax.Array]:
        """The global batch of `batch_size` rows, from the rows of this process (those of `rows`, in that order)."""
        place = {row: position for position, row in enumerate(self.rows(batch_size))}

        def one(value: np.ndarray) -> jax.Array:
            def part(index: Any) -> np.ndarray:
                first, end, _ = index[0].indices(batch_size)
                return value[place[first] : place[first] + end - first]

            return jax.make_array_from_callback((batch_size, *value.shape[1:]), self.stories, part)

        return {name: one(_as_jax(value)) for name, value in local.items()}


@functools.cache
def _rows(sharding: NamedSharding, batch_size: int) -> tuple[int, ...]:
    spans = sharding.addressable_devices_indices_map((batch_size,)).values()
    return tuple(sorted({row for span in spans if span for row in range(*span[0].indices(batch_size))}))


def _as_jax(value: np.ndarray) -> np.ndarray:
    """In the dtype JAX would give it: 64 bits become 32."""
    value = np.asarray(value)
    return value.astype(jax.dtypes.canonicalize_dtype(value.dtype), copy=False)
