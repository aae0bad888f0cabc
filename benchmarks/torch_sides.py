"""PyTorch's side of a benchmark: the same work on the same device, in eager mode and compiled.

Weights are channels last, attention is PyTorch's own fused one: what its users do who want speed. Needs the extra [parity].
"""

import contextlib
import importlib.util
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.measure import Setting, Side
from storyjax.errors import StoryjaxError

NAMES = {"eager": "PyTorch eager", "compile": "PyTorch compile"}


def check_torch(setting: Setting) -> None:
    """Error, before anything long is done, unless the sides that are asked for can run here."""
    if not setting.against:
        return
    if missing := [name for name in ("torch", "diffusers") if importlib.util.find_spec(name) is None]:
        raise StoryjaxError(
            f"the side of PyTorch needs {' and '.join(missing)}: pip install -e '.[parity]' (for a GPU, torch built for it), "
            "or leave that side out with --against none"
        )
    device()


def device() -> str:
    """PyTorch's name of the device that JAX computes on."""
    import torch

    backend = jax.default_backend()
    if backend == "cpu":
        return "cpu"
    if backend == "gpu" and torch.cuda.is_available():
        return "cuda"
    raise StoryjaxError(
        f"JAX computes on '{backend}', where this PyTorch ({torch.__version__}) does not: install a build for it, "
        "run both on the CPU with JAX_PLATFORMS=cpu, or leave PyTorch out with --against none"
    )


def network(case: str, setting: Setting, *, dtype: str | None = None) -> Any:
    """The network of a case of `benchmarks.parity.cases`, with random weights, on the device; `dtype`: of its weights."""
    import torch

    from benchmarks.parity.cases import BY_NAME
    from benchmarks.parity.torch_side import make
    from tests.parity.random_weights_torch import randomise

    if setting.dtype == "float32":  # full precision on both sides
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    model = make(BY_NAME[case], setting.full)
    randomise(model)
    model = model.to(device=device(), dtype=getattr(torch, dtype or setting.dtype))
    if BY_NAME[case].kind == "contextual_story":
        _fuse_attention(model)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model.requires_grad_(False)


def sides(setting: Setting, model: Any, run: Callable[[Any], Any], *, autocast: bool = False) -> list[Side]:
    """`run(model)` without gradients, in every way that the setting asks for."""
    import torch

    def side(kind: str) -> Side:
        called = compiled(model) if kind == "compile" else model

        def start() -> Any:
            with torch.no_grad(), precision(setting) if autocast else contextlib.nullcontext():
                return run(called)

        return torch_side(NAMES[kind], start)

    return [side(kind) for kind in setting.against]


def torch_side(name: str, start: Callable[[], Any]) -> Side:
    """A side that is waited for by an event on a GPU; on a CPU `start` itself takes the time."""
    import torch

    cuda = device() == "cuda"

    def begin() -> Any:
        start()
        if not cuda:
            return None
        event = torch.cuda.Event()
        event.record()
        return event

    def peak() -> int | None:
        if not cuda:
            return None
        torch.cuda.reset_peak_memory_stats()
        start()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()

    return Side(name, begin, lambda event: event and event.synchronize(), ahead=cuda, peak_bytes=peak)


def precision(setting: Setting) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 by autocast, so that what is given in float32 is taken as it is."""
    import torch

    if setting.dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device(), dtype=torch.bfloat16)


def tensor(value: Any, dtype: str | None = None) -> Any:
    """A JAX array as a tensor on the device: pictures (..., H, W, C) as they are, see `channels_first`."""
    import numpy as np
    import torch

    made = torch.from_numpy(np.array(value, np.float32)).to(device())
    return made if dtype is None else made.to(getattr(torch, dtype))


def channels_first(value: Any) -> Any:
    """(N, H, W, C) -> (N, C, H, W), or a story (B, F, H, W, C) -> (B, C, F, H, W), channels last in memory."""
    return value.movedim(-1, 1)


def compiled(model: Any) -> Any:
    """The model through torch.compile, on a GPU with its kernels tuned."""
    import torch

    return torch.compile(model, mode="max-autotune-no-cudagraphs" if device() == "cuda" else "default")


def training_form(model: Any) -> Any:
    """The story network whose call is its training form, so that compiling it compiles the contextualizer too."""
    import torch

    class Trained(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.story = model

        def forward(self, *given: Any) -> Any:
            return self.story.training_form(*given)

    return Trained()


def _fuse_attention(model: Any) -> None:
    """The PyTorch story network writes its attention out to be read; for speed it gets the fused one, the same numbers."""
    from torch.nn import functional

    from tests.parity.contextual_story_blocks_torch import Attention

    def attend(q: Any, k: Any, v: Any, mask: Any) -> Any:
        return functional.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, attn_mask=mask)

    for module in model.modules():
        if isinstance(module, Attention):
            module.attend = attend
