"""The compiled parts of drawing: captions read in windows, long stories denoised in windows or part after part, pictures decoded.

What grows with the number of frames N is latents, captions and pictures; networks run on chunks of constant size. On a mesh the
chunks are divided over all devices: windows, the branches of guidance and stories are one batch.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from storyjax.diffusion import guidance, noise
from storyjax.diffusion.frame_init import FrameInit, frame_init
from storyjax.diffusion.samplers import Sampler, sample
from storyjax.diffusion.schedule import ScheduleConfig, make_schedule
from storyjax.diffusion.windows import Rows, blended, chunked, gather, on_parts, parts_of, spread
from storyjax.models.vae import VAEConfig, to_bytes, to_unit
from storyjax.nn.build import Params, bind
from storyjax.parallel.layouts import lay_out
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.long_story import Reading
from storyjax.systems.contextual_story.objective import Networks


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a compiled program depends on."""

    steps: int
    sampler: Sampler
    form: guidance.Form
    decode: bool
    frame_init: FrameInit | None
    rows_at_once: int = 1  # windows that are denoised together, on all devices
    recall: bool = True  # captions are contextualized among recalled sentences, not among those of their window


@dataclasses.dataclass(frozen=True, eq=False)
class Drawing:
    """Networks and settings of a pipeline, and the mesh it draws on (None: one device)."""

    story: ContextualStoryConfig
    vae: VAEConfig
    schedule: ScheduleConfig
    prior: noise.NoisePrior
    size: tuple[int, int]
    networks: Networks
    codec: nnx.GraphDef
    mesh: Mesh | None = None

    @property
    def continues(self) -> bool:
        """Whether the network is given frame 0 beside the others and predicts only those."""
        return self.story.first_frame == "conv2d"

    # ----- compiled programs -----------------------------------------------------------------------------------------

    @functools.cached_property
    def whole(self) -> Callable[..., jax.Array]:
        """Whole stories of the network's own length; arguments of `_whole`."""
        return jax.jit(self._whole, static_argnames=("settings",))

    @functools.cached_property
    def windows(self) -> Callable[..., jax.Array]:
        """Whole long stories; arguments of `_windows`."""
        return jax.jit(self._windows, static_argnames=("settings",))

    @functools.cached_property
    def captions(self) -> Callable[..., jax.Array]:
        """Captions of a chain; arguments of `_captions`."""
        return jax.jit(self._captions, static_argnames=("size", "recall"))

    @functools.cached_property
    def part(self) -> Callable[..., jax.Array]:
        """One part of a chain; arguments of `_part`."""
        return jax.jit(self._part, static_argnames=("settings",))

    @functools.cached_property
    def encode(self) -> Callable[..., jax.Array]:
        """First pictures to latents."""
        return jax.jit(self.to_latents)

    @functools.cached_property
    def decode(self) -> Callable[..., jax.Array]:
        """Latents to pictures; arguments of `_decode`."""
        return jax.jit(self._decode, static_argnames=("size",))

    # ----- what they do ----------------------------------------------------------------------------------------------

    def _whole(
        self,
        params: Params,
        tokens: jax.Array,
        null_tokens: jax.Array,
        keys: jax.Array,
        motion: jax.Array,
        scales: guidance.Scales,
        first: jax.Array | None,
        *,
        settings: Settings,
    ) -> jax.Array:
        """tokens (B, F, L), null_tokens (F, L), keys (B, 2), first (B, H, W, 3) or None -> uint8 (B, F, H, W, 3)."""
        model, encoder = bind(self.networks.story, params["unet"]), bind(self.networks.text, params["text_encoder"])
        captions = model.contextualize(encoder(tokens))
        given = None if first is None else self.to_latents(params, first)
        latents = self._part(params, captions, null_tokens, keys, motion, scales, given, settings=settings)
        if not settings.decode:
            return lay_out(latents, "everywhere")
        return lay_out(self._decode(params, latents, size=tokens.shape[0] * tokens.shape[1]), "everywhere")

    def _windows(
        self,
        params: Params,
        tokens: jax.Array,
        null_tokens: jax.Array,
        rows: Rows,
        reading: Reading,
        keys: jax.Array,
        motion: jax.Array,
        scales: guidance.Scales,
        first: jax.Array | None,
        *,
        settings: Settings,
    ) -> jax.Array:
        """tokens (B, N, L), null_tokens (1 or N, L), keys (B, 2), first (B, H, W, 3) or None -> uint8 (B, N, H, W, 3).

        Every window is a story of its own to the network, and guidance combines its branches; then windows are blended.
        """
        schedule, frames, size = make_schedule(self.schedule), rows.frames.shape[1], settings.rows_at_once
        model, encoder = bind(self.networks.story, params["unet"]), bind(self.networks.text, params["text_encoder"])
        text = self._captions(
            params, tokens, rows.story, rows.frames, reading, size=size * frames, recall=settings.recall
        )
        null = encoder(null_tokens)
        given = None if first is None else self.to_latents(params, first)
        start, step_keys = self._start(keys, tokens.shape[1])
        if given is not None and settings.frame_init is not None:
            start = frame_init(schedule, settings.frame_init, given[:, None], start)
        dropped = 1 if given is not None and self.continues else 0  # frame 0 is no part of what such a network predicts
        parts = parts_of((rows.story, rows.frames, text), size, self.mesh)

        def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
            whole = jnp.pad(x, ((0, 0), (dropped, 0), *((0, 0),) * 3))

            def window(story: jax.Array, at: jax.Array, caption: jax.Array) -> jax.Array:
                unsaid = null[jnp.minimum(at, null.shape[0] - 1)]
                context = spread(guidance.text_batch(unsaid, caption, settings.form), self.mesh)
                known = None if given is None else given[story]
                predict = self.conditioned(
                    model, context, motion, known, start[story, :1], settings.form, at[:, 0] == 0
                )
                guided = guidance.guided(lambda z, when: predict(spread(z, self.mesh), when), settings.form, scales)
                out = guided(gather(whole, story, at)[:, dropped:], t)
                return jnp.pad(out, ((0, 0), (dropped, 0), *((0, 0),) * 3))

            return blended(on_parts(window, parts), rows)[:, dropped:]

        latents = sample(denoise, schedule, settings.sampler, settings.steps, start[:, dropped:], step_keys)
        if given is not None:
            latents = jnp.concatenate([given[:, None], latents[:, 1 - dropped :]], axis=1)
        return self._decode(params, latents, size=size * frames) if settings.decode else latents

    def _part(
        self,
        params: Params,
        captions: jax.Array,
        null_tokens: jax.Array,
        keys: jax.Array,
        motion: jax.Array,
        scales: guidance.Scales,
        given: jax.Array | None,
        *,
        settings: Settings,
    ) -> jax.Array:
        """captions (B, F, L, C), null_tokens (F, L), given (B, h, w, C) or None -> latents (B, F, h, w, C)."""
        schedule = make_schedule(self.schedule)
        model, encoder = bind(self.networks.story, params["unet"]), bind(self.networks.text, params["text_encoder"])
        null = jnp.broadcast_to(encoder(null_tokens), captions.shape)
        text = spread(guidance.text_batch(null, captions, settings.form), self.mesh)
        start, step_keys = self._start(keys, captions.shape[1])
        if given is not None and settings.frame_init is not None:
            start = frame_init(schedule, settings.frame_init, given[:, None], start)
        dropped = 1 if given is not None and self.continues else 0
        predict = self.conditioned(model, text, motion, given, start[:, :1], settings.form)
        denoise = guidance.guided(lambda z, t: predict(spread(z, self.mesh), t), settings.form, scales)
        latents = sample(denoise, schedule, settings.sampler, settings.steps, start[:, dropped:], step_keys)
        return latents if given is None else jnp.concatenate([given[:, None], latents[:, 1 - dropped :]], axis=1)

    def _captions(
        self,
        params: Params,
        tokens: jax.Array,
        story: jax.Array,
        frames: jax.Array,
        reading: Reading,
        *,
        size: int,
        recall: bool,
    ) -> jax.Array:
        """Contextualized captions (M, F, L, C) of frames (M, F) of stories (M,), from tokens (B, N, L).

        recall: each among the sentences of `reading`, else among those of its own row. size: sentences read at once.
        """
        model, encoder = bind(self.networks.story, params["unet"]), bind(self.networks.text, params["text_encoder"])
        stories, count = tokens.shape[:2]
        encoded = chunked(encoder, size, self.mesh, tokens.reshape(stories * count, -1))
        flat = jnp.asarray(story)[:, None] * count + jnp.asarray(frames)
        at_once = max(size // frames.shape[1], 1)
        if not recall:
            return chunked(lambda one: model.contextualize(encoded[one]), at_once, self.mesh, flat)

        def read(sentences: jax.Array, place: jax.Array) -> jax.Array:
            among = model.contextualize(encoded[sentences])
            return among[jnp.arange(len(place)), place]

        own = jnp.arange(stories)[:, None, None] * count + jnp.asarray(reading.sentences)
        sentences, place = own.reshape(stories * count, -1), jnp.asarray(reading.place).reshape(-1)
        captions = chunked(read, at_once, self.mesh, sentences, place)
        return spread(captions[flat], self.mesh)

    def _start(self, keys: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
        """Start noise (B, N, h, w, C) of the stories' keys (B, 2), and the keys (B,) of their samplers."""
        factor = self.vae.factor
        shape = (1, count, self.size[0] // factor, self.size[1] // factor, self.vae.latent_channels)
        pairs = jax.vmap(lambda data: jax.random.split(jax.random.wrap_key_data(data)))(keys)
        return jax.vmap(lambda pair: noise.draw(self.prior, pair[0], shape)[0])(pairs), pairs[:, 1]

    def to_latents(self, params: Params, pictures: jax.Array) -> jax.Array:
        """uint8 (B, H, W, 3) -> scaled latents (B, h, w, C)."""
        return self.vae.scaling_factor * bind(self.codec, params["vae"]).encode(to_unit(pictures))[0]

    def _decode(self, params: Params, latents: jax.Array, *, size: int) -> jax.Array:
        """Scaled latents (B, N, h, w, C) -> uint8 (B, N, H, W, 3), `size` pictures at a time."""
        vae = bind(self.codec, params["vae"])
        flat = (latents / self.vae.scaling_factor).reshape(-1, *latents.shape[2:])
        images = chunked(lambda some: to_bytes(vae.decode(some)), size, self.mesh, flat)
        return images.reshape(*latents.shape[:2], *images.shape[1:])

    # ----- conditions ------------------------------------------------------------------------------------------------

    def conditioned(
        self,
        model: Any,
        text: jax.Array,
        motion: jax.Array,
        given: jax.Array | None,
        noise0: jax.Array,
        form: guidance.Form,
        opens: jax.Array | None = None,
    ) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """The model with its conditions bound: (latents (R B, F or F-1, ...), timestep) -> output.

        given: clean latents (B, h, w, C) of frame 0, noise0 (B, 1, h, w, C) its start noise. opens (B,): which rows begin with
        frame 0, None for all.
        """
        dtype = model.dtype
        text = text.astype(dtype)

        def run(x: jax.Array, times: jax.Array, *firsts: jax.Array) -> jax.Array:
            return model(x.astype(dtype), times, text, motion, *firsts).astype(jnp.float32)

        if given is None:
            return run
        if self.continues:
            firsts = guidance.first_frame_batch(given[:, None], noise0, form)[:, 0].astype(dtype)
            return lambda x, t: run(x, t, firsts)

        # A visualization model trained with clean first frames: frame 0 stands still at timestep 0.
        is_first = (jnp.arange(text.shape[1]) == 0)[None, :, None, None, None]
        branches = guidance.BRANCHES[form]
        sees = jnp.ones(branches).at[0].set(0.0 if form == "both" else 1.0)
        sees = jnp.repeat(sees, given.shape[0])[:, None, None, None, None].astype(bool) & is_first
        if opens is not None:
            sees &= guidance.tile(opens, form)[:, None, None, None, None]
        clean = guidance.tile(given[:, None], form)

        def predict(x: jax.Array, t: jax.Array) -> jax.Array:
            times = jnp.where(sees[..., 0, 0, 0], 0, t)
            return run(jnp.where(sees, clean.astype(x.dtype), x), times)

        return predict
