"""Inception-v3 for FID in PyTorch's own layers, module for module as pytorch-fid runs it: what its features cost there."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from storyjax.models.inception import EPS, POOLS_AFTER, STEM, blocks


def _unit(inputs: int, unit: Any) -> nn.Sequential:
    _, outputs, kernel, stride, padding = unit
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=EPS), nn.ReLU(inplace=True))


class _Block(nn.Module):
    def __init__(self, inputs: int, branches: Any):
        super().__init__()
        self.branches, self.units, self.outputs = branches, nn.ModuleDict(), 0
        for _, steps in branches:
            width = inputs
            for step in steps:
                side_by_side = [step] if isinstance(step, tuple) else step
                self.units.update({unit[0]: _unit(width, unit) for unit in side_by_side})
                width = sum(unit[1] for unit in side_by_side)
            self.outputs += width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = []
        for pool, steps in self.branches:
            y = x
            if pool == "average":
                y = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
            elif pool is not None:
                y = functional.max_pool2d(x, 3, stride=1 if pool == "max" else 2, padding=1 if pool == "max" else 0)
            for step in steps:
                side_by_side = [step] if isinstance(step, tuple) else step
                parts = [self.units[unit[0]](y) for unit in side_by_side]
                y = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
            found.append(y)
        return torch.cat(found, 1)


class TorchInception(nn.Module):
    """Pictures (N, 3, H, W) in -1..1 -> pooled features (N, 2048); random weights, in inference form."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for unit in STEM:
            layers.append(_unit(width, unit))
            width = unit[1]
            if unit[0] in POOLS_AFTER:
                layers.append(nn.MaxPool2d(3, stride=2))
        for branches in blocks("fid").values():
            block = _Block(width, branches)
            layers.append(block)
            width = block.outputs
        self.layers = nn.Sequential(*layers)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for tensor in self.parameters():
                if tensor.ndim == 4:
                    tensor.normal_(std=math.sqrt(2 / tensor[0].numel()), generator=generator)
        self.eval().requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).mean((2, 3))
