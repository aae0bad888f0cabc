"""Spatially-enhanced temporal attention (SETA) at the sizes of the full ContextualStory, 256x256 pixels.

PyTorch's side collects the neighbours of every pixel, as the published code does, and uses its fused attention on them.
"""

from typing import Any, NamedTuple

import jax

from benchmarks import torch_sides
from benchmarks.measure import Row, Setting, Side, compare
from benchmarks.sides import normal
from benchmarks.suite.attention import every_implementation
from storyjax.kernels.story_attention import story_attention
from storyjax.kernels.story_attention.api import IMPLEMENTATIONS


class Level(NamedTuple):
    """q, k and v are (stories, frames, side, side, heads, depth)."""

    frames: int
    side: int
    heads: int
    depth: int


FULL = (Level(5, 32, 8, 40), Level(5, 16, 8, 80), Level(5, 8, 8, 160))
TINY = (Level(3, 4, 2, 8),)


def run(setting: Setting) -> list[Row]:
    """Neighbourhood attention of ContextualStory alone, forward and with gradients, at the levels of its UNet."""
    rows: list[Row] = []
    stories = setting.batch or (6 if setting.full else 1)
    for level in FULL if setting.full else TINY:
        for gradient in (False, True):
            given = [normal(setting.dtype, stories, *_shape(level), seed=seed) for seed in range(3)]
            sides = every_implementation(setting, story_attention, IMPLEMENTATIONS, given, gradient)
            if setting.against:
                sides.append(_torch(setting, given, gradient))
            conditions = {
                "stories": stories,
                "latents": f"{level.side}x{level.side}",
                "heads": f"{level.heads}x{level.depth}",
            }
            rows += compare(f"SETA, {'with gradients' if gradient else 'forward'}", sides, setting, conditions)
    return rows


def _shape(level: Level) -> tuple[int, ...]:
    return (level.frames, level.side, level.side, level.heads, level.depth)


def _torch(setting: Setting, given: list[jax.Array], gradient: bool) -> Side:
    import torch
    from torch.nn import functional

    q, k, v = (torch_sides.tensor(x, setting.dtype).requires_grad_(gradient) for x in given)
    frames = q.shape[1]
    frame = torch.arange(frames, device=q.device)
    key_frame = torch.cat([frame, frame.repeat_interleave(8)])
    visible = (torch.arange(9 * frames, device=q.device) < frames) | (key_frame != frame[:, None])

    def start() -> Any:
        own = q.permute(0, 2, 3, 4, 1, 5).flatten(0, 2)  # (B H W, N, F, D)
        out = functional.scaled_dot_product_attention(own, _window(k), _window(v), attn_mask=visible)
        return torch.autograd.grad((out.float() * own.float()).sum(), [q, k, v]) if gradient else out

    return torch_sides.torch_side("PyTorch, collected and fused", start)


def _window(x: Any) -> Any:
    """(B, F, H, W, N, D) -> (B H W, N, 9 F, D): each pixel's own key in every frame, then its eight neighbours'."""
    import torch

    from tests.parity.contextual_story_blocks_torch import eight_neighbours

    stories, frames, height, width, heads, depth = x.shape
    images = x.flatten(4).flatten(0, 1).permute(0, 3, 1, 2)
    around = eight_neighbours(images).reshape(stories, frames, 8, heads, depth, height, width)
    around = around.permute(0, 5, 6, 3, 1, 2, 4).reshape(-1, heads, 8 * frames, depth)
    own = x.permute(0, 2, 3, 4, 1, 5).reshape(-1, heads, frames, depth)
    return torch.cat([own, around], dim=2)
