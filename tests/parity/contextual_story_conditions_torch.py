"""What ContextualStory's UNet is told, in PyTorch: captions that know each other, and how much the pictures change."""

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional

from tests.parity.contextual_story_blocks_torch import Attention


class TextBlock(nn.Module):
    """Pre-norm self-attention and feed-forward of the storyline contextualizer; there is no second attention."""

    def __init__(self, width: int, heads: int, frequencies: int):
        super().__init__()
        rotary = {"rotary": "head", "frequencies": frequencies} if frequencies else {}
        self.norm1, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn1 = Attention(width, heads, **rotary)
        self.ff = FeedForward(width, activation_fn="geglu")

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        return x + self.ff(self.norm3(x))


class TextLayer(nn.Module):
    """Block 0 over all tokens of a story, block 1 over the frames of a token."""

    def __init__(self, width: int, heads: int, frequencies: int):
        super().__init__()
        self.transformer_blocks = nn.ModuleList([TextBlock(width, heads, 0), TextBlock(width, heads, frequencies)])

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[1]
        x = self.transformer_blocks[0](x.flatten(1, 2)).unflatten(1, (frames, -1))
        by_token = self.transformer_blocks[1](x.transpose(1, 2).flatten(0, 1))
        return by_token.unflatten(0, (len(x), -1)).transpose(1, 2)


class Contextualizer(nn.Module):
    """The storyline contextualizer (`text_adapter`): captions of a story see each other. Frequencies: 16, head width 128."""

    def __init__(self, width: int, heads: int, layers: int, frames: int, positions: int, frequencies: int = 16):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, frames, positions, width))
        self.trf_blocks = nn.ModuleList(TextLayer(width, heads, frequencies) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, text: Tensor) -> Tensor:
        """(B, F, L, D) -> the same."""
        x = text + self.pos_embed[:, :, : text.shape[2]]
        for layer in self.trf_blocks:
            x = layer(x)
        return self.norm(x) + text


class MotionEmbedding(nn.Sequential):
    """The StoryFlow adapter (`msim_embedding`): change between neighbouring frames into the time embedding's width."""

    def __init__(self, inputs: int, width: int):
        super().__init__(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, motion: Tensor, frames: int) -> Tensor:
        """(rows, F - 1), or F values as they are, -> (rows, F, width); it is the sinusoids that are interpolated."""
        waves = sinusoid(motion.flatten().float(), self[0].in_features).unflatten(0, motion.shape)
        if motion.shape[1] != frames:
            waves = functional.interpolate(waves.transpose(1, 2), frames, mode="linear", align_corners=False)
            waves = waves.transpose(1, 2)
        return super().forward(waves)


def sinusoid(values: Tensor, width: int) -> Tensor:
    """(n,) -> (n, width): cosines, then sines."""
    return get_timestep_embedding(values, width, flip_sin_to_cos=True, downscale_freq_shift=0)
