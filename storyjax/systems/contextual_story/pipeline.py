"""From sentences to pictures: one compiled program encodes the captions, runs the whole sampling and decodes the frames.

Sampling as released (spec §9): the captions of all F frames are contextualized together, all frames start from the mixed noise
prior and are denoised jointly under classifier-free guidance. Defaults (steps, guidance, sampler) come with the model folder.
Stories of more frames than the model has are drawn as `long_story.py` says.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from PIL import Image

from storyjax.checkpoints.folder import save_folder
from storyjax.config import from_json, to_json
from storyjax.data.tokenizer import load_tokenizer, tokenize
from storyjax.diffusion import guidance, noise
from storyjax.diffusion.frame_init import FrameInit
from storyjax.diffusion.samplers import Sampler
from storyjax.diffusion.schedule import ScheduleConfig
from storyjax.errors import StoryjaxError
from storyjax.models.clip_text import CLIPTextConfig
from storyjax.models.vae import AutoencoderKL, VAEConfig
from storyjax.nn.build import Params, abstract
from storyjax.story.pictures import Picture, read_picture
from storyjax.story.story import Story
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.long_drawing import Told, as_chain, in_windows
from storyjax.systems.contextual_story.long_story import LongStory, check_count, filled
from storyjax.systems.contextual_story.objective import Networks
from storyjax.systems.contextual_story.sampling import Drawing, Settings
from storyjax.weights.checkpoint import Checkpoint
from storyjax.weights.layouts import recognise
from storyjax.weights.load import Sharding

SYSTEM = "contextual_story"


@dataclasses.dataclass(frozen=True)
class Defaults:
    """How a model is best sampled; each is an argument of the call."""

    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.0
    guidance_rescale: float = 0.0
    sampler: Sampler = Sampler()


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """Everything but the weights."""

    story: ContextualStoryConfig
    text_encoder: CLIPTextConfig
    vae: VAEConfig
    schedule: ScheduleConfig = ScheduleConfig.contextual_story()
    prior: noise.NoisePrior = noise.NoisePrior()
    size: tuple[int, int] = (256, 256)  # height and width of a frame
    defaults: Defaults = Defaults()

    def __post_init__(self) -> None:
        check_fit(self.story, self.text_encoder, self.vae, self.size)


def check_fit(story: ContextualStoryConfig, text: CLIPTextConfig, vae: VAEConfig, size: tuple[int, int]) -> None:
    """Raise unless the networks fit each other and frames of `size` (height, width)."""
    channels, factor = (story.unet.in_channels, story.unet.out_channels), vae.factor
    if channels != (vae.latent_channels, vae.latent_channels):
        raise StoryjaxError(
            f"the codec has {vae.latent_channels} latent channels, but the UNet reads {channels[0]} and predicts "
            f"{channels[1]}; set all three alike"
        )
    if story.unet.cross_attention_dim != text.width:
        raise StoryjaxError(
            f"the text encoder is {text.width} wide, but the UNet's cross_attention_dim is "
            f"{story.unet.cross_attention_dim}; set both alike"
        )
    if story.contextualizer_layers and story.contextualizer_positions < text.positions:
        raise StoryjaxError(
            f"captions have {text.positions} tokens, but the contextualizer only {story.contextualizer_positions} positions; "
            "set contextualizer_positions to at least as many"
        )
    if size[0] % factor or size[1] % factor:
        raise StoryjaxError(
            f"frames of {size[1]}x{size[0]} pixels do not divide into the codec's {factor}x{factor} blocks"
        )


@dataclasses.dataclass(frozen=True)
class StoryOutput:
    """`images`: the frames of each story, `images[story][frame]`, or of the only story, `images[frame]`."""

    images: Any
    notes: tuple[str, ...] = ()  # what was done to the input, in words


class ContextualStoryPipeline:
    """Call it with 1 to 1,000 sentences (or a `Story`, or a list of either) and get a picture for each."""

    system = SYSTEM

    def __init__(
        self, config: PipelineConfig, params: Params, tokenizer: Any, motion: np.ndarray, mesh: Mesh | None = None
    ):
        """params: {"unet", "text_encoder", "vae"}; motion (F - 1,): the dataset's mean change between frames.

        mesh: devices that share the work of each call; `params` must lie on them, or on none yet.
        """
        self.config, self.params, self.tokenizer, self.motion = (
            config,
            params,
            tokenizer,
            np.asarray(motion, np.float32),
        )
        self.networks = Networks.build(config.story, config.text_encoder)
        self.mesh, (self._vae, _) = mesh, abstract(vae_maker(config.vae))
        self._drawing = Drawing(
            config.story,
            config.vae,
            config.schedule,
            config.prior,
            config.size,
            self.networks,
            self._vae,
            mesh,
        )

    # ----- folders ---------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, folder: str | Path) -> "ContextualStoryPipeline":
        """The pipeline of a model folder, ours or a released one, in float32.

        Errors: a missing or damaged file, weights that do not fit their config, a folder of another system.
        """
        return cls.of(recognise(folder))

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        *,
        dtype: Any = np.float32,
        sharding: Sharding | None = None,
        allow_unused: Sequence[str] = (),
        mesh: Mesh | None = None,
    ) -> "ContextualStoryPipeline":
        """The pipeline of a checkpoint; its parameters go from the file straight to their place, in `dtype`.

        The codec's are float32 whatever `dtype`. The UNet computes in the dtype of its parameters; noise, latents, guidance and
        sampler are float32.
        mesh: as for the constructor; without `sharding` each of its devices holds all parameters.
        """
        if mesh is not None and sharding is None:
            sharding = _everywhere(mesh)
        folder, settings = checkpoint.path, checkpoint.settings
        if checkpoint.system.name != SYSTEM:
            raise StoryjaxError(f"'{folder}' holds a model of system '{checkpoint.system.name}', expected '{SYSTEM}'")
        missing = [name for name in ("prior", "size", "defaults") if name not in settings]
        if missing:
            raise StoryjaxError(
                f"'{folder}/model_index.json' has no '{missing[0]}'; save or copy the model folder again"
            )
        config = PipelineConfig(
            story=checkpoint.parts["unet"].config,
            text_encoder=checkpoint.parts["text_encoder"].config,
            vae=checkpoint.parts["vae"].config,
            schedule=checkpoint.schedule,
            prior=from_json(noise.NoisePrior, settings["prior"]),
            size=(settings["size"][0], settings["size"][1]),
            defaults=from_json(Defaults, settings["defaults"]),
        )
        motion = np.asarray(checkpoint.read("cumulative_motion.json"), np.float32).reshape(-1)
        params = checkpoint.load(dtype=dtype, sharding=sharding, allow_unused=allow_unused, exact=["vae"])
        return cls(config, params, load_tokenizer(checkpoint.tokenizers["tokenizer"]), motion, mesh)

    def save(
        self, folder: str | Path, tokenizer: str | Path, *, dtype: str = "float32", overwrite: bool = False
    ) -> None:
        """Write a model folder; `tokenizer` is the tokenizer's folder."""
        config = self.config
        save_folder(
            folder,
            {
                "unet": (to_json(config.story), self.params["unet"]),
                "text_encoder": (to_json(config.text_encoder), self.params["text_encoder"]),
                "vae": (to_json(config.vae), self.params["vae"]),
            },
            {
                "scheduler/scheduler_config.json": to_json(config.schedule),
                "cumulative_motion.json": [self.motion.tolist()],
            },
            index={
                "system": SYSTEM,
                "size": list(config.size),
                "prior": to_json(config.prior),
                "defaults": to_json(config.defaults),
            },
            dtype=dtype,
            tokenizer=tokenizer,
            overwrite=overwrite,
        )

    # ----- the call --------------------------------------------------------------------------------------------------

    def __call__(
        self,
        prompt: Story | Sequence[str] | Sequence[Story] | Sequence[Sequence[str]],
        *,
        negative_prompt: str | Sequence[str] = "",
        image: np.ndarray | Image.Image | Sequence[Any] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        image_guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
        sampler: Sampler | str | None = None,
        frame_init: FrameInit | None = None,
        seed: int | Sequence[int] = 0,
        output_type: Literal["pil", "np", "latent"] = "pil",
        long: LongStory | None = None,
    ) -> StoryOutput:
        """Draw one story or several.

        prompt: 1 to 1,000 sentences, a Story, or a list of either; stories of one length are drawn as one batch. With fewer than
            the model's F the last is drawn several times and kept once.
        image: the given first picture of each story (story continuation): uint8 (H, W, 3) or a PIL picture of the model's
            size, or the path of a file, which is brought to that size (`notes` of the result say how); default: the
            pictures that the stories themselves name. Frame 0 of the result is this picture.
        seed: one number per story; a single number n gives story i the seed n + i. The same seed gives the same pictures,
            whatever else is in the batch.
        output_type: "pil", "np" (uint8 (F, H, W, 3)) or "latent" (float32 (F, h, w, C), scaled).
        long: how stories of more than F frames are drawn; default: `LongStory()`.

        Errors: more than 1,000 sentences, a picture of another size, a sampler or setting that does not exist or fit.
        """
        told, single = self._stories(prompt)
        defaults, count = self.config.defaults, len(told)
        # As floats: a whole number would be another type to the compiled program, and compile it again.
        scales = guidance.Guidance(
            text=float(defaults.guidance_scale if guidance_scale is None else guidance_scale),
            image=float(defaults.image_guidance_scale if image_guidance_scale is None else image_guidance_scale),
            rescale=float(defaults.guidance_rescale if guidance_rescale is None else guidance_rescale),
        )
        chosen = defaults.sampler if sampler is None else sampler
        first, notes = self._first_frames(image, told, single)
        settings = Settings(
            steps=defaults.num_inference_steps if num_inference_steps is None else num_inference_steps,
            sampler=Sampler(chosen) if isinstance(chosen, str) else chosen,  # type: ignore[arg-type]
            form=scales.form if first is not None else "text" if scales.text > 1 else "none",
            decode=output_type != "latent",
            frame_init=frame_init,
        )
        self._check(settings, first)
        keys = noise.key_data(noise.seeds(seed, count, "story"))
        drawn: list[Any] = [None] * count
        lengths = _of_one_length(told)
        for members in lengths:
            pictures = None if first is None else first[members]
            frames = self._frames(
                [told[i] for i in members], negative_prompt, keys[members], scales, pictures, settings, long
            )
            for i, story in zip(members, frames, strict=True):
                drawn[i] = story
        notes += tuple(self._note(len(told[members[0]].frames)) for members in lengths)
        stories: list[Any] = [
            [Image.fromarray(frame) for frame in story] if output_type == "pil" else story for story in drawn
        ]
        return StoryOutput(stories[0] if single else stories, tuple(note for note in notes if note))

    def _frames(
        self,
        stories: list[Story],
        negative_prompt: str | Sequence[str],
        keys: np.ndarray,
        scales: guidance.Guidance,
        first: np.ndarray | None,
        settings: Settings,
        long: LongStory | None,
    ) -> np.ndarray:
        """The frames (B, N, ...) of stories of one length N; F of them by the program that draws exactly F."""
        count, frames, way = len(stories[0].frames), self.config.story.frames, long or LongStory()
        told = [filled(story, frames) for story in stories]
        tokens = self._tokens([sentence for story in told for sentence in story.sentences], len(told))
        negative = self._negative(negative_prompt, count)
        negative += [negative[-1]] * (tokens.shape[1] - count)
        motion = self.motion[None]
        if tokens.shape[1] == frames and self.mesh is None:
            null = self._tokens(negative, 1)[0]
            drawn = self._drawing.whole(
                self.params, tokens, null, keys, motion, scales.scales, first, settings=settings
            )
        else:
            null = self._tokens(negative[:1] if len(set(negative)) == 1 else negative, 1)[0]
            draw = as_chain if way.method == "chain" and tokens.shape[1] > frames else in_windows
            drawn = draw(
                self._drawing, self.params, Told(told, tokens, null, keys, motion, scales, first), settings, way
            )
        drawn = np.asarray(drawn)[:, :count]
        if first is not None and settings.decode:
            drawn = np.concatenate([first[:, None], drawn[:, 1:]], axis=1)
        return drawn

    # ----- input -----------------------------------------------------------------------------------------------------

    def _stories(self, prompt: Any) -> tuple[list[Story], bool]:
        single = isinstance(prompt, Story) or (bool(prompt) and all(isinstance(p, str) for p in prompt))
        if isinstance(prompt, str):
            raise StoryjaxError("expected a list of sentences, one for each frame, got one text; pass [text]")
        stories: list[Any] = [prompt] if single or isinstance(prompt, Story) else list(prompt)
        stories = [story if isinstance(story, Story) else Story(frames=story) for story in stories]
        if not stories:
            raise StoryjaxError("the story has no frames; pass at least one sentence")
        for story in stories:
            check_count(story)
        return stories, single

    def _note(self, count: int) -> str:
        """What is done to a story that is shorter than the model's."""
        frames = self.config.story.frames
        if count >= frames:
            return ""
        return (
            f"the story has {count} frame{'s' * (count > 1)}, the model draws {frames} together: the last sentence is drawn "
            f"{frames - count + 1} times and kept once"
        )

    def _negative(self, negative: str | Sequence[str], count: int) -> list[str]:
        texts = [negative] * count if isinstance(negative, str) else list(negative)
        if len(texts) != count:
            raise StoryjaxError(f"expected one negative prompt or {count}, one for each frame, got {len(texts)}")
        return texts

    def _tokens(self, sentences: list[str], stories: int) -> np.ndarray:
        length = self.config.text_encoder.positions
        tokens = tokenize(self.tokenizer, sentences, length, self.config.text_encoder.vocab_size)
        return tokens.reshape(stories, len(sentences) // stories, length)

    def _first_frames(self, image: Any, told: list[Story], single: bool) -> tuple[np.ndarray | None, tuple[str, ...]]:
        """The given first pictures (B, H, W, 3) uint8, or None, and what was done to them."""
        if image is not None:
            several = isinstance(image, Sequence | np.ndarray) and not isinstance(image, str)
            pictures = [image] if single or not several else list(image)
        else:
            pictures = [story.first_picture for story in told if story.first_picture is not None]
        if not pictures:
            return None, ()
        if len(pictures) != len(told):
            raise StoryjaxError(f"expected {len(told)} first pictures, one for each story, got {len(pictures)}")
        read = [self._picture(picture) for picture in pictures]
        return np.stack([picture.pixels for picture in read]), tuple(picture.note for picture in read if picture.note)

    def _picture(self, given: Any) -> Picture:
        height, width = self.config.size
        if isinstance(given, str | Path):
            return read_picture(given, self.config.size)
        pixels = np.asarray(given.convert("RGB") if isinstance(given, Image.Image) else given)
        if pixels.shape != (height, width, 3) or pixels.dtype != np.uint8:
            raise StoryjaxError(
                f"expected a first picture of {width}x{height} RGB pixels (uint8), got {pixels.dtype} of shape {pixels.shape}; "
                "pass the path of a file to have it brought to that size"
            )
        return Picture(pixels, "")

    def _check(self, settings: "Settings", first: np.ndarray | None) -> None:
        if self.config.story.first_frame == "conv2d" and first is None:
            raise StoryjaxError("this is a story-continuation model: it needs the first picture, pass image=")
        if settings.frame_init is not None and first is None:
            raise StoryjaxError("FrameInit starts from a given first picture; pass image= or leave frame_init out")


def _everywhere(mesh: Mesh) -> Sharding:
    """Every parameter whole on every device."""
    return lambda path, shape: NamedSharding(mesh, P())


def _of_one_length(stories: list[Story]) -> list[list[int]]:
    """Numbers of the stories that have equally many frames, together."""
    groups: dict[int, list[int]] = {}
    for i, story in enumerate(stories):
        groups.setdefault(len(story.frames), []).append(i)
    return list(groups.values())


def vae_maker(config: VAEConfig) -> Any:
    return lambda rngs: AutoencoderKL(config, rngs=rngs)


Pipeline = ContextualStoryPipeline  # the name by which `storyjax.load` finds a system's pipeline
