"""ContextualStory's own blocks in PyTorch, a second implementation to hold storyjax against.

Written from a description of the published network and its list of tensors, without storyjax's code: where the JAX side
projects once and gathers, this side gathers every key and projects it; where the JAX side keeps channels last, this side
keeps PyTorch's layout. Modules and parameters carry the published checkpoint's names, tensors that never count included, so a
`state_dict` is a checkpoint. The residual block, the samplers, the feed-forward network and the sinusoids are diffusers' own.

Shapes: B stories of F frames are N = B F images, story by story; C channels, H x W pixels.
"""

import torch
from diffusers.models.attention import FeedForward
from torch import Tensor, nn
from torch.nn import functional

DEAD_TIME_WIDTH, DEAD_BIAS_SHAPE = 512, (32, 8)  # of tensors that are stored and never used


class Frequencies(nn.Module):
    """Rotary frequencies as a parameter: the published models trained them."""

    def __init__(self, count: int):
        super().__init__()
        self.freqs = nn.Parameter(10000.0 ** (-torch.arange(count) / count))

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (..., L, D) with its first 2 x count channels turned, neighbours (2j, 2j + 1) by position x frequency j."""
        angles = positions[:, None] * self.freqs
        turned = 2 * len(self.freqs)
        even, odd = x[..., 0:turned:2], x[..., 1:turned:2]
        cosine, sine = angles.cos(), angles.sin()
        pairs = torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], dim=-1)
        return torch.cat([pairs.flatten(-2), x[..., turned:]], dim=-1)


class DeadBias(nn.Module):
    def __init__(self):
        super().__init__()
        self.relative_attention_bias = nn.Embedding(*DEAD_BIAS_SHAPE)


class DeadPositions(nn.Module):
    def __init__(self):
        super().__init__()
        self.dummy = nn.Parameter(torch.rand(1))


class Attention(nn.Module):
    """Multi-head attention written out: no bias on q, k and v, one on the output.

    rotary: "inner" turns q and k before the heads are split, "head" after; frequencies: how many.
    """

    def __init__(self, width: int, heads: int, context: int | None = None, rotary: str = "", frequencies: int = 0):
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context or width, width, bias=False)
        self.to_v = nn.Linear(context or width, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        if rotary:
            self.rotary_emb = Frequencies(frequencies)

    def forward(self, x: Tensor, keys: Tensor | None = None, key_positions: Tensor | None = None, mask=None) -> Tensor:
        """x (S, L, width) attends to keys (S, K, context), itself without; mask (L, K), True where it may look."""
        keys = x if keys is None else keys
        q, k, v = self.to_q(x), self.to_k(keys), self.to_v(keys)
        positions = torch.arange(x.shape[1], device=x.device)
        key_positions = positions if key_positions is None else key_positions
        if self.rotary == "inner":
            q, k = self.rotary_emb(q, positions), self.rotary_emb(k, key_positions)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        if self.rotary == "head":
            q, k = self.rotary_emb(q, positions), self.rotary_emb(k, key_positions)
        return self.to_out[0](self.attend(q, k, v, mask).transpose(1, 2).flatten(-2))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """softmax(q k^T / sqrt(D)) v, written out; (S, N, L, D) and (S, N, K, D)."""
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(dim=-1) @ v


class TemporalConvolution(nn.Module):
    """Two convolutions along the frames behind a gate (`conv3ds`). The group count is fixed in the published code."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.norm1, self.norm2 = nn.GroupNorm(groups, width, eps=1e-6), nn.GroupNorm(groups, width, eps=1e-6)
        self.conv1 = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0))
        self.conv2 = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0))
        self.time_emb_proj = nn.Linear(DEAD_TIME_WIDTH, width)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(N, C, H, W) -> the same; statistics are an image's own."""
        h = x
        for norm, conv in ((self.norm1, self.conv1), (self.norm2, self.conv2)):
            h = functional.silu(norm(h)).unflatten(0, (-1, frames)).transpose(1, 2)
            h = conv(h).transpose(1, 2).flatten(0, 1)
        return gate(self.alpha, x, x + h)


class TemporalBlock(nn.Module):
    """Attention along the frames, twice, and a feed-forward network. `neighbours`: of the blocks outside the middle."""

    def __init__(self, width: int, heads: int, neighbours: bool):
        super().__init__()
        self.neighbours = neighbours
        rotary = {"rotary": "inner", "frequencies": width // 4} if neighbours else {}
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1, self.attn2 = Attention(width, heads, **rotary), Attention(width, heads, **rotary)
        for attention in (self.attn1, self.attn2):
            if neighbours:
                attention.rotary_bias = DeadBias()
            else:
                attention.pos_enc = DeadPositions()
        self.ff = FeedForward(width, activation_fn="geglu")

    def forward(self, y: Tensor, frames: int, height: int, width: int) -> Tensor:
        """y (N, H W, C) -> the same."""
        y = y + self.first(self.norm1(y), frames, height, width)
        y = y + along_frames(lambda z: self.attn2(self.placed(z)), self.norm2(y), frames)
        return y + self.ff(self.norm3(y))

    def placed(self, z: Tensor) -> Tensor:
        """Sequences (S, F, C), in the middle block with their sinusoids; the other blocks turn q and k instead."""
        return z if self.neighbours else z + middle_positions(z)

    def first(self, z: Tensor, frames: int, height: int, width: int) -> Tensor:
        if not self.neighbours:
            return along_frames(lambda s: self.attn1(self.placed(s)), z, frames)
        own = z.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)  # (B H W, F, C)
        images = z.transpose(1, 2).unflatten(-1, (height, width))
        around = eight_neighbours(images).unflatten(0, (-1, frames))  # (B, F, 8, C, H, W)
        around = around.permute(0, 4, 5, 1, 2, 3).flatten(3, 4).flatten(0, 2)  # (B H W, 8 F, C)
        frame = torch.arange(frames, device=z.device)
        key_frame = torch.cat([frame, frame.repeat_interleave(8)])
        is_neighbour = torch.arange(9 * frames, device=z.device) >= frames
        mask = ~(is_neighbour & (key_frame == frame[:, None]))
        out = self.attn1(own, torch.cat([own, around], dim=1), key_frame, mask)
        return out.unflatten(0, (-1, height * width)).transpose(1, 2).flatten(0, 1)


class TemporalTransformer(nn.Module):
    """`tempo_attns`: norm and projections of a spatial transformer around a temporal block, behind a gate."""

    def __init__(self, width: int, heads: int, groups: int, neighbours: bool):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(width, width), nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(width, heads, neighbours)])

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(N, C, H, W) -> the same."""
        y = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        y = self.proj_out(self.transformer_blocks[0](y, frames, *x.shape[2:]))
        return gate(self.alpha, x, y.transpose(1, 2).unflatten(-1, x.shape[2:]) + x)


class SpatialBlock(nn.Module):
    """Self-attention, attention to the text, feed-forward. `first_frame`: also look at frame 0 of the story."""

    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1, self.attn2 = Attention(width, heads), Attention(width, heads, context)
        self.ff = FeedForward(width, activation_fn="geglu")

    def forward(self, y: Tensor, context: Tensor, frames: int, first_frame: bool) -> Tensor:
        z = self.norm1(y)
        keys = z
        if first_frame:
            of_story = z.unflatten(0, (-1, frames))[:, :1].expand(-1, frames, -1, -1).flatten(0, 1)
            keys = torch.cat([z, of_story], dim=1)
        y = y + self.attn1(z, keys)
        y = y + self.attn2(self.norm2(y), context)
        return y + self.ff(self.norm3(y))


class SpatialTransformer(nn.Module):
    """Stable Diffusion's transformer over one image (`attentions`), with linear projections."""

    def __init__(self, width: int, heads: int, groups: int, context: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(width, width), nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(width, heads, context)])

    def forward(self, x: Tensor, context: Tensor, frames: int = 1, first_frame: bool = False) -> Tensor:
        """x (N, C, H, W), context (N, L, D) -> (N, C, H, W)."""
        y = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        y = self.proj_out(self.transformer_blocks[0](y, context, frames, first_frame))
        return y.transpose(1, 2).unflatten(-1, x.shape[2:]) + x


def gate(alpha: Tensor, x: Tensor, changed: Tensor) -> Tensor:
    """alpha x + (1 - alpha) changed; alpha is clamped to [0, 1] for its use, its gradient is that of the unclamped."""
    alpha = alpha + (alpha.clamp(0, 1) - alpha).detach()
    return alpha * x + (1 - alpha) * changed


def along_frames(attend, z: Tensor, frames: int) -> Tensor:
    """(N, H W, C) through `attend` as sequences of frames, one for each pixel."""
    pixels = z.shape[1]
    out = attend(z.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1))
    return out.unflatten(0, (-1, pixels)).transpose(1, 2).flatten(0, 1)


def eight_neighbours(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, 8, C, H, W), row by row without the centre; beyond the border the nearest pixel repeats."""
    height, width = images.shape[2:]
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    shifts = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    return torch.stack([padded[..., y : y + height, x : x + width] for y, x in shifts], dim=1)


def middle_positions(z: Tensor) -> Tensor:
    """(F, C) sinusoids of the middle block: sine and cosine interleaved, frequencies from 1 down to 10000^-0.5 only."""
    frames, channels = z.shape[1:]
    rates = 10000.0 ** (-torch.arange(channels // 2, device=z.device) / channels)
    angles = torch.arange(frames, device=z.device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
