"""From tensors of an original file to parameters in place: each is created once, in its dtype and on its devices."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from storyjax.nn.build import Params, abstract, bind, unflatten
from storyjax.weights.component import Component
from storyjax.weights.component import component as component_named
from storyjax.weights.convert import plan, shapes_of
from storyjax.weights.report import Report
from storyjax.weights.rules import TRANSFORMS, Shape
from storyjax.weights.transpose import contiguous

Sharding = Callable[[str, Shape], jax.sharding.Sharding]  # (native path, shape) -> where the parameter lives


def build(
    component: Component | str,
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    *,
    dtype: Any = None,
    sharding: Sharding | None = None,
    allow_unused: Sequence[str] = (),
    source: str = "the checkpoint",
) -> nnx.Module:
    """The network that an original config and its tensors describe, ready to call.

    component: a `Component` or its name, such as "unet". config: the dictionary of the original config.json. tensors: original
    name -> array, may be lazy. The rest as `load_params`.
    """
    if isinstance(component, str):
        component = component_named(component)
    ours = component.read_config(config)
    params, _ = load_params(
        component, ours, tensors, dtype=dtype, sharding=sharding, allow_unused=allow_unused, source=source
    )
    graphdef, _ = abstract(lambda rngs: component.make(ours, rngs))
    return bind(graphdef, params)


def load_params(
    component: Component,
    our_config: Any,
    tensors: Mapping[str, np.ndarray],
    *,
    dtype: Any = None,
    sharding: Sharding | None = None,
    allow_unused: Sequence[str] = (),
    source: str = "the checkpoint",
) -> tuple[Params, Report]:
    """All parameters of the component as jax.Arrays, and what happened to every tensor.

    dtype: of every parameter; None keeps what the file has. sharding: (native path, shape) -> jax.sharding.Sharding; None puts
    everything on the default device. allow_unused: full-match regexes over original names that may be left over. source: how
    an error calls the file. Errors: anything but full placement, all of it in one listing, before a value is read.

    Memory of the host: one tensor in at most three forms beside what is already in place. The largest come first, when least
    is, so that their copies do not add to the peak.
    """
    _, shapes = abstract(lambda rngs: component.make(our_config, rngs))
    expected = shapes_of(shapes)
    shape_of = getattr(tensors, "shape_of", lambda key: tuple(np.shape(tensors[key])))
    places, report = plan(
        {key: shape_of(key) for key in tensors}, component.rules(our_config), expected, allow_unused, source
    )
    report.require_complete()
    flat: dict[str, jax.Array] = {}
    for path in sorted(expected, key=lambda path: -math.prod(expected[path])):
        key, transform = places[path]
        shape = expected[path]
        place = sharding(path, shape) if sharding else None
        # No name for what is between: the host's copy would live until the next one stands beside it.
        flat[path] = _placed(native(tensors[key], transform, shape, dtype), place)
    return unflatten({path: flat[path] for path in expected}), report


def native(value: np.ndarray, transform: str, shape: Shape, dtype: Any = None) -> np.ndarray:
    """One original tensor in our layout and dtype (None: its own), contiguous."""
    value = np.asarray(value)
    if dtype is not None:
        value = value.astype(dtype, copy=False)
    return contiguous(TRANSFORMS[transform].to_native(value)).reshape(shape)


def _placed(host: np.ndarray, sharding: jax.sharding.Sharding | None) -> jax.Array:
    """On its devices, and really there: an unfinished transfer would keep the host's copy alive."""
    if sharding is None:
        return jax.device_put(host).block_until_ready()
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index]).block_until_ready()
