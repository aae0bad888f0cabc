"""What an inpainting model reads beside the noisy latents: where to paint, and the picture around it.

Channels, in this order (Stable Diffusion 1.5 and 2 inpainting): C of the noisy latents, 1 of the mask, C of the masked picture's
latents. Under the mask (white) the picture is grey before it is encoded; the mask itself takes every f-th pixel.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from storyjax.errors import StoryjaxError
from storyjax.models.vae import VAEConfig, to_unit
from storyjax.story.pictures import read_picture


@dataclasses.dataclass(frozen=True)
class Hole:
    """pixels (1, H, W, 3) uint8; mask (1, H, W, 1) bool, true where to paint; notes: what was done to the files, in words."""

    pixels: np.ndarray
    mask: np.ndarray
    notes: tuple[str, ...]


def read_hole(image: Any, mask: Any, size: tuple[int, int]) -> Hole:
    """Picture and mask, each an array, a PIL picture or a path, at `size` (height, width). A mask is white from mid-grey on.

    Errors: another size in memory, files of different sizes (they would be cropped differently), nothing to paint.
    """
    if isinstance(image, str | Path) and isinstance(mask, str | Path):
        shapes = [Image.open(path).size for path in (image, mask) if Path(path).is_file()]
        if len(set(shapes)) > 1:
            raise StoryjaxError(
                f"the picture is {shapes[0][0]}x{shapes[0][1]}, its mask {shapes[1][0]}x{shapes[1][1]} (width x height); "
                "give a mask of the picture's size"
            )
    pixels, note = _pixels(image, size, "picture")
    white, mask_note = _pixels(mask, size, "mask")
    hole = np.asarray(Image.fromarray(white).convert("L")) >= 128
    if not hole.any():
        raise StoryjaxError("the mask is black all over: nothing would be painted; make it white where to paint")
    return Hole(pixels[None], hole[None, ..., None], tuple(text for text in (note, mask_note) if text))


def _pixels(given: Any, size: tuple[int, int], what: str) -> tuple[np.ndarray, str]:
    """(H, W, 3) uint8 and a note."""
    if isinstance(given, str | Path):
        return read_picture(given, size, what)
    pixels = np.asarray(given.convert("RGB") if isinstance(given, Image.Image) else given)
    pixels = np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels
    if pixels.shape != (*size, 3) or pixels.dtype != np.uint8:
        raise StoryjaxError(
            f"expected a {what} of {size[1]}x{size[0]} pixels (uint8), got {pixels.dtype} of shape {pixels.shape}; "
            "pass the path of a file to have it brought to that size"
        )
    return pixels, ""


def hole_channels(vae: Any, config: VAEConfig, pixels: jax.Array, mask: jax.Array) -> jax.Array:
    """(1, H, W, 3) uint8 and (1, H, W, 1) bool -> (1, h, w, 1 + C): the mask, then the scaled latents' mean."""
    masked = jnp.where(mask, 0.0, to_unit(pixels))
    latents = config.scaling_factor * vae.encode(masked)[0]
    return jnp.concatenate([mask[:, :: config.factor, :: config.factor].astype(latents.dtype), latents], axis=-1)
