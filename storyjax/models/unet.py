"""The one UNet: Stable Diffusion's denoiser, with slots where a story system adds its parts.

Source: Rombach et al. 2022, as configured by Stable Diffusion 1.x and 2.x. A system never subclasses this network. It hands over
`Slots`: functions that build a module for a place (after each residual block, after each spatial transformer, at the entry of
each block) or choose the tokens that spatial self-attention looks at. An empty slot costs nothing and leaves every
parameter path unchanged.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.nn.blocks import Downsample, KeyTokens, ResnetBlock, SpatialTransformer, Upsample
from storyjax.nn.embeddings import TimestepEmbedding, sinusoid
from storyjax.nn.layers import Conv, GroupNorm


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Sizes of the UNet. Levels run from the finest to the coarsest."""

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention: tuple[bool, ...] = (True, True, True, False)  # spatial transformers at this level
    heads: tuple[int, ...] = (5, 10, 20, 20)  # number of heads, not their width
    layers_per_block: int = 2
    transformer_depth: int = 1
    cross_attention_dim: int = 1024
    norm_groups: int = 32
    norm_eps: float = 1e-5
    remat: bool = False  # recompute each residual and transformer block in the backward pass instead of storing it

    def __post_init__(self) -> None:
        levels = len(self.block_out_channels)
        for name in ("attention", "heads"):
            if len(getattr(self, name)) != levels:
                raise StoryjaxError(
                    f"unet: block_out_channels has {levels} levels, but {name} has {len(getattr(self, name))} entries; "
                    "give one for each level"
                )

    @property
    def time_width(self) -> int:
        """Width E of the time embedding."""
        return 4 * self.block_out_channels[0]

    @classmethod
    def sd21_base(cls) -> "UNetConfig":
        """Stable Diffusion 2.0 and 2.1 (base and v), 865,910,724 parameters."""
        return cls()

    @classmethod
    def sd15(cls) -> "UNetConfig":
        """Stable Diffusion 1.4 and 1.5, 859,520,964 parameters."""
        return cls(heads=(8, 8, 8, 8), cross_attention_dim=768)

    @classmethod
    def sd_inpaint(cls) -> "UNetConfig":
        """Stable Diffusion 1.5 inpainting: latents, masked latents and mask on 9 channels."""
        return dataclasses.replace(cls.sd15(), in_channels=9)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where in the UNet a slot stands."""

    stage: str  # "down", "mid" or "up"
    level: int  # 0 is the finest; the mid block shares the coarsest level
    channels: int  # channels of the features there
    heads: int  # heads of the spatial transformer there


SlotModule = Callable[[Place, Any], nnx.Module]  # (place, rngs) -> module called as module(x, slot_context)


@dataclasses.dataclass(frozen=True)
class Slots:
    """What a system adds. Each is called once per place while the UNet is built."""

    after_resnet: SlotModule | None = None
    after_attention: SlotModule | None = None
    block_entry: SlotModule | None = None
    key_tokens: Callable[[Place], KeyTokens | None] | None = None


class _Block(nnx.Module):
    """Residual blocks, each followed by its slots: the part that down, mid and up blocks share."""

    def __init__(self, config: UNetConfig, slots: Slots, place: Place, inputs: list[int], entry: int, rngs: Any):
        self.remat = config.remat
        has_attention = place.stage == "mid" or config.attention[place.level]
        self.resnets = nnx.List(
            ResnetBlock(
                width, place.channels, temb=config.time_width, groups=config.norm_groups, eps=config.norm_eps, rngs=rngs
            )
            for width in inputs
        )
        # The mid block has one transformer between its two residual blocks.
        count = (1 if place.stage == "mid" else len(inputs)) if has_attention else 0
        key_tokens = slots.key_tokens(place) if slots.key_tokens else None
        self.attentions = nnx.List(
            SpatialTransformer(
                place.channels,
                place.heads,
                context=config.cross_attention_dim,
                groups=config.norm_groups,
                depth=config.transformer_depth,
                key_tokens=key_tokens,
                rngs=rngs,
            )
            for _ in range(count)
        )
        after_resnet, after_attention = slots.after_resnet, slots.after_attention
        self.after_resnet = nnx.List([after_resnet(place, rngs) for _ in inputs]) if after_resnet else None
        self.after_attention = (
            nnx.List([after_attention(place, rngs) for _ in range(count)]) if after_attention else None
        )
        entry_place = dataclasses.replace(place, channels=entry)
        self.block_entry = slots.block_entry(entry_place, rngs) if slots.block_entry else None

    def enter(self, x: jax.Array, slot_context: Any) -> jax.Array:
        return x if self.block_entry is None else self.block_entry(x, slot_context)

    def layer(self, j: int, x: jax.Array, temb: jax.Array, context: jax.Array, slot_context: Any) -> jax.Array:
        """Residual block j, its slot, transformer j if there is one, its slot."""
        x = self._run(self.resnets[j], x, temb)
        if self.after_resnet is not None:
            x = self._run(self.after_resnet[j], x, slot_context)
        if j < len(self.attentions):
            x = self._run(self.attentions[j], x, context, slot_context)
            if self.after_attention is not None:
                x = self._run(self.after_attention[j], x, slot_context)
        return x

    def _run(self, module: nnx.Module, *args: Any) -> jax.Array:
        return jax.checkpoint(lambda m, *a: m(*a))(module, *args) if self.remat else module(*args)


class UNet(nnx.Module):
    """sample (N, H, W, C_in), timesteps (N,) or scalar, context (N, L, C_context) -> (N, H, W, C_out).

    `extra_temb` (N, E) is added to the time embedding; `slot_context` (any pytree) is passed to every slot untouched. Any H, W
    work: upsampling follows the sizes of the skip connections.
    """

    def __init__(self, config: UNetConfig, *, slots: Slots = Slots(), rngs: Any):
        widths, first, last = config.block_out_channels, config.block_out_channels[0], config.block_out_channels[-1]
        levels, layers = len(widths), config.layers_per_block
        self.config = config
        self.conv_in = Conv(config.in_channels, first, rngs=rngs)
        self.time_embedding = TimestepEmbedding(first, config.time_width, rngs=rngs)

        def block(stage: str, level: int, inputs: list[int], entry: int) -> _Block:
            return _Block(config, slots, Place(stage, level, widths[level], config.heads[level]), inputs, entry, rngs)

        down, up, skips = [], [], [first]
        before = first
        for level, width in enumerate(widths):
            down.append(block("down", level, [before] + [width] * (layers - 1), before))
            down[-1].downsample = Downsample(width, rngs=rngs) if level < levels - 1 else None
            skips += [width] * (layers + (level < levels - 1))
            before = width
        self.down_blocks = nnx.List(down)
        self.mid_block = block("mid", levels - 1, [last, last], last)
        for level in reversed(range(levels)):
            inputs = []
            entry = before
            for _ in range(layers + 1):
                inputs.append(before + skips.pop())
                before = widths[level]
            up.append(block("up", level, inputs, entry))
            up[-1].upsample = Upsample(before, rngs=rngs) if level > 0 else None
        self.up_blocks = nnx.List(up)
        self.conv_norm_out = GroupNorm(config.norm_groups, first, eps=config.norm_eps)
        self.conv_out = Conv(first, config.out_channels, rngs=rngs)

    def __call__(
        self,
        sample: jax.Array,
        timesteps: jax.Array,
        context: jax.Array,
        *,
        extra_temb: jax.Array | None = None,
        slot_context: Any = None,
    ) -> jax.Array:
        timesteps = jnp.broadcast_to(timesteps, sample.shape[:1])
        temb = self.time_embedding(sinusoid(timesteps, self.config.block_out_channels[0]))
        if extra_temb is not None:
            temb = temb + extra_temb.astype(temb.dtype)

        x = self.conv_in(sample)
        skips = [x]
        for block in self.down_blocks:
            # A block's input is also the newest skip connection: what the entry slot writes is seen by both.
            skips[-1] = x = block.enter(x, slot_context)
            for j in range(len(block.resnets)):
                x = block.layer(j, x, temb, context, slot_context)
                skips.append(x)
            if block.downsample is not None:
                x = block.downsample(x)
                skips.append(x)

        skips[-1] = x = self.mid_block.enter(x, slot_context)
        for j in range(len(self.mid_block.resnets)):
            x = self.mid_block.layer(j, x, temb, context, slot_context)

        for block in self.up_blocks:
            x = block.enter(x, slot_context)
            for j in range(len(block.resnets)):
                x = block.layer(j, jnp.concatenate([x, skips.pop()], axis=-1), temb, context, slot_context)
            if block.upsample is not None:
                x = block.upsample(x, skips[-1].shape[1:3])
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))
