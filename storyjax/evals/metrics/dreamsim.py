"""DreamSim (Fu et al. 2023): how different two pictures look to people, by vision transformers tuned on their judgements.

    d(a, b) = 1 - cos(e(a) - mean e(a), e(b) - mean e(b)),  e: the branches' vectors side by side

(The package centres and norms every vector by default.) Weights as its releases hold them: of each branch the original ones, and a
low-rank adapter for all of them, merged here at loading.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Evidence, MeanMetric, StoryFrames
from storyjax.evals.metrics.frames import by_story, counted
from storyjax.evals.networks.clip_network import cosine
from storyjax.evals.networks.fixed_batch import FixedBatch
from storyjax.evals.networks.pictures import stretched
from storyjax.evals.networks.published import sha256_of, weights_folder
from storyjax.models.clip_vision import DEVIATION, MEAN
from storyjax.models.vit import ViT, ViTConfig
from storyjax.nn.build import abstract, bind
from storyjax.weights.checkpoint import read_object
from storyjax.weights.load import load_params
from storyjax.weights.lora import Merged, scale_of
from storyjax.weights.readers import open_tensors
from storyjax.weights.vit import VIT_COMPONENT

RELEASES = "https://github.com/ssundaram21/dreamsim/releases/download/v0.2.0-checkpoints/dreamsim_{name}_checkpoint.zip"
DINO = "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth"
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Branch:
    """One vision transformer. feature: "class" is the class token after the last layer, not normed; "embedding" the projected."""

    file: str
    config: ViTConfig
    feature: Literal["class", "embedding"] = "embedding"
    mean: tuple[float, float, float] = MEAN
    deviation: tuple[float, float, float] = DEVIATION


_DINO = Branch("dino_vitbase16_pretrain.pth", ViTConfig.dino_b16(), "class", IMAGENET_MEAN, IMAGENET_DEVIATION)
# Name -> branches, and the folder of the adapter.
VARIANTS: dict[str, tuple[tuple[Branch, ...], str]] = {
    "ensemble": (
        (
            _DINO,
            Branch("clip_vitb16_pretrain.pth.tar", ViTConfig.clip_b(16)),
            Branch("open_clip_vitb16_pretrain.pth.tar", ViTConfig.open_clip_b(16)),
        ),
        "ensemble_lora",
    ),
    "dino_vitb16": ((_DINO,), "dino_vitb16_single_lora"),
    "clip_vitb32": ((Branch("clip_vitb32_pretrain.pth.tar", ViTConfig.clip_b(32)),), "clip_vitb32_single_lora"),
    "open_clip_vitb32": (
        (Branch("open_clip_vitb32_pretrain.pth.tar", ViTConfig.open_clip_b(32)),),
        "open_clip_vitb32_single_lora",
    ),
}


class DreamSimNetwork:
    """uint8 pictures, stretched to the network's size -> vectors, as the package's `embed` before it centres them."""

    def __init__(self, branches: Sequence[Branch], params: Sequence[Any], about: dict[str, Any], *, batch: int = 16):
        self.size = branches[0].config.image_size
        graphs = [abstract(_maker(branch.config))[0] for branch in branches]

        def embed(params: Sequence[Any], images: jax.Array) -> jax.Array:
            found = [_look(branch, bind(g, p), images) for branch, g, p in zip(branches, graphs, params)]
            return jnp.concatenate(found, axis=-1)

        self._width = sum(
            branch.config.width if branch.feature == "class" else branch.config.projection or branch.config.width
            for branch in branches
        )
        self._embed = FixedBatch(embed, list(params), batch)
        self.about = about | {
            "resize": f"stretched to {self.size} x {self.size}, bicubic (Pillow)",
            "batch": self._embed.batch,
        }

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N pictures uint8 (H, W, 3), each of its own size -> (N, D) float32."""
        if not len(pictures):
            return np.zeros((0, self._width), np.float32)
        return self._embed(np.stack([stretched(picture, self.size) for picture in pictures]))


def _maker(config: ViTConfig) -> Any:
    return lambda rngs: ViT(config, rngs=rngs)


def _look(branch: Branch, network: ViT, images: jax.Array) -> jax.Array:
    x = (images.astype(jnp.float32) / 255 - jnp.array(branch.mean)) / jnp.array(branch.deviation)
    return network(x)[:, 0] if branch.feature == "class" else network.embed(x)


def load_dreamsim(variant: str = "ensemble", folder: str | Path | None = None, *, batch: int = 16) -> DreamSimNetwork:
    """A released DreamSim. folder: what its zip unpacks to, as the package's `cache_dir` (default: 'dreamsim' in
    `weights_folder()`).

    Errors: no such variant here; files that are missing (all of them, and where each is published); a file that does not fit.
    """
    if variant not in VARIANTS:
        raise StoryjaxError(
            f"no DreamSim '{variant}' here{nearest(variant, list(VARIANTS))}; it has {', '.join(VARIANTS)}"
        )
    folder = weights_folder() / "dreamsim" if folder is None else Path(folder).expanduser()
    branches, adapter_name = VARIANTS[variant]
    files = {branch.file: _place(folder, branch.file) for branch in branches}
    config_file = folder / adapter_name / "adapter_config.json"
    missing = [name for name, file in files.items() if not file.is_file()]
    missing += [] if config_file.is_file() else [f"{adapter_name}/"]
    if missing:
        raise StoryjaxError(
            f"DreamSim '{variant}' needs its published weights, and '{folder}' lacks {', '.join(missing)}; unpack "
            f"{RELEASES.format(name=variant)} there"
            + (f", and put {DINO} beside it" if _DINO.file in missing else "")
            + " (or name the folder that holds them, or set STORYJAX_WEIGHTS to its parent)"
        )
    adapter = open_tensors(config_file.parent)
    params = merged_params(branches, [open_tensors(file) for file in files.values()], adapter, read_object(config_file))
    hashes = {name: sha256_of(file) for name, file in files.items()}
    hashes |= {f"{adapter_name}/{file.name}": sha256_of(file) for file in adapter.files}
    return DreamSimNetwork(branches, params, {"model": f"DreamSim {variant}", "sha256": hashes}, batch=batch)


def merged_params(
    branches: Sequence[Branch],
    tensors: Sequence[Mapping[str, np.ndarray]],
    adapter: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
) -> list[Any]:
    """Parameters of every branch, float32, the adapter merged. tensors: of each branch's file. config: adapter_config.json."""
    scale = scale_of(config, "DreamSim's adapter")
    prefixes = [f"base_model.model.extractor_list.{i}.model." for i in range(len(branches))]
    lost = [name for name in adapter if not name.startswith(tuple(prefixes))]
    if lost:
        raise StoryjaxError(f"DreamSim's adapter holds '{lost[0]}', which is of none of its {len(branches)} branches")
    return [
        load_params(
            VIT_COMPONENT,
            branch.config,
            Merged(base, adapter, scale, prefix=prefix, what=f"DreamSim's adapter for {branch.file}"),
            dtype=np.float32,
            source=branch.file,
        )[0]
        for branch, base, prefix in zip(branches, tensors, prefixes)
    ]


def _place(folder: Path, file: str) -> Path:
    """DINO's own file lies where PyTorch's hub puts it, or beside the others, or with the other published files."""
    places = [folder / file, folder / "checkpoints" / file, weights_folder() / file]
    return next((place for place in places if place.is_file()), places[0])


class DreamSim(MeanMetric):
    """Mean distance of a generated frame and the real frame in its place."""

    name: ClassVar[str] = "dreamsim"
    title: ClassVar[str] = "DreamSim"
    better = "lower"
    needs = frozenset({"real"})

    def __init__(self, network: DreamSimNetwork):
        self.network = network

    @classmethod
    def open(cls, *, variant: str = "ensemble", folder: str | Path | None = None, batch: int = 16) -> "DreamSim":
        """As `load_dreamsim`."""
        return cls(load_dreamsim(variant, folder, batch=batch))

    @property
    def about(self) -> dict[str, Any]:
        return self.network.about

    def measure(self, stories: Sequence[StoryFrames]) -> list[Evidence]:
        """{"values": (n,) float64}, n frames that count."""
        frames = [counted(story, real=True) for story in stories]
        pictures = [[*story.generated[list(n)], *np.asarray(story.real)[list(n)]] for story, n in zip(stories, frames)]
        return [{"values": distance(*np.split(rows, 2))} for rows in by_story(pictures, self.network)]


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) float64 in 0..2, of vectors (N, D)."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return 1 - cosine(a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True))
