"""The smallest models that have every part of a real one, for tests of what stands on them. Weights are functions of a seed."""

import contextlib
import functools
import math
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from storyjax.data import load_tokenizer, train_tokenizer
from storyjax.diffusion.schedule import ScheduleConfig
from storyjax.models.clip_text import CLIPTextConfig
from storyjax.models.unet import UNetConfig
from storyjax.models.vae import VAEConfig
from storyjax.nn.build import abstract, flatten, unflatten
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.objective import story_maker, text_maker
from storyjax.systems.contextual_story.pipeline import ContextualStoryPipeline, Defaults, PipelineConfig, vae_maker

FRAMES, TOKENS, SIZE = 3, 12, 32
UNET = UNetConfig(
    block_out_channels=(8,), attention=(True,), heads=(2,), layers_per_block=1, cross_attention_dim=8, norm_groups=2
)
VISUALIZATION = ContextualStoryConfig(
    unet=UNET,
    frames=FRAMES,
    temporal_heads=2,
    temporal_norm_groups=2,
    contextualizer_layers=1,
    contextualizer_heads=2,
    contextualizer_positions=TOKENS,
    alpha_start=0.5,
)
TEXT = CLIPTextConfig(vocab_size=600, width=8, layers=1, heads=2, mlp_width=16, positions=TOKENS, activation="gelu")
CODEC = VAEConfig(block_out_channels=(8,), layers_per_block=1, norm_groups=2, patch=8, scaling_factor=0.5)
SCHEDULE = ScheduleConfig(kind="linear", prediction="v", set_alpha_to_one=True, spacing="trailing")

# Networks compile for longer than they run here: less work on machine code halves that.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@contextlib.contextmanager
def quick_compiles() -> Iterator[None]:
    """The same for programs that are compiled out of sight."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


SENTENCES = ("Ada walks to the lake.", "She swims in it.", "Ada goes home, and sleeps.")


def filled(shapes, seed: int = 0):
    """Parameters for abstract ones: nothing is zero, norms stay near one, activations near unit size."""
    random = np.random.default_rng(seed)

    def fill(path: str, leaf) -> np.ndarray:
        if path.endswith("freqs"):
            return (10000.0 ** (-np.arange(leaf.size) / leaf.size)).astype(np.float32)
        if path.endswith("alpha"):
            return np.full(leaf.shape, 0.4, np.float32)
        if path.endswith("embedding"):
            return random.standard_normal(leaf.shape).astype(np.float32)
        if path.endswith("scale"):
            return (1 + 0.1 * random.standard_normal(leaf.shape)).astype(np.float32)
        fan_in = math.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 16
        return (random.standard_normal(leaf.shape) / math.sqrt(fan_in)).astype(np.float32)

    return unflatten({path: fill(path, leaf) for path, leaf in sorted(flatten(shapes).items())})


def network(make, seed: int = 0):
    """(graph definition, filled parameters) of what `make` builds."""
    graphdef, shapes = abstract(make)
    return graphdef, filled(shapes, seed)


def tokenizer_folder(folder: Path) -> Path:
    """A tokenizer that knows the words of `SENTENCES`."""
    train_tokenizer([*SENTENCES] * 2, folder, TEXT.vocab_size, TOKENS)
    return folder


def pipeline(tokenizer: Path, story: ContextualStoryConfig = VISUALIZATION, **config) -> ContextualStoryPipeline:
    """A whole pipeline that draws 3 frames of 32x32 pixels."""
    defaults = Defaults(num_inference_steps=2, guidance_scale=3.0)
    settings = PipelineConfig(
        story, TEXT, CODEC, **({"schedule": SCHEDULE, "size": (SIZE, SIZE), "defaults": defaults} | config)
    )
    makers = {"unet": story_maker(story), "text_encoder": text_maker(TEXT), "vae": vae_maker(CODEC)}
    params = {name: network(maker)[1] for name, maker in makers.items()}
    return ContextualStoryPipeline(settings, params, load_tokenizer(tokenizer), np.array([3.5, 4.25]))
