"""A whole training of ContextualStory: codec, latents, then text encoder and story UNet together; out comes a model folder.

    <workdir>/vae         stage 1, the codec (or `vae_folder`, a codec trained before)
    <workdir>/tokenizer   learnt from the training sentences (or `tokenizer_folder`)
    <workdir>/latents     the codec's view of every training story, computed once
    <workdir>/states      the same of the text encoder, where it is frozen
    <workdir>/story       stage 2
    <workdir>/model       the result

Every stage continues where it stopped; a finished one is not repeated. `latents` and `states` are mapped into memory: those of a
work directory in a bucket lie in the user's cache folder, and are computed again where it has none.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from storyjax.checkpoints.folder import load_component
from storyjax.checkpoints.manager import load_params
from storyjax.checkpoints.paths import AnyPath, PathLike, at, check_storage, kept_here
from storyjax.checkpoints.remote import fetched, is_whole, published
from storyjax.config import from_json, to_json
from storyjax.data import (
    BatchSpec,
    CachedSource,
    StorySource,
    build_cache,
    load_tokenizer,
    make_batches,
    tokenize,
    train_tokenizer,
    weights_hash,
)
from storyjax.data.config import DataConfig
from storyjax.errors import StoryjaxError
from storyjax.models.clip_text import CLIPTextConfig
from storyjax.models.vae import VAEConfig, to_unit
from storyjax.nn.build import Params, abstract, bind
from storyjax.parallel.mesh import check_batch, check_frames
from storyjax.parallel.placement import Placement
from storyjax.story.story import Story
from storyjax.story.strip import draw_strip
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.objective import (
    Networks,
    StoryLoss,
    clip_alphas,
    initial_params,
    make_loss,
    motion_of,
    text_maker,
)
from storyjax.systems.contextual_story.pipeline import (
    ContextualStoryPipeline,
    Defaults,
    PipelineConfig,
    check_fit,
    vae_maker,
)
from storyjax.train.autoencoder import AutoencoderRun
from storyjax.train.config import TrainConfig
from storyjax.train.loop import TrainResult, train
from storyjax.train.task import Task

VAE_MODEL = "vae/model"
VOCABULARY = "vocab.json"  # a tokenizer folder that has it is whole


@dataclasses.dataclass(frozen=True)
class ContextualStoryRun:
    """A training run: `storyjax train` on a file whose get_config() returns this."""

    data: DataConfig = DataConfig()
    codec: AutoencoderRun = AutoencoderRun()  # stage 1
    story: ContextualStoryConfig = ContextualStoryConfig()
    text_encoder: CLIPTextConfig = CLIPTextConfig.sd21()
    vocabulary: int = 1200  # most tokens of the tokenizer that is learnt
    freeze_text_encoder: bool = False  # that of `init_from`; its states are then computed once
    loss: StoryLoss = StoryLoss()
    train: TrainConfig = TrainConfig()
    defaults: Defaults = Defaults()
    vae_folder: str | None = None  # a model folder with a component "vae"; None: train one
    tokenizer_folder: str | None = None  # None: learn one from the sentences
    init_from: str | None = None  # a model folder whose denoiser and text encoder to start from

    def __post_init__(self) -> None:
        """What would otherwise fail after hours of codec training."""
        if not self.vae_folder:
            check_fit(self.story, self.text_encoder, self.codec.vae, (self.data.size, self.data.size))
        if self.data.frames != self.story.frames:
            raise StoryjaxError(
                f"the data gives {self.data.frames} frames a story (data.frames), the model draws {self.story.frames} "
                "(story.frames); set both alike"
            )
        if self.data.random_frames:
            raise StoryjaxError(
                "the latents of all frames are computed once, so no picture can be drawn anew in every epoch; leave out "
                "data.random_frames (codec.data.random_frames is possible)"
            )
        if not self.tokenizer_folder and self.vocabulary > self.text_encoder.vocab_size:
            raise StoryjaxError(
                f"the tokenizer may learn {self.vocabulary} tokens (vocabulary), the text encoder knows "
                f"{self.text_encoder.vocab_size} (text_encoder.vocab_size); set both alike"
            )
        if self.freeze_text_encoder and not self.init_from:
            raise StoryjaxError(
                "a frozen text encoder must have learnt before (freeze_text_encoder); name its model folder as init_from"
            )

    def start(self, workdir: PathLike, *, placement: Placement | None = None, progress: bool = True) -> TrainResult:
        """Run what is left of the stages, on a mesh (default: all devices side by side over the stories)."""
        workdir, placement = at(workdir), placement or Placement.of()
        check_storage(workdir)
        check_batch(placement.mesh, self.train.batch_size, self.train.accumulation)
        check_frames(placement.mesh, self.story.frames)
        Networks.build(self.story, self.text_encoder)  # sizes that do not divide are an error now, not after the codec
        if not self.vae_folder and not is_whole(workdir / VAE_MODEL):
            result = self._codec().start(workdir / "vae", placement=placement, progress=progress)
            if result.stopped_by:
                return result
        vae_folder = fetched(self.vae_folder or workdir / VAE_MODEL)
        config, vae = self._pipeline_config(vae_folder)
        tokenizer = load_tokenizer(self._tokenizer(workdir))
        if len(tokenizer) > self.text_encoder.vocab_size:
            raise StoryjaxError(
                f"the tokenizer of '{self.tokenizer_folder}' has {len(tokenizer)} tokens, the text encoder knows "
                f"{self.text_encoder.vocab_size} (text_encoder.vocab_size)"
            )
        start = self._initial() if self.init_from else None
        latents = self._latents(workdir, vae_folder, progress)
        source: StorySource = latents
        if self.freeze_text_encoder and start:
            source = self._states(workdir, source, start["text_encoder"], tokenizer, progress)
        task = self._task(ContextualStoryPipeline(config, {}, tokenizer, latents.means["motion"]), vae)
        batches = make_batches(
            source,
            BatchSpec(pictures="latents", text="states" if self.freeze_text_encoder else "tokens"),
            self.train.batch_size,
            self.data.seed,
            tokenizer=tokenizer,
            max_length=self.text_encoder.positions,
            threads=0,
            rows=placement.rows(self.train.batch_size),
        )
        result = train(
            task,
            self.train,
            batches,
            workdir / "story",
            config_json=to_json(self),
            init_params=start,
            progress=progress,
            placement=placement,
            free=[r"^(codec|defaults)\.", r"^data\.(data_dir|threads)$", r"^(vae_folder|tokenizer_folder|init_from)$"],
        )
        if not result.stopped_by:
            self.export(workdir)
        return result

    def export(self, workdir: PathLike, folder: PathLike | None = None, dtype: str = "float16") -> AnyPath:
        """The averaged weights of the last checkpoint as a model folder."""
        workdir = at(workdir)
        folder = at(folder or workdir / "model")
        vae_folder = fetched(self.vae_folder or workdir / VAE_MODEL)
        config, vae = self._pipeline_config(vae_folder)
        params, _ = load_params(workdir / "story")
        motion = self._cached(workdir, vae_folder).means["motion"]
        tokenizer = self._tokenizer(workdir)
        pipeline = ContextualStoryPipeline(config, params | {"vae": vae}, load_tokenizer(tokenizer), motion)
        with published(folder) as here:
            pipeline.save(here, tokenizer, dtype=dtype, overwrite=True)
        return folder

    # ----- stages ----------------------------------------------------------------------------------------------------

    def _codec(self) -> AutoencoderRun:
        """The codec's run, on the same pictures as the story model's."""
        data = dataclasses.replace(
            self.codec.data,
            name=self.data.name,
            data_dir=self.data.data_dir,
            size=self.data.size,
            frames=self.data.frames,
        )
        return dataclasses.replace(self.codec, data=data)

    def _tokenizer(self, workdir: AnyPath) -> Path:
        if self.tokenizer_folder:
            return fetched(self.tokenizer_folder)
        folder = workdir / "tokenizer"
        if not is_whole(folder, VOCABULARY):
            workdir.mkdir(parents=True, exist_ok=True)
            sentences = self.data.open(self.data.train_split).all_sentences()
            with published(folder, VOCABULARY) as here:
                train_tokenizer(sentences, here, self.vocabulary, self.text_encoder.positions)
        return fetched(folder)

    def _pipeline_config(self, vae_folder: Path) -> tuple[PipelineConfig, Params]:
        saved, vae = load_component(vae_folder, "vae")
        config = PipelineConfig(
            story=self.story,
            text_encoder=self.text_encoder,
            vae=from_json(VAEConfig, saved),
            schedule=self.loss.schedule,
            prior=self.loss.prior,
            size=(self.data.size, self.data.size),
            defaults=self.defaults,
        )
        return config, jax.tree.map(jnp.asarray, vae)

    def _latents(self, workdir: AnyPath, vae_folder: Path, progress: bool) -> CachedSource:
        """Mean and deviation of every training story's latents, and the mean motion of the dataset (StoryFlow)."""
        saved, vae = load_component(vae_folder, "vae")
        config = from_json(VAEConfig, saved)
        graphdef, _ = abstract(vae_maker(config))

        @jax.jit
        def encode(params: Params, images: jax.Array) -> dict[str, jax.Array]:
            mean, std = bind(graphdef, params).encode(to_unit(images).reshape(-1, *images.shape[2:]))
            mean, std = (x.reshape(*images.shape[:2], *x.shape[1:]) for x in (mean, std))
            return {"latents_mean": mean, "latents_std": std, "motion": motion_of(config.scaling_factor * mean)}

        build_cache(
            kept_here(workdir) / "latents",
            self.data.open(self.data.train_split),
            lambda batch: encode(vae, batch["images"]),
            spec=BatchSpec(pictures="images", text=None),
            batch_size=8,
            fingerprint={"vae": weights_hash(vae)},
            means=["motion"],
            threads=self.data.threads,
            progress=progress,
        )
        return self._cached(workdir, vae_folder)

    def _cached(self, workdir: AnyPath, vae_folder: Path) -> CachedSource:
        _, vae = load_component(vae_folder, "vae")
        return CachedSource(
            self.data.open(self.data.train_split), kept_here(workdir) / "latents", {"vae": weights_hash(vae)}
        )

    def _states(
        self, workdir: AnyPath, source: CachedSource, params: Params, tokenizer: Any, progress: bool
    ) -> CachedSource:
        """What the frozen text encoder says of every training caption, beside the latents."""
        graphdef, _ = abstract(text_maker(self.text_encoder))
        encode = jax.jit(lambda params, tokens: {"text": bind(graphdef, params)(tokens)})
        made_from = {"text_encoder": weights_hash(params), "tokenizer": _digest(tokenizer.backend_tokenizer.to_str())}
        build_cache(
            kept_here(workdir) / "states",
            source,
            lambda batch: encode(params, batch["tokens"]),
            spec=BatchSpec(pictures=None, text="tokens"),
            batch_size=8,
            fingerprint=made_from,
            tokenizer=tokenizer,
            max_length=self.text_encoder.positions,
            threads=0,
            progress=progress,
        )
        return CachedSource(source, kept_here(workdir) / "states", made_from)

    def _task(self, pipeline: ContextualStoryPipeline, vae: Params) -> Task:
        """`pipeline` draws the samples, always the same one: it compiles its program once."""
        null_tokens = jnp.asarray(tokenize(pipeline.tokenizer, [""], self.text_encoder.positions)[0])
        asked = self.story.unet.remat if self.train.remat == "none" else self.train.remat
        unet = dataclasses.replace(self.story.unet, remat=asked)
        loss_fn = make_loss(
            Networks.build(dataclasses.replace(self.story, unet=unet), self.text_encoder),
            self.loss,
            null_tokens,
            pipeline.config.vae.scaling_factor,
            continuation=self.story.first_frame == "conv2d",
        )
        held_out, vae = self.data.open("validation"), jax.device_get(vae)  # on the host: any mesh takes it from there

        def sample(params: Params, folder: Path, step: int) -> None:
            pipeline.params = params | {"vae": vae}
            try:
                draw_samples(pipeline, held_out, folder)
            finally:
                pipeline.params = {}  # the next step overwrites these buffers

        return Task(
            init=lambda key: initial_params(self.story, self.text_encoder, key),
            loss_fn=loss_fn,
            frozen=(r"^text_encoder\.",) if self.freeze_text_encoder else (),
            project=clip_alphas,
            sample=sample,
            examples_per_batch=lambda batch: len(batch["index"]),
        )

    def _initial(self) -> Params:
        return {name: load_component(fetched(self.init_from or ""), name)[1] for name in ("unet", "text_encoder")}


def draw_samples(pipeline: ContextualStoryPipeline, source: StorySource, folder: Path, stories: int = 4) -> None:
    """Strips of the first held-out stories, always from the same noise, so that progress can be seen from file to file."""
    chosen = range(min(stories, len(source)))
    told = [Story(frames=tuple(source.sentences(i)), title=source.table.titles[i]) for i in chosen]
    continuation = pipeline.config.story.first_frame == "conv2d"
    images = [source.images(i)[0] for i in chosen] if continuation else None
    drawn = pipeline(told, image=images, output_type="np", seed=0).images
    for number, (story, frames) in enumerate(zip(told, drawn)):
        draw_strip(story, frames).save(folder / f"story_{number}.png")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
