"""Programs for chips that are not there: what JAX hands to the compiler of an accelerator."""

import jax
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

TPUS = ("TPU v5 lite", "TPU v4", "TPU v5", "TPU v6 lite")


def every_shape_and_every_tpu(names):
    """(shape, chip) pairs: all shapes for one chip, one shape for the others."""
    first, *_ = names = list(names)
    return [(name, TPUS[0]) for name in names] + [(first, kind) for kind in TPUS[1:]]


def lowered_for_tpu(function, *shapes, kind="TPU v5 lite"):
    """The program's text; raises what the lowering of a kernel raises for that chip."""
    device = AbstractDevice(device_kind=kind, num_cores=1, platform="tpu")
    mesh = AbstractMesh((1,), ("x",), axis_types=(AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.jit(function).trace(*shapes).lower(lowering_platforms=("tpu",)).as_text()
