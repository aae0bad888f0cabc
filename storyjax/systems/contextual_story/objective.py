"""ContextualStory's training loss.

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, one t per story, eps from the mixed noise prior
    loss = mean over stories of w(t) |prediction - target|^2, w the min-SNR weight

Spec §8.1-8.4 of the released code. What is ours: noise, latents and motion stay float32 whatever the compute dtype, the
motion of a story is measured before its first frame is replaced, and every device draws its own noise.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from storyjax.diffusion.losses import diffusion_loss, min_snr_weights, story_mse
from storyjax.diffusion.noise import NoisePrior, draw
from storyjax.diffusion.schedule import Schedule, ScheduleConfig, add_noise, make_schedule, training_target
from storyjax.errors import StoryjaxError
from storyjax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from storyjax.nn.build import Params, abstract, bind, materialise
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.model import ContextualStory


@dataclasses.dataclass(frozen=True)
class StoryLoss:
    """What is drawn for a training example, and how errors are weighted."""

    schedule: ScheduleConfig = ScheduleConfig.contextual_story()
    prior: NoisePrior = NoisePrior()
    gamma: float | None = 5.0  # of min-SNR; None: every timestep counts the same
    drop_text: float = 0.1  # share of stories trained on null captions, for classifier-free guidance
    drop_first_frame: float = (
        0.1  # continuation models: share of stories whose first frame is replaced by its noised self
    )
    clean_first_frame: float = 0.0  # visualization models: share of stories that see frame 0 clean, at timestep 0

    def __post_init__(self) -> None:
        for name in ("drop_text", "drop_first_frame", "clean_first_frame"):
            if not 0 <= getattr(self, name) <= 1:
                raise StoryjaxError(f"{name} is a share of stories, expected 0..1, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class Networks:
    """Graph definitions of the two trained networks; their parameters live in {"unet": ..., "text_encoder": ...}."""

    story: nnx.GraphDef
    text: nnx.GraphDef

    @classmethod
    def build(cls, config: ContextualStoryConfig, text: CLIPTextConfig) -> "Networks":
        return cls(abstract(story_maker(config))[0], abstract(text_maker(text))[0])


def story_maker(config: ContextualStoryConfig) -> Callable[[Any], ContextualStory]:
    return lambda rngs: ContextualStory(config, rngs=rngs)


def text_maker(config: CLIPTextConfig) -> Callable[[Any], CLIPTextEncoder]:
    return lambda rngs: CLIPTextEncoder(config, rngs=rngs)


def initial_params(config: ContextualStoryConfig, text: CLIPTextConfig, key: jax.Array) -> Params:
    """Random parameters of the denoiser and the text encoder."""
    story_key, text_key = jax.random.split(key)
    return {
        "unet": materialise(story_maker(config), story_key)[1],
        "text_encoder": materialise(text_maker(text), text_key)[1],
    }


def clip_alphas(params: Params) -> Params:
    """Every temporal layer's alpha back into [0, 1] after an optimizer step, as the official code clamps it in place."""

    def clip(path: Any, leaf: jax.Array) -> jax.Array:
        return jnp.clip(leaf, 0, 1) if getattr(path[-1], "key", None) == "alpha" else leaf

    return jax.tree_util.tree_map_with_path(clip, params)


def motion_of(latents: jax.Array) -> jax.Array:
    """StoryFlow: the L2 norm of the change between neighbouring frames, (B, F, H, W, C) -> (B, F - 1) float32."""
    change = jnp.diff(latents.astype(jnp.float32), axis=1)
    return jnp.sqrt(jnp.square(change).sum((2, 3, 4)))


def make_loss(
    networks: Networks, loss: StoryLoss, null_tokens: jax.Array, scaling: float, continuation: bool
) -> Callable:
    """The task's loss: (params, batch, key) -> (scalar, metrics).

    Batches hold `latents_mean`, `latents_std` (B, F, H, W, C), unscaled, and `tokens` (B, F, L) — or `text` (B, F, L, C) where
    the text encoder is frozen and its output cached. `null_tokens` (L,) encode the empty string.
    """
    table = make_schedule(loss.schedule)

    def loss_fn(params: Params, batch: dict[str, jax.Array], key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        keys = dict(zip(("posterior", "noise", "time", "text", "first"), jax.random.split(key, 5)))
        model = bind(networks.story, params["unet"])
        dtype = params["unet"]["unet"]["conv_in"]["kernel"].dtype
        posterior = jax.random.normal(keys["posterior"], batch["latents_mean"].shape)
        x0 = scaling * (batch["latents_mean"] + batch["latents_std"] * posterior)
        stories = x0.shape[0]
        eps = draw(loss.prior, keys["noise"], x0.shape)
        times = jax.random.randint(keys["time"], (stories,), 0, loss.schedule.steps)
        text, null = encode_captions(networks, params, batch, null_tokens)
        is_null = jax.random.bernoulli(keys["text"], loss.drop_text, (stories,))
        context = story_context(model, text, null, is_null)
        share = loss.drop_first_frame if continuation else loss.clean_first_frame
        chosen = jax.random.bernoulli(keys["first"], share, (stories,))
        compute = continuation_error if continuation else visualization_error
        weighted, per_story = compute(model, table, loss.gamma, x0, eps, times, context.astype(dtype), chosen, dtype)
        alphas = jnp.stack([a.mean() for a in alpha_leaves(params)])
        return weighted, {"mse": per_story.mean(), "alpha": alphas.mean()}

    return loss_fn


def encode_captions(
    networks: Networks, params: Params, batch: dict[str, jax.Array], null_tokens: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Captions (B, F, L, C), from tokens or from a cache, and the empty caption (L, C)."""
    encoder = bind(networks.text, params["text_encoder"])
    if "text" in batch:
        null = encoder(null_tokens)
        return batch["text"].astype(null.dtype), null
    tokens = batch["tokens"]
    rows = jnp.concatenate([tokens.reshape(-1, tokens.shape[-1]), null_tokens[None]])
    encoded = encoder(rows)
    return encoded[:-1].reshape(*tokens.shape, -1), encoded[-1]


def story_context(model: ContextualStory, text: jax.Array, null: jax.Array, is_null: jax.Array) -> jax.Array:
    """Contextualized captions; stories flagged in is_null (B,) get the raw null caption in every frame (spec §4.1)."""
    return jnp.where(is_null[:, None, None, None], null, model.contextualize(text))


def visualization_error(
    model: ContextualStory,
    table: Schedule,
    gamma: float | None,
    x0: jax.Array,
    eps: jax.Array,
    times: jax.Array,
    context: jax.Array,
    clean: jax.Array,
    dtype: Any,
) -> tuple[jax.Array, jax.Array]:
    """All F frames are noised and predicted. Stories flagged in `clean` (B,) show frame 0 as it is, at timestep 0, and are
    not judged on it: so one model also continues a story from a given picture."""
    frames = x0.shape[1]
    shown = clean[:, None] & (jnp.arange(frames) == 0)
    noisy = add_noise(table, x0, eps, times)
    noisy = jnp.where(shown[..., None, None, None], x0, noisy)
    frame_times = jnp.where(shown, 0, times[:, None])
    target = training_target(table, x0, eps, times)
    motion = jnp.trunc(motion_of(x0))
    prediction = model(noisy.astype(dtype), frame_times, context, motion)
    judged = ~shown[..., None, None, None]
    prediction, target = (jnp.where(judged, a.astype(jnp.float32), 0) for a in (prediction, target))
    per_story = story_mse(prediction, target) * frames / (frames - clean)
    return (min_snr_weights(table, times, gamma) * per_story).mean(), per_story


def continuation_error(
    model: ContextualStory,
    table: Schedule,
    gamma: float | None,
    x0: jax.Array,
    eps: jax.Array,
    times: jax.Array,
    context: jax.Array,
    noised_first: jax.Array,
    dtype: Any,
) -> tuple[jax.Array, jax.Array]:
    """Frames 1 .. F-1 are noised and predicted; frame 0 is given, noised for stories flagged in `noised_first` (B,)."""
    motion = jnp.trunc(motion_of(x0))
    noisy = add_noise(table, x0, eps, times)
    first = jnp.where(noised_first[:, None, None, None], noisy[:, 0], x0[:, 0])
    target = training_target(table, x0, eps, times)[:, 1:]
    prediction = model(noisy[:, 1:].astype(dtype), times, context, motion, first.astype(dtype))
    return diffusion_loss(table, prediction, target, times, gamma)


def alpha_leaves(params: Params) -> list[jax.Array]:
    """All temporal gates."""
    found = jax.tree_util.tree_leaves_with_path(params)
    return [leaf for path, leaf in found if getattr(path[-1], "key", None) == "alpha"]
