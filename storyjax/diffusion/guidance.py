"""Classifier-free guidance for stories: text alone, or first picture and text (InstructPix2Pix's two scales).

    text: e = e_u + s_t (e_c - e_u)                                    batch [uncond, cond]
    both: e = e_u + s_i (e_i - e_u) + s_t (e_b - e_i)                  batch [uncond, image, image + text]

(Brooks et al. 2023, eq. 3; ContextualStory uses "text" in all published settings.) With rescale r, sample by sample,

    e := r e std(e_full) / std(e) + (1 - r) e          (Lin et al. 2024, eq. 15-16; e_full the fully conditioned branch)
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from storyjax.diffusion.samplers import Denoise
from storyjax.errors import StoryjaxError

Form = Literal["none", "text", "both"]
BRANCHES = {"none": 1, "text": 2, "both": 3}


class Scales(NamedTuple):
    """The numbers of a guidance: floats, or arrays () or (B,), so that a jitted sampler need not be compiled per value."""

    text: jax.Array | float = 7.5
    image: jax.Array | float = 1.0
    rescale: jax.Array | float = 0.0


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Scales of guidance; 1 switches one off."""

    text: float = 7.5
    """Text scale s_t."""
    image: float = 1.0
    """First-picture scale s_i; above 1 the form is "both"."""
    rescale: float = 0.0
    """Share r of the result whose spread is set back to that of the conditioned branch."""

    def __post_init__(self) -> None:
        if not 0 <= self.rescale <= 1:
            raise StoryjaxError(f"guidance: expected rescale in 0..1, got {self.rescale}")
        if self.text < 0 or self.image < 0:
            raise StoryjaxError(f"guidance: expected scales of at least 0, got text {self.text} and image {self.image}")

    @property
    def form(self) -> Form:
        """As the official code decides: an image scale above 1 asks for "both", else a text scale above 1 for "text"."""
        return "both" if self.image > 1 else "text" if self.text > 1 else "none"

    @property
    def scales(self) -> Scales:
        """The numbers alone, to be given to a jitted function as an argument while the form stays static."""
        return Scales(self.text, self.image, self.rescale)


def tile(x: jax.Array, form: Form) -> jax.Array:
    """Repeat (B, ...) once per branch, branch-major: (R B, ...). For latents, motion and other per-story conditions."""
    return jnp.concatenate([x] * _branches(form))


def text_batch(null: jax.Array, text: jax.Array, form: Form) -> jax.Array:
    """(B, ...) or (B F, ...) of each -> [null, ..., null, text], the text in the last branch only."""
    _same_shape("null text", null, "text", text)
    return jnp.concatenate([null] * (_branches(form) - 1) + [text])


def first_frame_batch(first: jax.Array, start_noise: jax.Array, form: Form) -> jax.Array:
    """First frames (B, 1, H, W, C) of the branches: clean in all of them, except the unconditional one of "both".

    start_noise: frame 0 of the start noise, which stands in there and stays the same over all steps (spec section 9).
    """
    _same_shape("start noise", start_noise, "first frame", first)
    return jnp.concatenate([start_noise, first, first]) if form == "both" else tile(first, form)


def combine(output: jax.Array, form: Form, scales: Scales) -> jax.Array:
    """Network output of the whole batch (R B, ...) -> guided output (B, ...), computed in float32, same dtype."""
    branches = _branches(form)
    if output.shape[0] % branches:
        raise StoryjaxError(
            f"guidance '{form}': expected a batch divisible by {branches}, got {output.shape[0]}; "
            "build it with tile, text_batch and first_frame_batch"
        )
    if branches == 1:
        return output
    parts = jnp.split(output.astype(jnp.float32), branches)
    text, image = _per_story(scales.text, output.ndim), _per_story(scales.image, output.ndim)
    full = parts[-1]
    if form == "text":
        mixed = parts[0] + text * (full - parts[0])
    else:
        mixed = parts[0] + image * (parts[1] - parts[0]) + text * (full - parts[1])
    if not (isinstance(scales.rescale, int | float) and scales.rescale == 0):
        mixed = rescale(mixed, full, scales.rescale)
    return mixed.astype(output.dtype)


def rescale(guided: jax.Array, full: jax.Array, amount: jax.Array | float) -> jax.Array:
    """r e std(e_full)/std(e) + (1 - r) e, standard deviations per sample over all axes but the first. Both (B, ...)."""
    axes = tuple(range(1, guided.ndim))
    amount = _per_story(amount, guided.ndim)
    ratio = jnp.std(full, axes, keepdims=True) / jnp.std(guided, axes, keepdims=True)
    return guided * (amount * ratio + (1 - amount))


def guided(model: Callable[[jax.Array, jax.Array], jax.Array], form: Form, scales: Scales) -> Denoise:
    """The `denoise` a sampler wants, from a model that already holds the conditions of every branch.

    model: (latents (R B, ...), timestep ()) -> output (R B, ...), conditions built with `text_batch` and friends.
    """

    def denoise(latents: jax.Array, timestep: jax.Array) -> jax.Array:
        return combine(model(tile(latents, form), timestep), form, scales)

    return denoise


def _branches(form: Form) -> int:
    if form not in BRANCHES:
        raise StoryjaxError(f"guidance: expected form 'none', 'text' or 'both', got '{form}'")
    return BRANCHES[form]


def _per_story(scale: jax.Array | float, ndim: int) -> jax.Array:
    """A scalar as it is; (B,) so that it meets arrays (B, ...) of `ndim` axes."""
    numbers = jnp.asarray(scale, jnp.float32)
    return numbers.reshape(numbers.shape + (1,) * (ndim - 1)) if numbers.ndim else numbers


def _same_shape(name: str, x: jax.Array, other: str, y: jax.Array) -> None:
    if x.shape != y.shape:
        raise StoryjaxError(f"guidance: expected {name} of the same shape as {other} {y.shape}, got {x.shape}")
