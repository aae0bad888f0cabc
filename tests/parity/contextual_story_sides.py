"""One random ContextualStory network in PyTorch and, through the table of tensor names, the same in JAX."""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from storyjax.models.unet import UNetConfig
from storyjax.nn.build import Params, abstract, bind
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.model import ContextualStory
from storyjax.weights.component import component
from storyjax.weights.load import load_params
from tests.parity.contextual_story_torch import Sizes, StoryUNet
from tests.parity.random_weights_torch import randomise

# Unlike the published sizes wherever a number could be one that the code fixes by mistake.
VISUALIZATION = Sizes(
    channels=(32, 64),
    attention=(True, False),
    heads=(2, 8),
    layers=1,
    context=96,
    groups=8,
    frames=3,
    temporal_heads=4,
    contextualizer_layers=2,
    contextualizer_heads=2,
    positions=16,
)
CONTINUATION = dataclasses.replace(VISUALIZATION, continuation=True)


def config_of(sizes: Sizes) -> ContextualStoryConfig:
    """The same network in our words."""
    return ContextualStoryConfig(
        unet=UNetConfig(
            block_out_channels=sizes.channels,
            attention=sizes.attention,
            heads=sizes.heads,
            layers_per_block=sizes.layers,
            cross_attention_dim=sizes.context,
            norm_groups=sizes.groups,
        ),
        frames=sizes.frames,
        temporal_heads=sizes.temporal_heads,
        temporal_norm_groups=sizes.temporal_convolution_groups,
        contextualizer_layers=sizes.contextualizer_layers,
        contextualizer_heads=sizes.contextualizer_heads,
        contextualizer_positions=sizes.positions,
        first_frame="conv2d" if sizes.continuation else "none",
    )


@dataclasses.dataclass(frozen=True)
class Sides:
    """The PyTorch network, and the JAX network's definition and parameters."""

    torch: StoryUNet
    graphdef: nnx.GraphDef
    params: Params

    @property
    def jax(self) -> Any:
        return bind(self.graphdef, self.params)


@functools.cache
def sides(sizes: Sizes, dtype: str = "float32") -> Sides:
    """Both networks with the same weights; in bfloat16 the PyTorch side computes in float32 with the rounded weights."""
    with torch.device("meta"):
        unet = StoryUNet(sizes).eval()
    randomise(unet)
    if dtype == "bfloat16":
        unet.to(torch.bfloat16).float()
    config, tensors = config_of(sizes), {name: value.numpy() for name, value in unet.state_dict().items()}
    params, _ = load_params(component("contextual_story"), config, tensors, dtype=jnp.dtype(dtype))
    graphdef, _ = abstract(lambda rngs: ContextualStory(config, rngs=rngs))
    return Sides(unet, graphdef, params)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ours(x: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) -> (N, H, W, C), (B, C, F, H, W) -> (B, F, H, W, C), others as they are."""
    x = x.detach()
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x.permute(0, 2, 3, 4, 1) if x.ndim == 5 else x).numpy()


def error(got: Any, expected: torch.Tensor) -> float:
    """The norm of the difference over the norm of what is expected, in the layout of `ours`."""
    got, wanted = np.asarray(got, np.float64), ours(expected).astype(np.float64)
    assert got.shape == wanted.shape, f"shapes {got.shape} and {wanted.shape}"
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))
