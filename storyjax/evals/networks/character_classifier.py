"""Who is in a frame, by the classifier that the field scores with: an Inception-v3 with one logit a character.

As StoryViz (Maharana et al. 2021, arXiv 2105.10026) trains it and StoryDALL-E (2022, arXiv 2209.06192) evaluates with it:
torchvision's network with both heads replaced, frames of 299x299 pixels, a character is there when its sigmoid is over 1/2.

What goes into the network differs between their scripts, and published scores depend on it. Training starts from ImageNet's
weights, with which torchvision switches on `transform_input`: the network sees colours in -1..1 ("unit"). Their evaluation
builds the network without those weights, so without that switch, and it sees colours less ImageNet's mean over its deviation
("imagenet"); StoryViz's own script leaves even that away ("plain", 0..1). A classifier trained here is shown at evaluation what
it was trained with; a file of theirs is shown "imagenet" unless told otherwise.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from storyjax.checkpoints.folder import load_component, model_hash, save_folder
from storyjax.config import from_json, to_json
from storyjax.data.images import fit_picture
from storyjax.data.labels import Labels
from storyjax.errors import StoryjaxError
from storyjax.evals.networks.features import HALF, IMAGENET_DEVIATION, IMAGENET_MEAN, FeatureNetwork, Preparation
from storyjax.evals.networks.published import sha256_of
from storyjax.evals.networks.published_networks import classes
from storyjax.models.inception import SMALLEST, Inception, InceptionConfig
from storyjax.nn.build import Params, abstract, flatten
from storyjax.weights import recognition
from storyjax.weights.readers import open_tensors

COMPONENT = "character_classifier"
Input = Literal["unit", "imagenet", "plain"]
INPUTS: dict[str, Preparation] = {
    "unit": Preparation(mean=HALF, deviation=HALF),
    "imagenet": Preparation(mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION),
    "plain": Preparation(mean=(0.0, 0.0, 0.0), deviation=(1.0, 1.0, 1.0)),
}


@dataclasses.dataclass(frozen=True)
class CharacterClassifierConfig:
    """The characters in the order of the data's columns (training fills them in), and what the network is shown."""

    characters: tuple[str, ...] = ()
    image_size: int = 299  # pixels on a side
    input: Input = "unit"
    shrink: int = 1  # every width divided by it, for tests

    def __post_init__(self) -> None:
        if self.image_size < SMALLEST:
            raise StoryjaxError(f"the character classifier needs pictures of {SMALLEST} pixels, got {self.image_size}")
        if self.input not in INPUTS:
            raise StoryjaxError(f"the character classifier has no input '{self.input}'; it has {', '.join(INPUTS)}")

    @property
    def network(self) -> InceptionConfig:
        """torchvision's form, one logit a character; the second head, for training, where pictures are as large as it needs."""
        classes = len(self.characters)
        return InceptionConfig("torchvision", classes, auxiliary=self.image_size >= 299, shrink=self.shrink)


def classifier_maker(config: CharacterClassifierConfig) -> Any:
    """What `nn.build.abstract` and `materialise` take."""
    return lambda rngs: Inception(config.network, rngs=rngs)


class CharacterClassifier:
    """A trained classifier: `read` takes frames of any size, gives who is in them."""

    def __init__(
        self, config: CharacterClassifierConfig, params: Params, *, name: str, content_hash: str, batch: int = 16
    ):
        """batch: frames per call of the compiled network; it changes the speed only. content_hash: SHA-256 of the weights."""
        self.config, self.name, self.hash = config, name, content_hash
        graphdef, _ = abstract(classifier_maker(config))
        self._network = FeatureNetwork(graphdef, params, classes, INPUTS[config.input], batch=batch)

    @property
    def about(self) -> dict[str, Any]:
        """Name, hash, characters and input, for a result's record."""
        size = f"{self.config.image_size}x{self.config.image_size} pixels, short side scaled (PIL, antialiased), middle cut out"
        told = {"classifier": self.name, "sha256": self.hash, "characters": list(self.config.characters)}
        return told | {"resize": size, "input": self.config.input, "threshold": 0.5}

    def logits(self, frames: np.ndarray) -> np.ndarray:
        """frames (N, H, W, 3) uint8 -> (N, K) float32."""
        size = (self.config.image_size, self.config.image_size)
        fitted = [fit_picture(Image.fromarray(frame), size) for frame in frames]
        return self._network(np.stack(fitted) if fitted else np.zeros((0, *size, 3), np.uint8))

    def read(self, frames: np.ndarray) -> np.ndarray:
        """frames (N, H, W, 3) uint8 -> (N, K) bool: a sigmoid over 1/2 is a logit over 0."""
        return self.logits(frames) > 0

    def check_labels(self, labels: Labels, where: str) -> None:
        """Error unless the data's characters are this classifier's, name by name and in order."""
        if labels.characters != self.config.characters:
            raise StoryjaxError(
                f"the character classifier '{self.name}' knows [{', '.join(self.config.characters)}], but {where} has "
                f"[{', '.join(labels.characters)}]; train one on this data (configs/character_classifier) and name it"
            )


def save_classifier(
    folder: str | Path,
    config: CharacterClassifierConfig,
    params: Params,
    *,
    card: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the model folder, weights as float32. card: what `training.json` says about how it came to be."""
    extra = {"training.json": dict(card)} if card else None
    component = {COMPONENT: (to_json(config), params)}
    save_folder(folder, component, extra, index={"system": COMPONENT}, overwrite=overwrite)


def load_classifier(
    path: str | Path, *, characters: Sequence[str] | None = None, input: Input | None = None, batch: int = 16
) -> CharacterClassifier:
    """A model folder that `storyjax train` wrote, or the field's own file of torch.save (a state_dict of torchvision's Inception).

    characters: of a file, which does not say them: the names in the order of its outputs. input: instead of the folder's own, or of
    "imagenet" for a file. Errors: nothing there; a file without `characters`, or with another number of them.
    """
    path = Path(path)
    if path.is_file():
        return _from_file(path, characters, input or "imagenet", batch)
    if not path.is_dir():
        raise StoryjaxError(
            f"no character classifier at '{path}': nobody publishes one in a lasting place; train it with `storyjax train "
            "configs/character_classifier/pororo.py` (or flintstones.py), or name the authors' file"
        )
    stored, _ = load_component(path, COMPONENT)
    config = from_json(CharacterClassifierConfig, stored, f"'{path / COMPONENT / 'config.json'}'")
    shapes = {name: leaf.shape for name, leaf in flatten(abstract(classifier_maker(config))[1]).items()}
    _, params = load_component(path, COMPONENT, shapes)
    shown = config if input is None else dataclasses.replace(config, input=input)
    return CharacterClassifier(shown, params, name=path.name, content_hash=model_hash(path), batch=batch)


def _from_file(path: Path, characters: Sequence[str] | None, input: Input, batch: int) -> CharacterClassifier:
    tensors = open_tensors(path)
    found = tensors.shape_of("fc.weight")[0] if "fc.weight" in tensors else None
    if characters is None or (found is not None and len(characters) != found):
        given = "none were given" if characters is None else f"{len(characters)} were given"
        raise StoryjaxError(
            f"'{path}' tells {found or 'no'} characters apart and does not name them; expected their names in the order of the "
            f"data's labels, {given}"
        )
    config = CharacterClassifierConfig(tuple(characters), input=input)
    _, params = recognition.network_of(tensors, classifier_maker(config), recognition.INCEPTION, source=f"'{path}'")
    return CharacterClassifier(config, params, name=path.name, content_hash=sha256_of(path), batch=batch)
