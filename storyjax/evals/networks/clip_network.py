"""CLIP as a judge: uint8 pictures and sentences in, vectors out, the same ones for any number of them at a time."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storyjax.data.tokenizer import load_tokenizer, tokenize
from storyjax.evals.networks.fixed_batch import FixedBatch
from storyjax.evals.networks.pictures import Corner, centre_crop
from storyjax.evals.networks.pretrained import pretrained, tokenizer_folder
from storyjax.models.clip import CLIP
from storyjax.models.clip_vision import normalised
from storyjax.nn.build import abstract, bind


class ClipNetwork:
    """Both encoders of a CLIP with its preprocessing.

    Pictures: `pictures.centre_crop` to the network's size, mean and deviation of CLIP. Sentences: CLIP's tokens, cut to
    what the network reads (77) with a warning. batch: pictures or sentences a call of the compiled program.
    """

    def __init__(
        self, config: Any, params: Any, tokenizer: Any, about: dict[str, Any], *, corner: Corner = "rounded", batch: int
    ):
        self.config, self._tokenizer = config, tokenizer
        self._corner: Corner = corner
        self.logit_scale = float(np.asarray(params["logit_scale"]))
        graphdef, _ = abstract(lambda rngs: CLIP(config, rngs=rngs))
        self._images = FixedBatch(lambda p, x: bind(graphdef, p).embed_images(normalised(x)), params, batch)
        self._texts = FixedBatch(lambda p, x: bind(graphdef, p).embed_texts(x), params, batch)
        size = config.vision.image_size
        self.about = about | {
            "resize": f"short side to {size}, bicubic (Pillow), centre crop",
            "tokens": config.text.positions,
            "batch": self._images.batch,
        }

    @classmethod
    def open(
        cls,
        model: str | Path,
        *,
        published: str,
        what: str,
        corner: Corner = "rounded",
        processor: str = "",
        batch: int = 16,
    ) -> "ClipNetwork":
        """A model of the hub or a folder, as `pretrained.pretrained`. processor: the hub's name of a model whose tokenizer is
        taken where the folder has none."""
        known = pretrained(model, "clip", published=published, what=what)
        tokens = tokenizer_folder(known.folder, published=processor or published, what=what)
        return cls(known.config, known.params, load_tokenizer(tokens), known.about, corner=corner, batch=batch)

    def images(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N pictures uint8 (H, W, 3), each of its own size -> (N, P) float32, not normed."""
        if not len(pictures):
            return np.zeros((0, self._width), np.float32)
        size = self.config.vision.image_size
        return self._images(np.stack([centre_crop(picture, size, corner=self._corner) for picture in pictures]))

    def texts(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens (N, L) of `tokens` -> (N, P) float32, not normed."""
        return self._texts(tokens) if len(tokens) else np.zeros((0, self._width), np.float32)

    def tokens(self, sentences: Sequence[str]) -> np.ndarray:
        """Sentences -> (N, L) int32."""
        text = self.config.text
        return tokenize(self._tokenizer, sentences, text.positions, text.vocab_size)

    @property
    def _width(self) -> int:
        return self.config.text.projection


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each row of a with the same row of b, both (..., D), in float64."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return (a * b).sum(-1) / (np.sqrt((a * a).sum(-1)) * np.sqrt((b * b).sum(-1)))


@dataclasses.dataclass(frozen=True)
class Published:
    """A model on the hub that a metric is defined by."""

    name: str
    processor: str = ""


VIT_B32 = Published("openai/clip-vit-base-patch32")
PICK_SCORE = Published("yuvalkirstain/PickScore_v1", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K")
