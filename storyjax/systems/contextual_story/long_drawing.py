"""Drawing stories of one length N >= F, in windows or as a chain: the pipeline prepares what is told, `sampling.py` computes."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from storyjax.diffusion import guidance, noise
from storyjax.nn.build import Params
from storyjax.story.story import Story
from storyjax.systems.contextual_story.long_story import LongStory, chain_of, reading_of, rows_of
from storyjax.systems.contextual_story.sampling import Drawing, Settings


class Told(NamedTuple):
    """B stories of N frames each, and what goes with them."""

    stories: list[Story]
    tokens: np.ndarray  # (B, N, L)
    null_tokens: np.ndarray  # (1, L), or (N, L): what should not be seen in each frame
    keys: np.ndarray  # (B, 2)
    motion: np.ndarray  # (1, F - 1)
    guidance: guidance.Guidance
    first: np.ndarray | None  # (B, H, W, 3) uint8: given first pictures


def in_windows(drawing: Drawing, params: Params, told: Told, settings: Settings, long: LongStory) -> jax.Array:
    """All frames denoised together, in windows: uint8 (B, N, H, W, 3), or latents (B, N, h, w, C)."""
    frames, devices = drawing.story.frames, 1 if drawing.mesh is None else drawing.mesh.size
    pinned = drawing.continues and told.tokens.shape[1] > frames
    rows, at_once = rows_of(long, told.stories, frames, pinned, devices, guidance.BRANCHES[settings.form])
    return drawing.windows(
        params,
        told.tokens,
        told.null_tokens,
        rows,
        reading_of(told.stories, frames),
        told.keys,
        told.motion,
        told.guidance.scales,
        told.first,
        settings=dataclasses.replace(settings, rows_at_once=at_once, recall=long.captions == "recalled"),
    )


def as_chain(drawing: Drawing, params: Params, told: Told, settings: Settings, long: LongStory) -> jax.Array:
    """F frames, then F - 1 more that continue from the last one's latents, and so on; result as of `in_windows`.

    Two programs are compiled, for the first part and for all others, whatever the length.
    """
    stories, count = told.tokens.shape[:2]
    parts = chain_of(count, drawing.story.frames)
    size = long.windows_at_once * parts.shape[1]
    story, frames = np.repeat(np.arange(stories), len(parts)), np.tile(parts, (stories, 1))
    reading = reading_of(told.stories, parts.shape[1])
    text = drawing.captions(params, told.tokens, story, frames, reading, size=size, recall=long.captions == "recalled")
    text = text.reshape(stories, len(parts), *text.shape[1:])
    null = told.null_tokens[np.minimum(parts, len(told.null_tokens) - 1)]
    latents = [] if told.first is None else [drawing.encode(params, told.first)[:, None]]
    for number in range(len(parts)):
        given = latents[-1][:, -1] if latents else None
        drawn = drawing.part(
            params,
            text[:, number],
            null[number],
            noise.part_keys(told.keys, number),
            told.motion,
            told.guidance.scales,
            given,
            settings=settings if given is None else dataclasses.replace(settings, form=told.guidance.form),
        )
        latents.append(drawn if given is None else drawn[:, 1:])
    whole = jnp.concatenate(latents, axis=1)[:, :count]
    return drawing.decode(params, whole, size=size) if settings.decode else whole
