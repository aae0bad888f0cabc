"""How many operations a program does, counted in its jaxpr: on shapes alone, so that a network of any size is counted in seconds.

    matrix product     2 x batch x rows x columns x inner
    convolution        2 x output numbers x kernel pixels x input channels of a group / dilation of the input
    loop of known length: its body times the length; branches: the largest
    Pallas kernel: what its cost estimate says; of ours (`storyjax/kernels/cost.py`) without what another has computed before

One multiply-accumulate is two operations. Norms, activations, softmax and additions are not counted: memory bounds them. The zeros
of padding count, as they do wherever such numbers are published; those that spread a strided convolution's gradient do not.

Utilisation is the share of the device's dense bfloat16 peak: "mfu" (model) where every operation is needed, "hfu" (hardware) where
activations are computed twice to save memory (Chowdhery et al. 2022, appendix B).
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import jax

# Dense bfloat16 peaks of the makers' data sheets, in 10^12 operations a second, by a device's kind; the first match counts.
PEAKS: tuple[tuple[str, float], ...] = (
    (r"H[12]00 NVL", 835.0),
    (r"H100 PCIe", 756.0),
    (r"H200", 989.0),
    (r"H100", 989.0),
    (r"A100", 312.0),
    (r"TPU v4$", 275.0),
    (r"TPU v5( lite|e)", 197.0),
    (r"TPU v5p?$", 459.0),
    (r"TPU v6( lite|e)", 918.0),
)


@dataclasses.dataclass(frozen=True)
class Flops:
    """Operations of one run of a program, on all its devices together."""

    matmul: int = 0
    conv: int = 0
    kernel: int = 0  # of Pallas kernels and of cuDNN's attention
    recomputes: bool = False  # some of them only because activations were not kept
    notes: tuple[str, ...] = ()  # what could not be counted exactly

    @property
    def total(self) -> int:
        return self.matmul + self.conv + self.kernel

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(
            self.matmul + other.matmul,
            self.conv + other.conv,
            self.kernel + other.kernel,
            self.recomputes or other.recomputes,
            tuple(dict.fromkeys(self.notes + other.notes)),
        )

    def times(self, number: int) -> "Flops":
        """The same, `number` times over."""
        return dataclasses.replace(
            self, matmul=number * self.matmul, conv=number * self.conv, kernel=number * self.kernel
        )

    def with_note(self, note: str) -> "Flops":
        return dataclasses.replace(self, notes=tuple(dict.fromkeys((*self.notes, note))))

    def __str__(self) -> str:
        return "; ".join((f"{self.total / 1e12:.4g} TFLOP", *self.notes))


def count_flops(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Flops:
    """Operations of `function(*args, **kwargs)`; arguments may be jax.ShapeDtypeStruct. Nothing is computed or compiled."""
    return count_jaxpr(jax.make_jaxpr(function)(*args, **kwargs))


def count_jaxpr(jaxpr: Any) -> Flops:
    """Operations of a jaxpr, closed or not, such as `jax.jit(f).trace(...).jaxpr`."""
    return sum((_equation(equation) for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns), Flops())


def peak_flops(device_kind: str | None = None) -> float | None:
    """Operations a second of one device (default: the first here); None where no data sheet is known, as for a CPU."""
    kind = jax.devices()[0].device_kind if device_kind is None else device_kind
    return next((1e12 * peak for pattern, peak in PEAKS if re.search(pattern, kind)), None)


def utilisation(flops: Flops, seconds: float, devices: int = 1, device_kind: str | None = None) -> float | None:
    """The share of the peak at which `devices` devices do `flops` in `seconds`; None where the peak is unknown."""
    peak = peak_flops(device_kind)
    return None if peak is None else flops.total / (seconds * devices * peak)


def speed_row(flops: Flops, seconds: float, devices: int = 1, device_kind: str | None = None) -> dict[str, float]:
    """What a log says of a step of `seconds`: `tflop_per_step`, and `mfu` (or `hfu`) where the device's peak is known."""
    share = utilisation(flops, seconds, devices, device_kind)
    row = {"tflop_per_step": flops.total / 1e12}
    return row if share is None else row | {"hfu" if flops.recomputes else "mfu": share}


# ----- one equation --------------------------------------------------------------------------------------------------


def _equation(equation: Any) -> Flops:
    name = equation.primitive.name
    if name in _RULES:
        return _RULES[name](equation)
    if name in _OPAQUE:
        return Flops(notes=(f"what {name} does was not counted",))
    inner = sum((count_jaxpr(jaxpr) for jaxpr in _inside(equation.params)), Flops())
    # A checkpointed function in a backward pass: the forward pass once more, then its gradient.
    again = bool(equation.params.get("differentiated")) and inner.total > 0
    return dataclasses.replace(inner, recomputes=inner.recomputes or again)


def _inside(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs among an equation's parameters, of calls, checkpoints and custom derivatives alike."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(one, "jaxpr", one)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr


def _shapes(equation: Any) -> list[tuple[int, ...]]:
    return [getattr(variable.aval, "shape", ()) for variable in equation.invars]


def _dot_general(equation: Any) -> Flops:
    (inner, _), _ = equation.params["dimension_numbers"]
    left, _ = _shapes(equation)[:2]
    return Flops(matmul=2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in inner))


def _convolution(equation: Any) -> Flops:
    _, kernel = _shapes(equation)[:2]
    _, inputs, *pixels = equation.params["dimension_numbers"].rhs_spec
    each = kernel[inputs] * math.prod(kernel[axis] for axis in pixels)
    return Flops(conv=2 * equation.outvars[0].aval.size * each // math.prod(equation.params["lhs_dilation"]))


def _scan(equation: Any) -> Flops:
    return count_jaxpr(equation.params["jaxpr"]).times(equation.params["length"])


def _while(equation: Any) -> Flops:
    once = count_jaxpr(equation.params["body_jaxpr"]) + count_jaxpr(equation.params["cond_jaxpr"])
    return once.with_note("a while loop of unknown length was counted as one round") if once.total else once


def _cond(equation: Any) -> Flops:
    return max((count_jaxpr(branch) for branch in equation.params["branches"]), key=lambda flops: flops.total)


def _shard_map(equation: Any) -> Flops:
    """The body is one device's share along the manual axes."""
    mesh = equation.params["mesh"]
    manual = equation.params.get("newly_manual_axes", equation.params.get("manual_axes", mesh.axis_names))
    shares = math.prod(mesh.shape[axis] for axis in manual)
    return count_jaxpr(equation.params["jaxpr"]).times(shares)


def _pallas_call(equation: Any) -> Flops:
    estimate = equation.params.get("cost_estimate")
    if estimate is not None:
        share = dict(equation.params.get("metadata") or {}).get("needed_products", 1)
        return Flops(kernel=int(estimate.flops * Fraction(share)))
    rounds = math.prod(size if isinstance(size, int) else 1 for size in equation.params["grid_mapping"].grid)
    body = count_jaxpr(equation.params["jaxpr"]).times(rounds)
    whole = Flops(kernel=body.total, notes=body.notes)
    return whole.with_note("a Pallas kernel without a cost estimate was counted by its body") if whole.total else whole


def _cudnn_attention(products: int) -> Callable[[Any], Flops]:
    """Fused attention (B, L, N, D): as many products of the size of q k^T as the unfused form has, which computes none twice."""

    def rule(equation: Any) -> Flops:
        q, k = _shapes(equation)[:2]
        length = k[2] if int(equation.params.get("layout", 0)) else k[1]  # layout 1: heads before tokens
        return Flops(kernel=2 * products * math.prod(q) * length)

    return rule


_RULES: dict[str, Callable[[Any], Flops]] = {
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "shard_map": _shard_map,
    "pallas_call": _pallas_call,
    "dot_product_attention_fwd_wrapper": _cudnn_attention(2),
    "dot_product_attention_bwd_wrapper": _cudnn_attention(4),
}
_OPAQUE = ("ffi_call", "pure_callback", "io_callback", "ragged_dot_general")
