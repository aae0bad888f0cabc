"""Finding characters and things by their names with OWL-ViT (Minderer et al. 2022), to cut them out of generated frames.

The Story-Adapter paper and TheaterGen cut out with Grounding DINO; OWL-ViT answers the same question and is made of CLIP's parts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storyjax.data.tokenizer import load_tokenizer, tokenize
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Box
from storyjax.evals.networks.fixed_batch import FixedBatch
from storyjax.evals.networks.pictures import stretched
from storyjax.evals.networks.pretrained import pretrained, tokenizer_folder
from storyjax.evals.sources.boxes import not_found
from storyjax.models.clip import CLIPConfig
from storyjax.models.clip_vision import normalised
from storyjax.models.owlvit import OwlViT, logits
from storyjax.nn.build import abstract, bind

PUBLISHED = "google/owlvit-base-patch32"


class OwlDetector:
    """The best box of each name in each frame, if its probability is over `threshold`.

    transformers' processor gives a patch to the one text it fits best; here each name takes its best patch, whoever else does.
    """

    def __init__(
        self,
        config: CLIPConfig,
        params: Any,
        tokenizer: Any,
        about: dict[str, Any],
        *,
        threshold: float = 0.1,
        template: str = "{}",
        batch: int = 4,
    ):
        """template: what is looked for, with the name in the place of {}, such as "a photo of a {}"."""
        if not 0 <= threshold <= 1 or "{}" not in template:
            raise StoryjaxError(
                f"detector: expected a threshold in 0..1 and '{{}}' in the template, got {threshold} and '{template}'"
            )
        self.config, self._tokenizer = config, tokenizer
        self.threshold, self.template = threshold, template
        graphdef, _ = abstract(lambda rngs: OwlViT(config, rngs=rngs))
        self._images = FixedBatch(lambda p, x: bind(graphdef, p).look(normalised(x)), params, batch)
        self._texts = FixedBatch(lambda p, x: bind(graphdef, p).embed_texts(x), params, batch)
        size = config.vision.image_size
        self.about = about | {
            "threshold": threshold,
            "template": template,
            "resize": f"stretched to {size} x {size}, bicubic (Pillow)",
            "batch": self._images.batch,
        }

    @classmethod
    def open(
        cls, model: str | Path = PUBLISHED, *, threshold: float = 0.1, template: str = "{}", batch: int = 4
    ) -> "OwlDetector":
        """model: OWL-ViT on the hub, or a folder with it. Error: it is not here and cannot be fetched."""
        known = pretrained(model, "owlvit", published=PUBLISHED, what="the detector")
        tokenizer = load_tokenizer(tokenizer_folder(known.folder, published=PUBLISHED, what="the detector"))
        return cls(
            known.config, known.params, tokenizer, known.about, threshold=threshold, template=template, batch=batch
        )

    def find(self, frames: Sequence[np.ndarray] | np.ndarray, names: Sequence[Sequence[str]]) -> list[list[Box]]:
        """frames: uint8 (H, W, 3) each; names: whom to look for in each. One box a name, without area where nobody was found."""
        if len(frames) != len(names):
            raise StoryjaxError(
                f"detector: expected a list of names a frame, got {len(names)} for {len(frames)} frames"
            )
        every = sorted({name for each in names for name in each})
        if not every:
            return [[] for _ in names]
        text = self.config.text
        asked = [self.template.replace("{}", name) for name in every]
        vectors = dict(zip(every, self._texts(tokenize(self._tokenizer, asked, text.positions, text.vocab_size))))
        found: list[list[Box]] = [[] for _ in names]
        asked_of = [number for number, wanted in enumerate(names) if wanted]
        step, size = self._images.batch, self.config.vision.image_size
        for numbers in (
            asked_of[i : i + step] for i in range(0, len(asked_of), step)
        ):  # what is seen is large: not all at once
            seen = self._images(np.stack([stretched(frames[number], size) for number in numbers]))
            for row, number in enumerate(numbers):
                one = {key: np.asarray(value[row], np.float64) for key, value in seen.items()}
                found[number] = [self._best(one, name, vectors[name]) for name in names[number]]
        return found

    def _best(self, seen: dict[str, np.ndarray], name: str, vector: np.ndarray) -> Box:
        scores = logits(seen, vector[None].astype(np.float64))[:, 0]
        best = int(scores.argmax())
        if not 1 / (1 + np.exp(-scores[best])) > self.threshold:
            return not_found(name)
        x, y, width, height = seen["boxes"][best]
        top, left, bottom, right = np.clip([y - height / 2, x - width / 2, y + height / 2, x + width / 2], 0, 1)
        return Box(name, float(top), float(left), float(bottom), float(right))
