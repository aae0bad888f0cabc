"""Programs for chips that are not there: what JAX hands to the compiler of an accelerator."""

import jax
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

TPUS = ("TPU v5 lite", "TPU v4", "TPU v5", "TPU v6 lite")
GPU = "NVIDIA H200"


def every_shape_and_every_tpu(names):
    """(shape, chip) pairs: all shapes for one chip, one shape for the others."""
    first, *_ = names = list(names)
    return [(name, TPUS[0]) for name in names] + [(first, kind) for kind in TPUS[1:]]


def lowered_for_tpu(function, *shapes, kind="TPU v5 lite"):
    """The program's text; raises what the lowering of a kernel raises for that chip."""
    return _lowered(function, shapes, "tpu", AbstractDevice(device_kind=kind, num_cores=1, platform="tpu"))


def lowered_for_cuda(function, *shapes):
    """The program's text for an NVIDIA GPU."""
    return _lowered(function, shapes, "cuda", AbstractDevice(device_kind=GPU, num_cores=None, platform="cuda"))


def _lowered(function, shapes, platform, device):
    mesh = AbstractMesh((1,), ("x",), axis_types=(AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.jit(function).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()


def there_and_back(attend):
    """(q, k, v, gradient of the output) -> the output and the gradients, so that no pass is left out of the program."""

    def both(q, k, v, d_out):
        out, back = jax.vjp(attend, q, k, v)
        return out, back(d_out)

    return both


def as_if_cudnn_were_here(monkeypatch):
    """JAX asks the machine, not the device that is lowered for, which cuDNN it has and how old its GPU is."""
    fused = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    answers = {"check_cudnn_version": lambda: 91200, "check_compute_capability": lambda _: True}
    if not all(hasattr(fused, name) for name in answers):
        pytest.skip("this JAX asks for its cuDNN in another way")
    for name, answer in answers.items():
        monkeypatch.setattr(fused, name, answer)
