"""Training the picture codec (AutoencoderKL) on the frames of any story data.

loss = |x - x'| + (x - x')^2 + w_edge |grad x - grad x'| + w_kl KL(N(mean, std) || N(0, 1)) / pixels

with x in [-1, 1] and x' decoded from a sample of the posterior. The edge term (differences of neighbouring pixels) keeps outlines
sharp where no perceptual network can be downloaded. The first latents times `scaling_factor` have unit variance, measured
at the end, as in Rombach et al. 2022, appendix G.
"""

import dataclasses
from pathlib import Path
from typing import Any

import einops
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from storyjax.checkpoints.folder import save_folder
from storyjax.checkpoints.manager import load_params
from storyjax.checkpoints.paths import AnyPath, PathLike, at
from storyjax.checkpoints.remote import published
from storyjax.config import to_json
from storyjax.data import BatchSpec, StorySource
from storyjax.data.config import DataConfig
from storyjax.errors import StoryjaxError
from storyjax.models.vae import AutoencoderKL, VAEConfig, to_bytes, to_unit
from storyjax.nn.build import Params, abstract, bind, materialise
from storyjax.parallel.layouts import lay_out
from storyjax.parallel.placement import Placement
from storyjax.train.config import TrainConfig
from storyjax.train.loop import TrainResult, train
from storyjax.train.task import Batch, Task


@dataclasses.dataclass(frozen=True)
class AutoencoderLoss:
    """Weights of the terms."""

    edge: float = 1.0
    kl: float = 1e-4


def autoencoder_task(config: VAEConfig, weights: AutoencoderLoss, examples: np.ndarray | None = None) -> Task:
    """Batches hold `images` (B, F, H, W, 3) uint8; `examples` (N, H, W, 3) uint8 are redrawn for the sample sheets."""

    def make(rngs: Any) -> AutoencoderKL:
        return AutoencoderKL(config, rngs=rngs)

    graphdef, _ = abstract(make)

    def loss_fn(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        codec = bind(graphdef, params["vae"])
        dtype = params["vae"]["quant_conv"]["kernel"].dtype
        images = to_unit(batch["images"]).reshape(-1, *batch["images"].shape[2:]).astype(dtype)
        mean, std = codec.encode(images)
        drawn = codec.decode(mean + std * jax.random.normal(key, mean.shape, mean.dtype))
        error = (drawn - images).astype(jnp.float32)
        mean, std = mean.astype(jnp.float32), std.astype(jnp.float32)
        pixel = jnp.abs(error).mean() + jnp.square(error).mean()
        edge = jnp.abs(jnp.diff(error, axis=1)).mean() + jnp.abs(jnp.diff(error, axis=2)).mean()
        divergence = 0.5 * (jnp.square(mean) + jnp.square(std) - 1 - 2 * jnp.log(std)).sum((1, 2, 3)).mean()
        divergence = divergence / (images.shape[1] * images.shape[2])
        loss = pixel + weights.edge * edge + weights.kl * divergence
        psnr = 10 * jnp.log10(4 / jnp.square(error).mean())
        return loss, {"pixel": pixel, "edge": edge, "kl": divergence, "psnr": psnr, "latent_std": mean.std()}

    @jax.jit
    def redraw(params: Params, images: jax.Array) -> jax.Array:
        codec = bind(graphdef, params["vae"])
        return lay_out(to_bytes(codec.decode(codec.encode(to_unit(images))[0])), "everywhere")

    def sample(params: Params, folder: Path, step: int) -> None:
        assert examples is not None
        pairs = np.stack([examples, np.asarray(redraw(params, examples))])
        Image.fromarray(einops.rearrange(pairs, "k n h w c -> (k h) (n w) c")).save(folder / "reconstructions.png")

    return Task(
        init=lambda key: {"vae": materialise(make, key)[1]},
        loss_fn=loss_fn,
        sample=sample if examples is not None else None,
        examples_per_batch=lambda batch: batch["images"].shape[0] * batch["images"].shape[1],
    )


@dataclasses.dataclass(frozen=True)
class AutoencoderRun:
    """A training run of the codec: `storyjax train` on a file whose get_config() returns this."""

    data: DataConfig = DataConfig()
    vae: VAEConfig = VAEConfig()
    loss: AutoencoderLoss = AutoencoderLoss()
    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        if self.data.size % self.vae.factor:
            raise StoryjaxError(
                f"pictures of {self.data.size} pixels (data.size) do not divide into the codec's blocks of {self.vae.factor}"
            )

    def start(self, workdir: PathLike, *, placement: Placement | None = None, progress: bool = True) -> TrainResult:
        """Train, or continue; when all steps are made, write the model folder `<workdir>/model`."""
        placement = placement or Placement.of()
        source = self.data.open(self.data.train_split)
        spec = BatchSpec(pictures="images", text=None)
        rows = placement.rows(self.train.batch_size)
        batches = self.data.batches(source, spec, self.train.batch_size, rows)
        held_out = self.data.open("validation")
        examples = np.stack([held_out.images(i)[i % held_out.frames] for i in range(min(8, len(held_out)))])
        task = autoencoder_task(self.vae, self.loss, examples)
        config_json = to_json(self)
        result = train(
            task, self.train, batches, workdir, config_json=config_json, progress=progress, placement=placement
        )
        if not result.stopped_by:
            export_autoencoder(self.vae, workdir, held_out)
        return result


def export_autoencoder(config: VAEConfig, workdir: PathLike, source: StorySource, stories: int = 200) -> AnyPath:
    """The averaged weights as a model folder, with the scaling factor 1/std of the latents of `stories` stories."""
    params, _ = load_params(workdir)
    graphdef, _ = abstract(lambda rngs: AutoencoderKL(config, rngs=rngs))
    encode = jax.jit(lambda params, images: bind(graphdef, params["vae"]).encode(to_unit(images))[0])
    latents = np.concatenate([encode(params, source.images(i)) for i in range(min(stories, len(source)))])
    scaled = dataclasses.replace(config, scaling_factor=round(1 / float(latents.std()), 5))
    folder = at(workdir) / "model"
    with published(folder) as here:
        save_folder(
            here,
            {"vae": (to_json(scaled), params["vae"])},
            index={"system": "autoencoder"},
            dtype="float32",
            overwrite=True,
        )
    return folder
