"""ContextualStory's UNet in PyTorch, in training and in guided form. Where it comes from: see the file of its blocks."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional

from tests.parity.contextual_story_blocks_torch import SpatialTransformer, TemporalConvolution, TemporalTransformer
from tests.parity.contextual_story_conditions_torch import Contextualizer, MotionEmbedding, sinusoid


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the published constructor is told; the defaults are the published models'."""

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention: tuple[bool, ...] = (True, True, True, False)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    layers: int = 2
    context: int = 1024
    groups: int = 32
    frames: int = 5
    temporal_heads: int = 8
    temporal_convolution_groups: int = 32
    contextualizer_layers: int = 4
    contextualizer_heads: int = 8
    positions: int = 1024
    continuation: bool = False

    def published_config(self, sample_size: int = 64) -> dict[str, Any]:
        """The config.json that such a network is published with: Stable Diffusion 2.1's, and what the paper adds."""
        down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in self.attention]
        up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(self.attention)]
        return {
            "_class_name": "VideoLDMUNet3DConditionModel",
            "sample_size": sample_size,
            "in_channels": 4,
            "out_channels": 4,
            "down_block_types": down,
            "mid_block_type": "UNetMidBlock2DCrossAttn",
            "up_block_types": up,
            "block_out_channels": list(self.channels),
            "layers_per_block": self.layers,
            "attention_head_dim": list(self.heads),
            "cross_attention_dim": self.context,
            "use_linear_projection": True,
            "norm_num_groups": self.groups,
            "norm_eps": 1e-5,
            "act_fn": "silu",
            "downsample_padding": 1,
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "center_input_sample": False,
            "variant": None,
            "n_frames": self.frames,
            "n_temp_heads": self.temporal_heads,
            "augment_temporal_attention": True,
            "temp_pos_embedding": "rotary",
            "use_frame_stride_condition": False,
            "use_motion_condition": True,
            "use_temporal": {"temporal_attn": True, "temporal_conv": True},
            "use_text_cross_attention": "FSText",
            "num_layers_FStext": self.contextualizer_layers,
            "FStext_layer_depth": 2,
            "FStext_layer_temporal": [False, True],
            "FStext_layer_causal": [False, False],
            "zero_init_storyflow_adapter": True,
            "zero_init_FSText": True,
            "first_frame_condition_mode": "conv2d" if self.continuation else "none",
        }


class Layer:
    """How one level of the UNet is built: residual block, temporal convolution, both transformers."""

    def __init__(self, sizes: Sizes, level: int, middle: bool = False):
        self.sizes, self.width, self.heads = sizes, sizes.channels[level], sizes.heads[level]
        self.middle = middle
        self.attends = middle or sizes.attention[level]

    def resnet(self, inputs: int) -> nn.Module:
        groups, time_width = self.sizes.groups, 4 * self.sizes.channels[0]
        return ResnetBlock2D(
            in_channels=inputs, out_channels=self.width, temb_channels=time_width, groups=groups, eps=1e-5
        )

    def temporal_convolution(self) -> nn.Module:
        return TemporalConvolution(self.width, self.sizes.temporal_convolution_groups)

    def transformers(self, count: int) -> tuple[nn.ModuleList, nn.ModuleList]:
        sizes, width = self.sizes, self.width
        temporal_heads = self.heads if self.middle else sizes.temporal_heads
        spatial = (SpatialTransformer(width, self.heads, sizes.groups, sizes.context) for _ in range(count))
        temporal = (TemporalTransformer(width, temporal_heads, sizes.groups, not self.middle) for _ in range(count))
        return nn.ModuleList(spatial), nn.ModuleList(temporal)


class Block(nn.Module):
    """A down, middle or up block. `first_frame_keys`: its spatial attention looks at frame 0 (continuation only)."""

    def __init__(self, layer: Layer, inputs: Sequence[int], entry: int, attentions: int, first_frame_keys: bool):
        super().__init__()
        self.first_frame_keys = first_frame_keys
        self.resnets = nn.ModuleList(layer.resnet(width) for width in inputs)
        self.conv3ds = nn.ModuleList(layer.temporal_convolution() for _ in inputs)
        if layer.attends:
            self.attentions, self.tempo_attns = layer.transformers(attentions)
        if layer.sizes.continuation:
            self.first_frame_conv = nn.Conv2d(4, entry, 1)

    def enter(self, x: Tensor, first_frame: Tensor | None, frames: int) -> Tensor:
        """x with every story's frame 0 overwritten by what its first frame (B, 4, H, W) becomes at this resolution."""
        if first_frame is None:
            return x
        stride = first_frame.shape[-1] // x.shape[-1]
        written = self.first_frame_conv(first_frame[:, :, ::stride, ::stride])
        return torch.cat([written[:, None], x.unflatten(0, (-1, frames))[:, 1:]], dim=1).flatten(0, 1)

    def step(self, j: int, x: Tensor, time: Tensor, frames: int) -> Tensor:
        return self.conv3ds[j](self.resnets[j](x, time), frames)

    def attend(self, j: int, x: Tensor, context: Tensor, frames: int) -> Tensor:
        return self.tempo_attns[j](self.attentions[j](x, context, frames, self.first_frame_keys), frames)


class StoryUNet(nn.Module):
    """The whole network (published class: VideoLDMUNet3DConditionModel)."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        first, last = sizes.channels[0], sizes.channels[-1]
        self.conv_in = nn.Conv2d(4, first, 3, padding=1)
        self.time_embedding = TimestepEmbedding(first, 4 * first)
        self.msim_embedding = MotionEmbedding(first, 4 * first)
        self.text_adapter = Contextualizer(
            sizes.context, sizes.contextualizer_heads, sizes.contextualizer_layers, sizes.frames, sizes.positions
        )
        skips = self._make_down()
        middle = Layer(sizes, -1, middle=True)
        self.mid_block = Block(middle, (last, last), last, 1, sizes.continuation)
        self._make_up(skips)
        self.conv_norm_out = nn.GroupNorm(sizes.groups, first, eps=1e-5)
        self.conv_out = nn.Conv2d(first, 4, 3, padding=1)

    def _make_down(self) -> list[int]:
        """The down blocks; returns the widths of the skips in the order they are pushed."""
        sizes, before = self.sizes, self.sizes.channels[0]
        skips, blocks = [before], []
        for level, width in enumerate(sizes.channels):
            inputs = [before] + [width] * (sizes.layers - 1)
            block = Block(Layer(sizes, level), inputs, before, sizes.layers, first_frame_keys=False)
            skips += [width] * sizes.layers
            if level < len(sizes.channels) - 1:
                block.downsamplers = nn.ModuleList([Downsample2D(width, use_conv=True, padding=1, name="op")])
                skips.append(width)
            blocks.append(block)
            before = width
        self.down_blocks = nn.ModuleList(blocks)
        return skips

    def _make_up(self, skips: list[int]) -> None:
        sizes, before, blocks = self.sizes, self.sizes.channels[-1], []
        for level in reversed(range(len(sizes.channels))):
            width, entry, inputs = sizes.channels[level], before, []
            for _ in range(sizes.layers + 1):
                inputs.append(before + skips.pop())
                before = width
            block = Block(Layer(sizes, level), inputs, entry, sizes.layers + 1, sizes.continuation)
            if level > 0:
                block.upsamplers = nn.ModuleList([Upsample2D(width, use_conv=True)])
            blocks.append(block)
        self.up_blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor, motion: Tensor, first_frame=None) -> Tensor:
        """x (B, 4, F, H, W), F - 1 frames in continuation; timestep a scalar or (N,); context (N, L, D); motion (rows, F - 1);
        first_frame (B, 4, 1, H, W). Returns the shape of x."""
        if first_frame is not None:
            x = torch.cat([first_frame, x], dim=2)
            first_frame = first_frame[:, :, 0]
        frames = x.shape[2]
        x = x.transpose(1, 2).flatten(0, 1)
        time = self.embed_time(timestep, len(x)) + self.embed_motion(motion, frames, len(x))
        x = self.conv_in(x)
        skips = [x]
        for block in self.down_blocks:
            # The published code writes in place: what enters a down block, and the middle, is changed as a skip too.
            x = skips[-1] = block.enter(x, first_frame, frames)
            for j in range(len(block.resnets)):
                x = block.step(j, x, time, frames)
                x = block.attend(j, x, context, frames) if hasattr(block, "attentions") else x
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                skips.append(x)
        x = skips[-1] = self.mid_block.enter(x, first_frame, frames)
        x = self.mid_block.attend(0, self.mid_block.step(0, x, time, frames), context, frames)
        x = self.mid_block.step(1, x, time, frames)
        for block in self.up_blocks:
            x = block.enter(x, first_frame, frames)
            for j in range(len(block.resnets)):
                x = block.step(j, torch.cat([x, skips.pop()], dim=1), time, frames)
                x = block.attend(j, x, context, frames) if hasattr(block, "attentions") else x
            x = block.upsamplers[0](x) if hasattr(block, "upsamplers") else x
        x = self.conv_out(functional.silu(self.conv_norm_out(x)))
        x = x.unflatten(0, (-1, frames)).transpose(1, 2)
        return x if first_frame is None else x[:, :, 1:]

    def embed_time(self, timestep: Tensor, images: int) -> Tensor:
        waves = sinusoid(timestep.reshape(-1).expand(images), self.sizes.channels[0])
        return self.time_embedding(waves.to(self.conv_in.weight.dtype))

    def embed_motion(self, motion: Tensor, frames: int, images: int) -> Tensor:
        """(N, time width); a single row serves every story."""
        embedded = self.msim_embedding(motion, frames).flatten(0, 1)
        return embedded if len(embedded) == images else embedded.repeat(images // frames, 1)

    def contextualize(self, text: Tensor) -> Tensor:
        """(N, L, D) -> the same, every story seeing its own captions only."""
        return self.text_adapter(text.unflatten(0, (-1, self.sizes.frames))).flatten(0, 1)

    def training_form(self, x, timestep, text, null_text, is_null, motion, first_frame=None) -> Tensor:
        """As trained: text (N, L, D) is contextualized, then stories marked in is_null (B,) get the raw null text (F, L, D)."""
        context = self.contextualize(text).unflatten(0, (len(is_null), -1))
        context = torch.where(is_null[:, None, None, None], null_text[None], context)
        return self(x, timestep, context.flatten(0, 1), motion, first_frame)

    def guided_form(self, x, timestep, uncond_text, text, motion, copies=2, first_frame=None) -> Tensor:
        """As sampled: x (copies B, ...), the last copy sees the contextualized text, those before it the raw one."""
        context = torch.cat([uncond_text] * (copies - 1) + [self.contextualize(text)])
        return self(x, timestep, context, motion, first_frame)
