"""A small network that reads a drawn frame: who is in it, where, in which weather, doing what.

Story visualisation is scored by a classifier that was trained on real frames and is shown the generated ones (Maharana et
al. 2021 fine-tune an Inception-v3 on PororoSV's characters). Ours is a CNN of about 0.3 M parameters that comes with this
package. It knows one world: the label names are part of its configuration and are checked before it scores anything.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from storyjax.checkpoints.folder import load_component, model_hash, save_folder
from storyjax.config import from_json, nearest, to_json
from storyjax.data.labels import Labels
from storyjax.errors import StoryjaxError
from storyjax.nn.build import Params, abstract, bind, flatten
from storyjax.nn.layers import Conv, GroupNorm, Linear
from storyjax.parallel.layouts import lay_out

SHIPPED = Path(__file__).parents[1] / "recognisers"
COMPONENT = "recogniser"
KINDS = tuple(field.name for field in dataclasses.fields(Labels))  # characters, place, weather, action


@dataclasses.dataclass(frozen=True)
class RecogniserConfig:
    """Sizes of the network and the world it knows (training fills in the labels of its data). Frames are square."""

    labels: Labels = Labels()
    image_size: int = 128
    patch: int = 4
    channels: tuple[int, ...] = (64, 128)
    norm_groups: int = 8


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was recognised in N frames: characters (N, K) bool; place, weather, action (N,) int32."""

    characters: np.ndarray
    place: np.ndarray
    weather: np.ndarray
    action: np.ndarray


class Level(nnx.Module):
    """Half the size, then look again: two 3x3 convolutions (the first with stride 2), each with GroupNorm and ReLU.

    x (N, H, W, C_in) -> (N, H/2, W/2, C).
    """

    def __init__(self, inputs: int, outputs: int, *, groups: int, rngs: Any):
        self.down, self.norm_down = Conv(inputs, outputs, stride=2, rngs=rngs), GroupNorm(groups, outputs)
        self.conv, self.norm = Conv(outputs, outputs, rngs=rngs), GroupNorm(groups, outputs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.norm_down(self.down(x)))
        return jax.nn.relu(self.norm(self.conv(x)))


class RecogniserNet(nnx.Module):
    """images (N, H, W, 3) in [-1, 1] -> logits per kind: characters (N, K), place (N, P), weather (N, W), action (N, A).

    Pixels are folded patch x patch into channels, so that no convolution runs at full size. Mean and maximum over the last
    map feed one linear layer per kind: the mean sees place and weather, the maximum sees someone small anywhere in the frame.
    """

    def __init__(self, config: RecogniserConfig, *, rngs: Any):
        self.patch = config.patch
        widths = (3 * config.patch**2, *config.channels)
        self.levels = nnx.List(
            [Level(a, b, groups=config.norm_groups, rngs=rngs) for a, b in itertools.pairwise(widths)]
        )
        sizes = {kind: len(getattr(config.labels, kind)) for kind in KINDS}
        self.heads = nnx.Dict({kind: Linear(2 * widths[-1], size, rngs=rngs) for kind, size in sizes.items()})

    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        x = einops.rearrange(images, "n (h p) (w q) c -> n h w (p q c)", p=self.patch, q=self.patch)
        for level in self.levels:
            x = level(x)
        pooled = jnp.concatenate([x.mean(axis=(1, 2)), x.max(axis=(1, 2))], axis=-1)
        return {kind: self.heads[kind](pooled) for kind in KINDS}


def recogniser_maker(config: RecogniserConfig) -> Callable[[Any], RecogniserNet]:
    """What `nn.build.abstract` and `materialise` take."""
    return lambda rngs: RecogniserNet(config, rngs=rngs)


class Recogniser:
    """A trained recogniser: `read` takes frames, gives labels. Made by `load_recogniser`, or from a training's parameters."""

    def __init__(self, config: RecogniserConfig, params: Params, *, name: str, content_hash: str, batch: int = 40):
        """batch: frames per call of the compiled network; it changes the speed only. content_hash: SHA-256 of the weights."""
        self.config, self.name, self.hash, self.batch = config, name, content_hash, batch
        self._params, self._graphdef = params, abstract(recogniser_maker(config))[0]

    @property
    def labels(self) -> Labels:
        return self.config.labels

    def read(self, images: np.ndarray) -> Reading:
        """images (N, H, W, 3) uint8, H = W = `config.image_size`. A character is there when its probability is over 1/2."""
        size = self.config.image_size
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise StoryjaxError(
                f"the recogniser '{self.name}' reads uint8 frames of shape (N, {size}, {size}, 3), got {images.dtype} "
                f"{images.shape}; bring the frames to {size}x{size} pixels first"
            )
        parts = [self._read_batch(images[i : i + self.batch]) for i in range(0, len(images), self.batch)]
        joined = {kind: np.concatenate([part[kind] for part in parts]) for kind in KINDS}
        return Reading(**joined)

    def _read_batch(self, images: np.ndarray) -> dict[str, np.ndarray]:
        count = len(images)
        full = np.concatenate([images, np.zeros((self.batch - count, *images.shape[1:]), np.uint8)])
        found = _recognise(self._graphdef, self._params, full)
        return {kind: np.asarray(value)[:count] for kind, value in found.items()}

    def check_labels(self, labels: Labels, where: str) -> None:
        """Error unless `labels` are this recogniser's world, name by name and in order."""
        for kind in KINDS:
            known, given = getattr(self.labels, kind), getattr(labels, kind)
            if known != given:
                raise StoryjaxError(
                    f"the recogniser '{self.name}' knows another world than {where}: its {kind} are {_listed(known)}, "
                    f"the data's are {_listed(given)}; train a recogniser on this data (configs/recogniser) and name it"
                )


@functools.partial(jax.jit, static_argnums=0)
def _recognise(graphdef: nnx.GraphDef, params: Params, images: jax.Array) -> dict[str, jax.Array]:
    logits = bind(graphdef, params)(to_unit(images))
    labels = {kind: logits[kind].argmax(axis=-1) for kind in KINDS if kind != "characters"}
    return {
        name: lay_out(value, "everywhere") for name, value in {"characters": logits["characters"] > 0, **labels}.items()
    }


def to_unit(images: jax.Array) -> jax.Array:
    """uint8 0..255 -> float32 -1..1."""
    return images.astype(jnp.float32) / 127.5 - 1


def save_recogniser(
    folder: str | Path,
    config: RecogniserConfig,
    params: Params,
    *,
    card: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the model folder, weights as float16. card: what `training.json` says about how it came to be."""
    extra = {"training.json": dict(card)} if card else None
    index = {"system": COMPONENT}
    component = {COMPONENT: (to_json(config), params)}
    save_folder(folder, component, extra, index=index, dtype="float16", overwrite=overwrite)


def load_recogniser(name_or_folder: str | Path = "cartoon") -> Recogniser:
    """A shipped recogniser by its name, or any recogniser's model folder."""
    folder = Path(name_or_folder)
    shipped = sorted(path.parent.name for path in SHIPPED.glob("*/model_index.json"))
    if str(name_or_folder) in shipped:
        folder = SHIPPED / str(name_or_folder)
    elif not folder.is_dir():
        raise StoryjaxError(
            f"no recogniser '{name_or_folder}': neither a model folder nor a shipped one{nearest(str(folder), shipped)}"
        )
    stored, _ = load_component(folder, COMPONENT)
    config = from_json(RecogniserConfig, stored, f"'{folder / COMPONENT / 'config.json'}'")
    shapes = {path: leaf.shape for path, leaf in flatten(abstract(recogniser_maker(config))[1]).items()}
    _, params = load_component(folder, COMPONENT, shapes)
    return Recogniser(config, params, name=folder.name, content_hash=model_hash(folder))


def _listed(names: Sequence[str]) -> str:
    return f"[{', '.join(names)}]" if names else "not given"
