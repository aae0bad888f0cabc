"""The few named places where activations are laid out on the mesh; without a mesh each is the identity.

The networks say what an array is ("frames of all stories"), this table says over which axes that is divided. The compiler
fills in everything between the named places.
"""

import math

import jax
from jax.sharding import PartitionSpec as P

from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.parallel.mesh import STORIES

# Mesh axes of the leading axes of an array; the axes that follow are whole.
LAYOUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "stories": (STORIES,),  # (B, ...)
    "story_frames": (STORIES, ("frame",)),  # (B, F, ...)
    "frames": ((*STORIES, "frame"),),  # (B F, ...): rows of the spatial network, which never look at each other
    "micro_batches": ((), STORIES),  # (A, B / A, ...)
    "inner_halves": (
        (),
        (),
        ("tensor",),
    ),  # kernel (C, 2, inner) of a gated feed-forward: each device has columns of both
    "everywhere": (),  # a copy on every device, such as what a person is to see
}


def lay_out(x: jax.Array, name: str) -> jax.Array:
    """`x` in the named layout, where a mesh is current (`jax.set_mesh`); an axis that does not divide is left whole."""
    if name not in LAYOUTS:
        raise StoryjaxError(f"there is no layout '{name}'{nearest(name, list(LAYOUTS))}")
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    wanted = LAYOUTS[name][: x.ndim]
    spec = P(*(_dividing(size, axes, mesh.shape) for size, axes in zip(x.shape, wanted)))
    return jax.lax.with_sharding_constraint(x, spec)


def _dividing(size: int, axes: tuple[str, ...], mesh: dict[str, int]) -> tuple[str, ...] | None:
    """As many of the axes, from the first on, as divide `size` together."""
    for count in range(len(axes), 0, -1):
        if size % math.prod(mesh[axis] for axis in axes[:count]) == 0:
            return axes[:count]
    return None
