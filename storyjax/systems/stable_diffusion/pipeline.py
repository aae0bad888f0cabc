"""From a prompt to pictures with Stable Diffusion 1.x, 2.x or XL: encode, sample and decode are one compiled program.

    context c = CLIP(prompt)                                     SD 1, 2: last layer, final norm
    context c = [L, bigG](prompt), pooled p = bigG(prompt)       XL: the layer before the last, no norm
    UNet(x_t, t, c [, p, sizes]) under classifier-free guidance, by any sampler; AutoencoderKL decodes in float32

Inpainting models also read, on five more channels, where to paint and what is around: [x_t, mask, latents of the masked picture].
Sources: Rombach et al. 2022; Podell et al. 2023 (XL: size and crop conditioning); defaults as released.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from storyjax.checkpoints.folder import save_folder
from storyjax.config import from_json, to_json
from storyjax.data.tokenizer import load_tokenizer, tokenize
from storyjax.diffusion import guidance, noise
from storyjax.diffusion.samplers import Sampler, sample
from storyjax.diffusion.schedule import make_schedule
from storyjax.errors import StoryjaxError
from storyjax.models.clip_text import CLIPTextEncoder
from storyjax.models.unet import UNet
from storyjax.models.vae import AutoencoderKL, to_bytes
from storyjax.nn.build import Params, abstract, bind
from storyjax.systems.stable_diffusion.config import Defaults, StableDiffusionConfig
from storyjax.systems.stable_diffusion.inpainting import Hole, hole_channels, read_hole
from storyjax.weights.layouts import Checkpoint, recognise
from storyjax.weights.load import Sharding

SYSTEM = "stable_diffusion"
NETWORKS = {"unet": UNet, "text_encoder": CLIPTextEncoder, "text_encoder_2": CLIPTextEncoder, "vae": AutoencoderKL}
TOKENIZERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}  # whose words an encoder reads


@dataclasses.dataclass(frozen=True)
class ImageOutput:
    """`images`: all pictures, prompt after prompt; `seeds`: the seed of each, which draws it again alone."""

    images: Any
    seeds: tuple[int, ...]
    notes: tuple[str, ...] = ()  # what was done to the input, in words


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a compiled program depends on."""

    height: int
    width: int
    images: int  # for each prompt
    steps: int
    sampler: Sampler
    form: guidance.Form
    decode: bool


class StableDiffusionPipeline:
    """Call it with a prompt, or a list of them."""

    system = SYSTEM

    def __init__(self, config: StableDiffusionConfig, params: Params, tokenizers: Mapping[str, Any]):
        """params: {"unet", "text_encoder", "vae"} and for XL "text_encoder_2"; the UNet computes in the dtype of its own.
        tokenizers: "tokenizer" and for XL "tokenizer_2"."""
        self.config, self.params, self.tokenizers = config, params, tokenizers
        self.encoders = [name for name in TOKENIZERS if getattr(config, name) is not None]
        self._networks = {name: _graph(name, getattr(config, name)) for name in ("unet", "vae", *self.encoders)}
        self._program = jax.jit(self._draw, static_argnames=("settings",))

    # ----- folders ---------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, folder: str | Path, *, dtype: Any = np.float32) -> "StableDiffusionPipeline":
        """The pipeline of a model at a path, ours or a released one; see `of`.

        Errors: a missing or damaged file, weights that do not fit their config, a folder of another system.
        """
        return cls.of(recognise(folder), dtype=dtype)

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        *,
        dtype: Any = np.float32,
        sharding: Sharding | None = None,
        allow_unused: Sequence[str] = (),
    ) -> "StableDiffusionPipeline":
        """The pipeline of a checkpoint; parameters go from the file straight to their place, in `dtype`, the codec's in float32.

        XL's codec overflows in half precision (its config's `force_upcast`), and the others' pictures get worse.
        """
        path, settings = checkpoint.path, checkpoint.settings
        if checkpoint.system.name != SYSTEM:
            raise StoryjaxError(f"'{path}' holds a model of system '{checkpoint.system.name}', expected '{SYSTEM}'")
        parts = {name: part for name, part in checkpoint.parts.items() if name in NETWORKS}
        config = StableDiffusionConfig(
            **{name: part.config for name, part in parts.items()},
            schedule=checkpoint.schedule,
            size=(settings["size"][0], settings["size"][1]),
            zero_empty_prompt=settings["zero_empty_prompt"],
            defaults=from_json(Defaults, settings["defaults"], f"{path}/model_index.json: defaults"),
        )
        needed = [TOKENIZERS[name] for name in TOKENIZERS if name in parts]
        missing = [name for name in needed if name not in checkpoint.tokenizers]
        if missing:
            raise StoryjaxError(f"'{path}' has no {' and no '.join(missing)}; copy or download the whole model again")

        params = {
            name: part.load(
                dtype=np.float32 if name == "vae" else dtype, sharding=_under(name, sharding), allow_unused=allow_unused
            )[0]
            for name, part in parts.items()
        }
        return cls(config, params, {name: load_tokenizer(checkpoint.tokenizers[name]) for name in needed})

    def save(
        self,
        folder: str | Path,
        tokenizers: Mapping[str, str | Path],
        *,
        dtype: str = "float32",
        overwrite: bool = False,
    ) -> None:
        """Write a model folder; `tokenizers`: the folder of each, by the names of this pipeline's."""
        config = self.config
        save_folder(
            folder,
            {name: (to_json(getattr(config, name)), self.params[name]) for name in self._networks},
            {"scheduler/scheduler_config.json": to_json(config.schedule)},
            index={
                "system": SYSTEM,
                "size": list(config.size),
                "zero_empty_prompt": config.zero_empty_prompt,
                "defaults": to_json(config.defaults),
            },
            dtype=dtype,
            tokenizer=tokenizers,
            kinds={"text_encoder_2": "clip_text"},
            overwrite=overwrite,
        )

    # ----- the call --------------------------------------------------------------------------------------------------

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str | Sequence[str] | None = None,
        image: np.ndarray | Image.Image | str | Path | None = None,
        mask_image: np.ndarray | Image.Image | str | Path | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
        sampler: Sampler | str | None = None,
        num_images_per_prompt: int = 1,
        original_size: tuple[int, int] | None = None,
        crops_coords_top_left: tuple[int, int] = (0, 0),
        target_size: tuple[int, int] | None = None,
        seed: int | Sequence[int] = 0,
        latents: np.ndarray | jax.Array | None = None,
        output_type: Literal["pil", "np", "latent"] = "pil",
    ) -> ImageOutput:
        """Draw pictures; N of them: prompts times `num_images_per_prompt`.

        negative_prompt: one for all prompts, or one for each. None is the empty text, or for XL (`zero_empty_prompt`) zeros.
        image, mask_image: for inpainting models, and needed there: the picture, and where to paint anew (white). Arrays and PIL
            pictures of the size to draw, uint8 (H, W, 3) or (H, W); or paths, which are brought to it (`notes` say how).
        height, width: pixels, multiples of the codec's factor (8); default: what the model was trained on.
        guidance_scale: 1 or less switches guidance off and halves the work. guidance_rescale: 0..1.
        sampler: "ddim", "plms", "euler", "euler_a", "dpm++" or a `Sampler`; default: the checkpoint's own.
        original_size, crops_coords_top_left, target_size: (height, width) or (top, left) that XL is told; default: uncropped at
            the size drawn. Other models are not told and ignore them.
        seed: one number for each picture; a single number n gives picture i the seed n + i. The same seed draws the same
            picture, alone or in a batch (up to rounding).
        latents: the start noise (N, h, w, C) instead of the seeds' own. output_type: "pil", "np" (uint8 (H, W, 3)) or
            "latent" (float32 (h, w, C), scaled).

        Errors: a size that does not divide, an unknown sampler or setting, inpainting with a model that is not made for it.
        """
        prompts = _texts(prompt, "prompt")
        defaults, count = self.config.defaults, len(prompts) * num_images_per_prompt
        height, width = height or self.config.size[0], width or self.config.size[1]
        self.config.check_size(height, width)
        if num_images_per_prompt < 1:
            raise StoryjaxError(f"expected num_images_per_prompt of at least 1, got {num_images_per_prompt}")
        hole = self._hole(image, mask_image, (height, width))
        # As floats: a whole number would be another type to the compiled program, and compile it again.
        scales = guidance.Guidance(
            text=float(defaults.guidance_scale if guidance_scale is None else guidance_scale),
            rescale=float(defaults.guidance_rescale if guidance_rescale is None else guidance_rescale),
        )
        chosen = defaults.sampler if sampler is None else sampler
        settings = Settings(
            height=height,
            width=width,
            images=num_images_per_prompt,
            steps=defaults.num_inference_steps if num_inference_steps is None else num_inference_steps,
            sampler=Sampler(chosen) if isinstance(chosen, str) else chosen,  # type: ignore[arg-type]
            form=scales.form,
            decode=output_type != "latent",
        )
        numbers = noise.seeds(seed, count, "picture")
        told = (*(original_size or (height, width)), *crops_coords_top_left, *(target_size or (height, width)))
        drawn = np.asarray(
            self._program(
                self.params,
                self._tokens(prompts),
                self._negative(negative_prompt, len(prompts)) if settings.form == "text" else None,
                noise.key_data(numbers),
                self._start(latents, count, height, width),
                np.asarray(told, np.float32),
                None if hole is None else (hole.pixels, hole.mask),
                scales.scales,
                settings=settings,
            )
        )
        images = [Image.fromarray(picture) if output_type == "pil" else picture for picture in drawn]
        return ImageOutput(images, tuple(numbers), () if hole is None else hole.notes)

    # ----- input -----------------------------------------------------------------------------------------------------

    def _tokens(self, texts: list[str]) -> tuple[np.ndarray, ...]:
        """Token ids (P, L) for each text encoder."""
        configs = [(TOKENIZERS[name], getattr(self.config, name)) for name in self.encoders]
        return tuple(tokenize(self.tokenizers[name], texts, c.positions, c.vocab_size) for name, c in configs)

    def _negative(self, negative: str | Sequence[str] | None, prompts: int) -> tuple[np.ndarray, ...] | None:
        """Tokens of the negative prompts, (1, L) or (P, L); None for zeros."""
        if negative is None and self.config.zero_empty_prompt:
            return None
        texts = _texts(negative or "", "negative prompt")
        if len(texts) not in (1, prompts):
            raise StoryjaxError(f"expected one negative prompt or {prompts}, one for each prompt, got {len(texts)}")
        return self._tokens(texts)

    def _start(self, latents: Any, count: int, height: int, width: int) -> np.ndarray | None:
        if latents is None:
            return None
        shape = (count, *self._latent_shape(height, width))
        if np.shape(latents) != shape:
            raise StoryjaxError(f"expected start latents of shape {shape}, got {np.shape(latents)}")
        return np.asarray(latents, np.float32)

    def _latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        vae = self.config.vae
        return height // vae.factor, width // vae.factor, vae.latent_channels

    def _hole(self, image: Any, mask: Any, size: tuple[int, int]) -> Hole | None:
        if self.config.inpaints and (image is None or mask is None):
            raise StoryjaxError(
                "this is an inpainting model: it needs a picture and a mask of where to paint, pass image= and mask_image= "
                "(--image and --mask); for text alone take a text-to-image model"
            )
        if not self.config.inpaints and (image is not None or mask is not None):
            raise StoryjaxError("this model draws from text alone; for image= and mask_image= take an inpainting model")
        return None if image is None else read_hole(image, mask, size)

    # ----- the compiled program --------------------------------------------------------------------------------------

    def _draw(
        self,
        params: Params,
        tokens: tuple[jax.Array, ...],
        null_tokens: tuple[jax.Array, ...] | None,
        keys: jax.Array,
        start: jax.Array | None,
        told: jax.Array,
        hole: tuple[jax.Array, jax.Array] | None,
        scales: guidance.Scales,
        *,
        settings: Settings,
    ) -> jax.Array:
        """tokens (P, L) and null_tokens (P or 1, L) for each encoder, keys (N, 2), told (6,) -> uint8 (N, H, W, 3)."""
        key_pairs = jax.vmap(lambda data: jax.random.split(jax.random.wrap_key_data(data)))(keys)
        if start is None:
            shape = self._latent_shape(settings.height, settings.width)
            start = jax.vmap(lambda pair: jax.random.normal(pair[0], shape, jnp.float32))(key_pairs)
        vae = bind(self._networks["vae"], params["vae"])
        extra = None
        if hole is not None:
            extra = hole_channels(vae, self.config.vae, *hole)
            extra = guidance.tile(jnp.broadcast_to(extra, (len(start), *extra.shape[1:])), settings.form)
        predict = self._predictor(params, tokens, null_tokens, told, extra, settings)
        denoise = guidance.guided(predict, settings.form, scales)
        schedule = make_schedule(self.config.schedule)
        latents = sample(denoise, schedule, settings.sampler, settings.steps, start, key_pairs[:, 1])
        if not settings.decode:
            return latents
        # One picture after the other: at 1024 pixels the codec's features are larger than everything else together.
        pictures = jax.lax.map(lambda one: vae.decode(one[None])[0], latents / self.config.vae.scaling_factor)
        return to_bytes(pictures)

    def _predictor(
        self,
        params: Params,
        tokens: tuple[jax.Array, ...],
        null_tokens: tuple[jax.Array, ...] | None,
        told: jax.Array,
        extra: jax.Array | None,
        settings: Settings,
    ) -> Any:
        """The UNet with its conditions bound: (R N, h, w, C) float32 latents to output, computed in the UNet's dtype."""
        conditions = self._encode(params, tokens)
        count = len(tokens[0]) * settings.images
        full = [jnp.repeat(part, settings.images, axis=0) for part in conditions]
        if settings.form == "text":
            nulls = [jnp.zeros_like(part) for part in conditions]
            if null_tokens is not None:
                nulls = self._encode(params, null_tokens)
            repeats = count // len(nulls[0])
            full = [jnp.concatenate([jnp.repeat(null, repeats, axis=0), part]) for null, part in zip(nulls, full)]
        context, *pooled = full
        more = {}
        if pooled:
            more = {"pooled_text": pooled[0], "time_ids": jnp.broadcast_to(told, (len(context), len(told)))}
        unet = bind(self._networks["unet"], params["unet"])
        dtype = unet.conv_in.kernel[...].dtype

        def predict(x: jax.Array, t: jax.Array) -> jax.Array:
            x = x if extra is None else jnp.concatenate([x, extra], axis=-1)
            return unet(x.astype(dtype), t, context.astype(dtype), **more).astype(jnp.float32)

        return predict

    def _encode(self, params: Params, tokens: tuple[jax.Array, ...]) -> list[jax.Array]:
        """The texts' context (P, L, C), and for XL the pooled text (P, K)."""
        encoders = [bind(self._networks[name], params[name]) for name in self.encoders]
        if len(encoders) == 1:
            return [encoders[0](tokens[0])]
        first = encoders[0](tokens[0], skip=1, norm=False)
        second, pooled = encoders[1].encode(tokens[1], skip=1, norm=False)
        return [jnp.concatenate([first, second], axis=-1), pooled]


def _graph(name: str, config: Any) -> Any:
    return abstract(lambda rngs: NETWORKS[name](config, rngs=rngs))[0]


def _under(name: str, sharding: Sharding | None) -> Sharding | None:
    """The sharding of one network's parameters, which is asked for by paths that begin with the network's name."""
    return None if sharding is None else lambda path, shape: sharding(f"{name}.{path}", shape)


def _texts(given: str | Sequence[str], what: str) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise StoryjaxError(f"expected a {what} as text, or a list of them, got {given!r}")
    return texts


Pipeline = StableDiffusionPipeline  # the name by which `storyjax.load` finds a system's pipeline
