"""A training step in PyTorch as its users write it for speed: autocast, fused AdamW, moving averages in one call."""

from collections.abc import Callable
from typing import Any

from benchmarks import torch_sides
from benchmarks.measure import Setting, Side

RATE, DECAY = 1e-4, 0.9999


def training_sides(setting: Setting, model: Any, loss: Callable[[Any], Any]) -> list[Side]:
    """One optimizer step in every way that the setting asks for; `loss(model)` draws what it needs and gives a scalar.

    The same as storyjax's step: float32 masters, gradients clipped to norm 1, AdamW, averages of all parameters. The ways share
    one model and go on from each other's steps.
    """
    import torch

    params = list(model.requires_grad_(True).parameters())
    averages = [param.detach().clone() for param in params]
    optimizer = torch.optim.AdamW(params, lr=RATE, weight_decay=0.01, fused=True)

    def side(kind: str) -> Side:
        called = torch_sides.compiled(model) if kind == "compile" else model

        def start() -> None:
            with torch_sides.precision(setting):
                value = loss(called)
            value.backward()
            torch.nn.utils.clip_grad_norm_(params, 1.0, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            with torch.no_grad():
                torch._foreach_lerp_(averages, params, 1 - DECAY)

        return torch_sides.torch_side(torch_sides.NAMES[kind], start)

    return [side(kind) for kind in setting.against]


def noised(latents: Any) -> tuple[Any, Any, Any]:
    """Latents (B, ...) at random timesteps, their noise, and the timesteps (B,): Stable Diffusion's schedule."""
    import torch

    device = latents.device
    abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, device=device) ** 2, 0)
    times = torch.randint(0, 1000, (len(latents),), device=device)
    noise = torch.randn_like(latents)
    share = abar[times].reshape(-1, *[1] * (latents.ndim - 1))
    return share.sqrt() * latents + (1 - share).sqrt() * noise, noise, times
