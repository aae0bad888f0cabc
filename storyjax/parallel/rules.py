"""Where each parameter lies on the mesh: a table over its dotted path and its shape.

Tensor parallelism first, by the table: the projections into heads or inner width are cut along their outputs, those back along
their inputs, so that a block needs one sum over devices (Shoeybi et al. 2019, section 3). Then FSDP: of what is left the
largest axis that divides is cut. Small leaves stay whole: to gather them costs more than to keep them. Optimizer state and
averages have paths that end as their parameter's, and so lie where it lies.
"""

import math
import re
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

WHOLE = 1 << 14  # numbers below which a leaf is not cut by FSDP: a norm, a bias

# (end of the dotted path, axis that tensor parallelism cuts); the first match counts.
TENSOR_RULES: tuple[tuple[str, int], ...] = (
    (r"(^|\.)(to_q|to_k|to_v|q_proj|k_proj|v_proj|fc1|ff\.proj_in)\.(kernel|bias)$", -1),
    (r"(^|\.)(to_out|out_proj|fc2|ff\.proj_out)\.kernel$", 0),
)


def spec_for(path: str, shape: tuple[int, ...], mesh: Mesh) -> P:
    """The partition of one leaf. An axis that does not divide is not cut: every model runs on every mesh."""
    cut: list[str | None] = [None] * len(shape)
    tensor, fsdp = mesh.shape["tensor"], mesh.shape["fsdp"]
    if tensor > 1:
        axis = next((axis for pattern, axis in TENSOR_RULES if re.search(pattern, path)), None)
        if axis is not None and shape and shape[axis] % tensor == 0:
            cut[axis] = "tensor"
    if fsdp > 1 and math.prod(shape) >= WHOLE:
        free = [i for i, size in enumerate(shape) if cut[i] is None and size % fsdp == 0]
        if free:
            cut[max(free, key=lambda i: shape[i])] = "fsdp"
    return P(*cut)


def shardings(tree: Any, mesh: Mesh) -> Any:
    """The same tree with a NamedSharding for every leaf (arrays or ShapeDtypeStructs), paths joined by dots."""

    def one(path: Any, leaf: Any) -> NamedSharding:
        dotted = jax.tree_util.keystr(path, simple=True, separator=".")
        return NamedSharding(mesh, spec_for(dotted, tuple(leaf.shape), mesh))

    return jax.tree_util.tree_map_with_path(one, tree)
