"""A model folder with a toy CLIP or OWL-ViT in transformers' layout, weights functions of a seed, and stories for it."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from storyjax.evals.metric import StoryFrames
from storyjax.models.clip import CLIPConfig
from storyjax.models.clip_text import CLIPTextConfig
from storyjax.models.clip_vision import CLIPVisionConfig
from storyjax.nn.build import abstract
from storyjax.weights import to_pytorch
from storyjax.weights.component import component
from tests.tiny import SENTENCES, TOKENS, filled

CONFIG = CLIPConfig(
    CLIPTextConfig(vocab_size=600, width=8, layers=1, heads=2, mlp_width=16, positions=TOKENS, projection=8),
    CLIPVisionConfig(width=12, layers=2, heads=2, mlp_width=16, image_size=14, patch_size=7, projection=8),
)


def params(kind: str, config: CLIPConfig = CONFIG):
    known = component(kind)
    return filled(abstract(lambda rngs: known.make(config, rngs))[1])


def folder(place: Path, kind: str, tokenizer: Path | None, config: CLIPConfig = CONFIG) -> Path:
    """config.json, model.safetensors, and the tokenizer's files."""
    known = component(kind)
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(known.write_config(config)))
    save_file(to_pytorch(params(kind, config), known.rules(config)), place / "model.safetensors")
    for file in () if tokenizer is None else tokenizer.iterdir():
        shutil.copy(file, place)
    return place


def owlvit_config() -> CLIPConfig:
    return dataclasses.replace(CONFIG, vision=dataclasses.replace(CONFIG.vision, image_size=21))


def stories(
    count: int = 3, *, size: tuple[int, int] = (20, 17), real: bool = True, given: int = 0
) -> list[StoryFrames]:
    """Noise, and the sentences that the test tokenizer knows; story n has 3 frames."""
    random = np.random.default_rng(5)

    def frames() -> np.ndarray:
        return random.integers(0, 256, (3, *size, 3), dtype=np.uint8)

    return [
        StoryFrames(f"s{n}", [f"{s} {n}" for s in SENTENCES], frames(), real=frames() if real else None, given=given)
        for n in range(count)
    ]


def same(a, b) -> bool:
    """Whether two lists of evidence are equal to the bit."""
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(x[k].dtype == y[k].dtype and np.array_equal(x[k], y[k]) for k in x)
        for x, y in zip(a, b)
    )
