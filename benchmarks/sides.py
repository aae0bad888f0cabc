"""storyjax's side of a benchmark: networks with random weights, compiled ahead of time, counted and weighed."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.measure import Setting, Side
from storyjax.models.clip_text import CLIPTextConfig
from storyjax.models.unet import UNetConfig
from storyjax.models.vae import VAEConfig
from storyjax.nn.build import InitKeys, Params, abstract, bind, flatten, unflatten
from storyjax.nn.flops import Flops, count_jaxpr
from storyjax.systems.contextual_story.config import ContextualStoryConfig

NAME = "storyjax"
TOKENS = 77

# Toys with every part of the real ones; PyTorch's side builds the same from `benchmarks.parity.cases`.
_TINY_UNET = UNetConfig(
    block_out_channels=(16, 32),
    attention=(True, False),
    heads=(2, 4),
    layers_per_block=1,
    cross_attention_dim=24,
    norm_groups=8,
    sample_size=8,
)
TINY_SDXL = dataclasses.replace(
    _TINY_UNET,
    attention=(False, True),
    transformer_depth=(1, 2),
    addition="text_time",
    addition_inputs=64,
    addition_time_width=8,
)
TINY_STORY = ContextualStoryConfig(
    unet=dataclasses.replace(_TINY_UNET, block_out_channels=(32, 64), cross_attention_dim=256),
    contextualizer_layers=1,
)
TINY_TEXT = CLIPTextConfig(vocab_size=600, width=256, layers=1, heads=4, mlp_width=512, activation="gelu")
TINY_VAE = VAEConfig(block_out_channels=(16, 32), layers_per_block=1, norm_groups=8)


def sd21_config(full: bool) -> UNetConfig:
    return UNetConfig.sd21_base() if full else _TINY_UNET


def sdxl_config(full: bool) -> UNetConfig:
    return UNetConfig.sdxl() if full else TINY_SDXL


def story_config(full: bool) -> ContextualStoryConfig:
    """At its latents' size: 32 (256 pixels) or, as a toy, 8."""
    return ContextualStoryConfig() if full else TINY_STORY


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and its parameters, in the dtype it computes in."""

    graphdef: nnx.GraphDef
    params: Params

    @classmethod
    def random(cls, make: Callable[[InitKeys], nnx.Module], dtype: Any, seed: int = 0) -> "Network":
        graphdef, shapes = abstract(make)
        return cls(graphdef, random_params(shapes, dtype, seed))

    def side(self, setting: Setting, function: Callable[..., Any], *given: Any) -> Side:
        """The side that computes `function(network, *given)`."""

        def run(params: Params, *given: Any) -> Any:
            return function(bind(self.graphdef, params), *given)

        return jax_side(setting, run, self.params, *given)


def random_params(shapes: Params, dtype: Any, seed: int = 0) -> Params:
    """Parameters for abstract ones: no zeros, which a GPU would multiply faster than anything real; activations of unit size."""
    random = np.random.default_rng(seed)

    def fill(path: str, leaf: Any) -> jax.Array:
        values = random.standard_normal(leaf.shape, np.float32)
        if path.endswith("freqs"):
            values = (10000.0 ** (-np.arange(leaf.size) / leaf.size)).astype(np.float32)
        elif path.endswith(("alpha", "scale")):
            values = 0.5 + 0.1 * np.tanh(values)
        else:
            values = values / math.sqrt(math.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100)
        return jnp.asarray(values, dtype)

    return unflatten({path: fill(path, leaf) for path, leaf in flatten(shapes).items()})


def normal(dtype: Any, *shape: int, seed: int = 0) -> jax.Array:
    """Standard normal input."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32), dtype)


def jax_side(setting: Setting, function: Callable[..., Any], *given: Any, name: str = NAME) -> Side:
    """A side that runs `function(*given)` as one program, always on the same input."""
    flops, compiled = program(setting, function, *given)
    return _side(name, flops, compiled, lambda: compiled(*given))


def step_side(
    setting: Setting,
    step: Callable[[Any, Any], tuple[Any, Any]],
    state: Any,
    batch: Any,
    name: str = NAME,
    **options: Any,
) -> Side:
    """A side that goes on from state to state, each donated to the next step; what it waits for are the scalars.

    options: of jax.jit, such as out_shardings.
    """
    flops, compiled = program(setting, step, state, batch, donate_argnums=0, **options)
    held = [state]

    def start() -> Any:
        held[0], values = compiled(held[0], batch)
        return values

    return _side(name, flops, compiled, start)


def program(setting: Setting, function: Callable[..., Any], *given: Any, **options: Any) -> tuple[Flops, Any]:
    """The operations and the compiled program of `function(*given)`; `given` may be shapes only."""
    with precision(setting):
        traced = jax.jit(function, **options).trace(*given)
        return count_jaxpr(traced.jaxpr), traced.lower().compile()


def _side(name: str, flops: Flops, compiled: Any, start: Callable[[], Any]) -> Side:
    return Side(
        name,
        start,
        wait=jax.block_until_ready,
        ahead=runs_ahead(),
        flops=flops,
        peak_bytes=lambda: program_bytes(compiled),
        program=compiled,
    )


def runs_ahead() -> bool:
    """Whether executions are enqueued: not on a CPU, where two would compete for the same cores."""
    return jax.default_backend() != "cpu"


def program_bytes(compiled: Any) -> int | None:
    """The most memory that a compiled program holds on one device, its arguments and results included."""
    sizes = compiled.memory_analysis()
    if sizes is None:
        return None
    whole = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return whole - sizes.alias_size_in_bytes


def precision(setting: Setting) -> contextlib.AbstractContextManager[Any]:
    """float32 arithmetic in float32, also on devices that shorten it when they are let."""
    return jax.default_matmul_precision("highest") if setting.dtype == "float32" else contextlib.nullcontext()
