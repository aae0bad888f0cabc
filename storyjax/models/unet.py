"""The one UNet: Stable Diffusion's denoiser, with slots where a story system adds its parts.

Source: Rombach et al. 2022, as configured by Stable Diffusion 1.x and 2.x; Podell et al. 2023 for SDXL, which differs in its
config only: deeper transformers at the coarse levels, and an embedding of pooled text and picture sizes beside the time's.

A system never subclasses this network. It hands over `Slots`: functions that build a module for a place (after each residual
block, after each spatial transformer, at the entry of each block) or choose the tokens that spatial self-attention looks at.
An empty slot costs nothing and leaves every parameter path unchanged.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.errors import StoryjaxError
from storyjax.nn.blocks import Downsample, KeyTokens, ResnetBlock, SpatialTransformer, Upsample
from storyjax.nn.embeddings import TimestepEmbedding, sinusoid
from storyjax.nn.layers import Conv, GroupNorm
from storyjax.nn.remat import Remat, with_remat
from storyjax.parallel.layouts import lay_out


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Sizes of the UNet. Levels run from the finest to the coarsest."""

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention: tuple[bool, ...] = (True, True, True, False)  # spatial transformers at this level
    heads: tuple[int, ...] = (5, 10, 20, 20)  # number of heads, not their width
    layers_per_block: int = 2
    transformer_depth: int | tuple[int, ...] = (
        1  # transformer blocks in a spatial transformer, of all levels or of each
    )
    cross_attention_dim: int = 1024
    norm_groups: int = 32
    norm_eps: float = 1e-5
    # "text_time" (SDXL): pooled text (N, P) and K numbers (N, K) join the time embedding; `addition_inputs` is P + K times the
    # width of each number's sinusoid.
    addition: Literal["text_time"] | None = None
    addition_inputs: int = 2816
    addition_time_width: int = 256
    sample_size: int = 64  # latent pixels on a side in training: the size pictures have unless another is asked for
    linear_projection: bool = (
        True  # how files spell the transformers' projections; Stable Diffusion 1: as 1x1 convolutions
    )
    remat: Remat = "none"  # what of each residual and transformer block is kept for the backward pass

    def __post_init__(self) -> None:
        levels = len(self.block_out_channels)
        for name in ("attention", "heads", "transformer_depth"):
            value = getattr(self, name)
            if not isinstance(value, int) and len(value) != levels:
                raise StoryjaxError(
                    f"unet: block_out_channels has {levels} levels, but {name} has {len(value)} entries; "
                    "give one for each level"
                )
        if self.addition not in (None, "text_time"):
            raise StoryjaxError(f"unet: no addition '{self.addition}'; expected none or 'text_time'")

    @property
    def time_width(self) -> int:
        """Width E of the time embedding."""
        return 4 * self.block_out_channels[0]

    def depth(self, level: int) -> int:
        """Transformer blocks in each spatial transformer of a level; the mid block belongs to the coarsest."""
        return self.transformer_depth if isinstance(self.transformer_depth, int) else self.transformer_depth[level]

    @classmethod
    def sd21_base(cls) -> "UNetConfig":
        """Stable Diffusion 2.0 and 2.1 base, 865,910,724 parameters."""
        return cls()

    @classmethod
    def sd21(cls) -> "UNetConfig":
        """Stable Diffusion 2.0 and 2.1 for 768 pixels, which predicts v: the same network."""
        return dataclasses.replace(cls.sd21_base(), sample_size=96)

    @classmethod
    def sd15(cls) -> "UNetConfig":
        """Stable Diffusion 1.4 and 1.5, 859,520,964 parameters."""
        return cls(heads=(8, 8, 8, 8), cross_attention_dim=768, linear_projection=False)

    @classmethod
    def sd_inpaint(cls) -> "UNetConfig":
        """Stable Diffusion 1.5 inpainting: latents, masked latents and mask on 9 channels."""
        return dataclasses.replace(cls.sd15(), in_channels=9)

    @classmethod
    def sdxl(cls) -> "UNetConfig":
        """SDXL base, 2,567,463,684 parameters."""
        return cls(
            block_out_channels=(320, 640, 1280),
            attention=(False, True, True),
            heads=(5, 10, 20),
            transformer_depth=(1, 2, 10),
            cross_attention_dim=2048,
            addition="text_time",
            sample_size=128,
        )


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
        self.remat: Remat = config.remat
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
                depth=config.depth(place.level),
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
        return lay_out(x, "frames")

    def _run(self, module: nnx.Module, *args: Any) -> jax.Array:
        return with_remat(self.remat, lambda m, *a: m(*a))(module, *args)


class UNet(nnx.Module):
    """sample (N, H, W, C_in), timesteps (N,) or scalar, context (N, L, C_context) -> (N, H, W, C_out).

    `extra_temb` (N, E) is added to the time embedding; `slot_context` (any pytree) is passed to every slot untouched. Any H, W
    work: upsampling follows the sizes of the skip connections. With the addition "text_time": `pooled_text` (N, P) and
    `time_ids` (N, K), for SDXL (height, width, top, left, target height, target width) in pixels.
    """

    def __init__(self, config: UNetConfig, *, slots: Slots = Slots(), rngs: Any):
        widths, first, last = config.block_out_channels, config.block_out_channels[0], config.block_out_channels[-1]
        levels, layers = len(widths), config.layers_per_block
        self.config = config
        self.conv_in = Conv(config.in_channels, first, rngs=rngs)
        self.time_embedding = TimestepEmbedding(first, config.time_width, rngs=rngs)
        self.add_embedding = (
            TimestepEmbedding(config.addition_inputs, config.time_width, rngs=rngs) if config.addition else None
        )

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
        pooled_text: jax.Array | None = None,
        time_ids: jax.Array | None = None,
        slot_context: Any = None,
    ) -> jax.Array:
        timesteps = jnp.broadcast_to(timesteps, sample.shape[:1])
        temb = self.time_embedding(sinusoid(timesteps, self.config.block_out_channels[0]))
        if extra_temb is not None:
            temb = temb + extra_temb.astype(temb.dtype)
        added = self._added(pooled_text, time_ids)
        if added is not None:
            temb = temb + added

        x = lay_out(self.conv_in(lay_out(sample, "frames")), "frames")
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
        return self.conv_out(self.conv_norm_out.silu(x))

    def _added(self, pooled_text: jax.Array | None, time_ids: jax.Array | None) -> jax.Array | None:
        """The embedding (N, E) of pooled text and sizes, or None for a network that has none."""
        config, embedding = self.config, self.add_embedding
        if embedding is None:
            if pooled_text is not None or time_ids is not None:
                raise StoryjaxError("unet: it has no addition to take pooled_text or time_ids; leave them out")
            return None
        if pooled_text is None or time_ids is None:
            raise StoryjaxError("unet: its addition 'text_time' needs pooled_text (N, P) and time_ids (N, K)")
        waves = sinusoid(time_ids, config.addition_time_width)
        # Text first. The sinusoids are float32, the sum with the text is taken in the parameters' dtype.
        together = jnp.concatenate([pooled_text.astype(jnp.float32), waves.reshape(waves.shape[0], -1)], axis=-1)
        if together.shape[-1] != config.addition_inputs:
            raise StoryjaxError(
                f"unet: expected {config.addition_inputs} numbers from pooled_text and time_ids, got {together.shape[-1]} "
                f"({pooled_text.shape[-1]} + {time_ids.shape[-1]} x {config.addition_time_width})"
            )
        return embedding(together)
