"""AutoencoderKL: the picture codec of latent diffusion (Rombach et al. 2022, appendix G).

encode: images in [-1, 1], (N, H, W, 3) -> mean and log-variance of a Gaussian, each (N, H/f, W/f, C).
decode: latents (N, H/f, W/f, C) -> images. Diffusion works on latents times `scaling_factor`.

`patch` > 1 folds patch x patch pixels into channels before the first convolution and unfolds them after the last: the same
network at a fraction of the cost for small models. Released checkpoints use 1.
"""

import dataclasses
from typing import Any

import einops
import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.nn.attention import Attention
from storyjax.nn.blocks import Downsample, ResnetBlock, Upsample
from storyjax.nn.layers import Conv, GroupNorm

EPS = 1e-6  # of every GroupNorm in the released autoencoders


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """Sizes; the factor between picture and latent is patch * 2 ** (levels - 1)."""

    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_groups: int = 32
    patch: int = 1
    scaling_factor: float = 0.18215

    @property
    def factor(self) -> int:
        """Pixels on a side per latent pixel."""
        return self.patch * 2 ** (len(self.block_out_channels) - 1)

    @classmethod
    def stable_diffusion(cls) -> "VAEConfig":
        """Stable Diffusion 1.x and 2.x, 83,653,863 parameters."""
        return cls()

    @classmethod
    def sdxl(cls) -> "VAEConfig":
        """SDXL: the same sizes, other weights, other scaling. Overflows in float16; decode in float32 or bfloat16."""
        return cls(scaling_factor=0.13025)


class _MidBlock(nnx.Module):
    """Residual block, one-head attention over the pixels, residual block."""

    def __init__(self, channels: int, groups: int, *, rngs: Any):
        self.resnets = nnx.List(_resnet(channels, channels, groups, rngs) for _ in range(2))
        self.group_norm = GroupNorm(groups, channels, eps=EPS)
        self.attention = Attention(channels, 1, qkv_bias=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.resnets[0](x)
        tokens = self.group_norm(x).reshape(x.shape[0], -1, x.shape[-1])
        x = x + self.attention(tokens).reshape(x.shape)
        return self.resnets[1](x)


class _Level(nnx.Module):
    """Residual blocks, then a change of resolution (or none)."""

    def __init__(self, inputs: int, outputs: int, layers: int, groups: int, resample: nnx.Module | None, rngs: Any):
        self.resnets = nnx.List(_resnet(inputs if j == 0 else outputs, outputs, groups, rngs) for j in range(layers))
        self.resample = resample

    def __call__(self, x: jax.Array) -> jax.Array:
        for resnet in self.resnets:
            x = resnet(x)
        return x if self.resample is None else self.resample(x)


def _resnet(inputs: int, outputs: int, groups: int, rngs: Any) -> ResnetBlock:
    return ResnetBlock(inputs, outputs, temb=None, groups=groups, eps=EPS, rngs=rngs)


class Encoder(nnx.Module):
    """images (N, H, W, 3) -> moments (N, h, w, 2 C)."""

    def __init__(self, config: VAEConfig, *, rngs: Any):
        widths, groups = config.block_out_channels, config.norm_groups
        self.patch = config.patch
        self.conv_in = Conv(3 * config.patch**2, widths[0], rngs=rngs)
        befores = (widths[0], *widths[:-1])
        self.down_blocks = nnx.List(
            _Level(
                before,
                width,
                config.layers_per_block,
                groups,
                Downsample(width, padding=(0, 1), rngs=rngs) if i < len(widths) - 1 else None,
                rngs,
            )
            for i, (before, width) in enumerate(zip(befores, widths))
        )
        self.mid_block = _MidBlock(widths[-1], groups, rngs=rngs)
        self.conv_norm_out = GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = Conv(widths[-1], 2 * config.latent_channels, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = einops.rearrange(images, "n (h p) (w q) c -> n h w (p q c)", p=self.patch, q=self.patch)
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(self.conv_norm_out.silu(self.mid_block(x)))


class Decoder(nnx.Module):
    """latents (N, h, w, C) -> images (N, H, W, 3)."""

    def __init__(self, config: VAEConfig, *, rngs: Any):
        widths, groups = config.block_out_channels[::-1], config.norm_groups
        self.patch = config.patch
        self.conv_in = Conv(config.latent_channels, widths[0], rngs=rngs)
        self.mid_block = _MidBlock(widths[0], groups, rngs=rngs)
        befores = (widths[0], *widths[:-1])
        self.up_blocks = nnx.List(
            _Level(
                before,
                width,
                config.layers_per_block + 1,
                groups,
                Upsample(width, rngs=rngs) if i < len(widths) - 1 else None,
                rngs,
            )
            for i, (before, width) in enumerate(zip(befores, widths))
        )
        self.conv_norm_out = GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = Conv(widths[-1], 3 * config.patch**2, rngs=rngs)

    def __call__(self, latents: jax.Array) -> jax.Array:
        x = self.mid_block(self.conv_in(latents))
        for block in self.up_blocks:
            x = block(x)
        x = self.conv_out(self.conv_norm_out.silu(x))
        return einops.rearrange(x, "n h w (p q c) -> n (h p) (w q) c", p=self.patch, q=self.patch)


class AutoencoderKL(nnx.Module):
    """Encoder, 1x1 convolutions around the latent, decoder."""

    def __init__(self, config: VAEConfig, *, rngs: Any):
        channels = config.latent_channels
        self.config = config
        self.encoder = Encoder(config, rngs=rngs)
        self.quant_conv = Conv(2 * channels, 2 * channels, 1, rngs=rngs)
        self.post_quant_conv = Conv(channels, channels, 1, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)

    def encode(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and standard deviation of the posterior, unscaled; log-variance is held in [-30, 20]."""
        mean, log_variance = jnp.split(self.quant_conv(self.encoder(images)), 2, axis=-1)
        return mean, jnp.exp(0.5 * jnp.clip(log_variance, -30.0, 20.0))

    def decode(self, latents: jax.Array) -> jax.Array:
        """Unscaled latents to images in about [-1, 1]."""
        return self.decoder(self.post_quant_conv(latents))


def to_unit(images: jax.Array) -> jax.Array:
    """uint8 in 0..255 to float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1


def to_bytes(images: jax.Array) -> jax.Array:
    """[-1, 1] to uint8, rounded."""
    return jnp.round(jnp.clip(images.astype(jnp.float32) * 127.5 + 127.5, 0, 255)).astype(jnp.uint8)
