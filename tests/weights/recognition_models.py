"""The recognition networks of the evaluators at their published sizes: weights that are functions of a tensor's name, and inputs.

`tests/goldens/make_recognition.py` computes what the PyTorch originals say about them.
"""

import math
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from storyjax.models.i3d import I3D, I3DConfig
from storyjax.models.inception import Inception, InceptionConfig
from storyjax.models.lpips import LPIPS, LPIPSConfig
from storyjax.models.r2plus1d import R2Plus1D, R2Plus1DConfig
from storyjax.weights import recognition

Shape = tuple[int, ...]


class Model(NamedTuple):
    """make: of ours. rules: its table. inputs: shapes of what goes in, channels last; outputs: ours, by the name of the golden."""

    make: Any
    rules: list
    inputs: tuple[Shape, ...]
    outputs: Any


def _inception(model: Any, images: Any) -> dict[str, Any]:
    last, middle = model.maps(images)
    features = last.mean(axis=(1, 2))
    found = {"features": features, "logits": model.logits(features)}
    return found | ({"auxiliary": model.auxiliary(middle)} if model.auxiliary else {})


def _clips(model: Any, clips: Any) -> dict[str, Any]:
    features = model.features(clips)
    return {"features": features, "logits": model.fc(features)}


def _logits(model: Any, clips: Any) -> dict[str, Any]:
    return {"logits": model(clips)}


def _distance(model: Any, one: Any, other: Any) -> dict[str, Any]:
    return {"distance": model(one, other)}


def _lpips(trunk: Any, *size: int) -> Model:
    shape = (2, *size, 3)
    return Model(lambda rngs: LPIPS(LPIPSConfig(trunk), rngs=rngs), recognition.LPIPS, (shape, shape), _distance)


MODELS = {
    "inception_fid": Model(
        lambda rngs: Inception(InceptionConfig.fid(), rngs=rngs),
        recognition.INCEPTION,
        ((1, 299, 299, 3),),
        _inception,
    ),
    "inception_torchvision": Model(
        lambda rngs: Inception(InceptionConfig.torchvision(), rngs=rngs),
        recognition.INCEPTION,
        ((1, 299, 299, 3),),
        _inception,
    ),
    "r2plus1d": Model(
        lambda rngs: R2Plus1D(R2Plus1DConfig(), rngs=rngs), recognition.R2PLUS1D, ((1, 5, 64, 64, 3),), _clips
    ),
    "r2plus1d_112": Model(
        lambda rngs: R2Plus1D(R2Plus1DConfig(), rngs=rngs), recognition.R2PLUS1D, ((1, 5, 112, 112, 3),), _clips
    ),
    "i3d_torchscript": Model(
        lambda rngs: I3D(I3DConfig(), rngs=rngs), recognition.I3D, ((1, 16, 224, 224, 3),), _logits
    ),
    "i3d_pytorch": Model(lambda rngs: I3D(I3DConfig(), rngs=rngs), recognition.I3D, ((1, 10, 193, 197, 3),), _logits),
    "lpips_alex": _lpips("alex", 64, 71),
    "lpips_vgg": _lpips("vgg", 50, 64),
    "lpips_squeeze": _lpips("squeeze", 64, 71),
}


def weights(shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """The tensors called by these names: activations keep their size through the network, no statistic is trivial."""
    return {key: _weight(key, shape) for key, shape in shapes.items()}


def _weight(key: str, shape: Shape) -> np.ndarray:
    random = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    if key.endswith("num_batches_tracked"):
        return np.array(7, np.int64)
    if key.endswith("running_var"):
        return (0.5 + random.random(shape)).astype(np.float32)
    noise = random.standard_normal(shape, dtype=np.float32)
    if key.startswith("lin"):  # LPIPS publishes weights that are not negative
        return np.abs(noise) / 10
    if len(shape) >= 2:
        return noise * math.sqrt(2 / math.prod(shape[1:]))
    return (1 + 0.1 * noise) if key.endswith(".weight") else 0.2 * noise


def pictures(name: str) -> list[np.ndarray]:
    """What goes in, channels last, in -1..1: smooth, so that neighbouring pixels are alike as in a picture."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    found = []
    for shape in MODELS[name].inputs:
        waves = [np.linspace(0, random.uniform(2, 9), size) + random.uniform(0, 6) for size in shape[1:-1]]
        grid = sum(np.meshgrid(*waves, indexing="ij"))
        smooth = 0.6 * np.sin(grid)[None, ..., None] * random.uniform(0.3, 1, (shape[0], *[1] * len(waves), 3))
        found.append((smooth + 0.3 * random.uniform(-1, 1, shape)).astype(np.float32))
    return found
