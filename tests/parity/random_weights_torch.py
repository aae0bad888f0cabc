"""Random weights for networks of any PyTorch library."""

import torch
from torch import Tensor, nn


def randomise(network: nn.Module, seed: int = 0) -> None:
    """Gives every parameter a random value, also those that usually start at zero or one: nothing hides behind them."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        for name, empty in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(_random(name, empty.shape, generator)))


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if name == "freqs":
        return 10000.0 ** (-torch.arange(len(noise)) / len(noise)) * (1 + 0.2 * noise.tanh())
    if name == "alpha":
        return 0.5 + 0.4 * noise.tanh()
    if noise.ndim == 1:
        return 0.1 * noise + (name == "weight")  # of a norm; else a bias
    return noise.mul_(0.5 if name == "pos_embed" else 0.7 / noise[0].numel() ** 0.5)
