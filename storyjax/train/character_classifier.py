"""Train the character classifier that Char-F1 and Frm-Acc look with, on the real frames of any data that says who is in them."""

import contextlib
import dataclasses
from typing import Any, Literal

import jax
import numpy as np

from storyjax.checkpoints.manager import load_params
from storyjax.checkpoints.paths import PathLike, at
from storyjax.checkpoints.remote import published
from storyjax.config import to_json
from storyjax.data.batch import BatchSpec
from storyjax.data.config import DataConfig
from storyjax.data.source import StorySource
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import StoryFrames
from storyjax.evals.metrics.character_metrics import CharF1, FrmAcc
from storyjax.evals.networks.character_classifier import (
    CharacterClassifier,
    CharacterClassifierConfig,
    classifier_maker,
    save_classifier,
)
from storyjax.evals.networks.character_classifier_loss import FROZEN, classifier_loss
from storyjax.evals.networks.published_networks import INCEPTION_TORCHVISION
from storyjax.nn.build import Params, abstract, materialise
from storyjax.parallel.layouts import lay_out
from storyjax.parallel.placement import Placement
from storyjax.train.config import TrainConfig
from storyjax.train.loop import TrainResult, train
from storyjax.train.task import Batch, Task
from storyjax.weights import recognition
from storyjax.weights.readers import open_tensors

EVALUATED = 100  # validation stories that are read now and then during training
HEADS = ("fc.", "AuxLogits.fc.")


@dataclasses.dataclass(frozen=True)
class CharacterClassifierRun:
    """A training run of the character classifier: `storyjax train` on a file whose get_config() returns this."""

    data: DataConfig = DataConfig(size=299)
    network: CharacterClassifierConfig = CharacterClassifierConfig()
    """Its characters and its image size are those of the data."""
    start_from: Literal["imagenet", "scratch"] = "imagenet"
    """imagenet: torchvision's published file, both heads drawn anew."""
    train: TrainConfig = TrainConfig()

    def start(self, workdir: PathLike, *, placement: Placement | None = None, progress: bool = True) -> TrainResult:
        """Train, or continue; when all steps are made, write the model folder `<workdir>/model`."""
        placement = placement or Placement.of()
        source, held_out = self.data.open(self.data.train_split), self.data.open("validation")
        if not source.labels.characters:
            raise StoryjaxError(
                f"the data '{source.name}' does not say who is in its frames; expected `characters`, from which the classifier "
                "learns (see docs/data.md)"
            )
        characters = source.labels.characters
        network = dataclasses.replace(self.network, characters=characters, image_size=self.data.size)
        spec = BatchSpec(pictures="images", text=None, truth=("characters",))
        rows = placement.rows(self.train.batch_size)
        batches = self.data.batches(source, spec, self.train.batch_size, rows)
        with contextlib.closing(batches):
            result = train(
                classifier_task(network, held_out),
                self.train,
                batches,
                workdir,
                config_json=to_json(self),
                init_params=imagenet_params(network, self.train.seed) if self.start_from == "imagenet" else None,
                progress=progress,
                placement=placement,
            )
        if result.stopped_by is None:
            params, info = load_params(workdir)
            card = {"dataset": source.name, "steps": result.step, "frames_seen": result.examples_seen}
            card |= {"train_seconds": info["train_seconds"], "config": to_json(self)}
            with published(at(workdir) / "model") as here:
                save_classifier(here, network, params, card=card, overwrite=True)
        return result


def classifier_task(network: CharacterClassifierConfig, held_out: StorySource | None = None) -> Task:
    """What the loop needs. network: with its characters. held_out: stories whose frames `evaluate` reads."""
    make = classifier_maker(network)
    graphdef, _ = abstract(make)

    def loss_fn(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        return classifier_loss(graphdef, network.input, params, batch, key)

    def evaluate(params: Params, step: int) -> dict[str, float]:
        assert held_out is not None
        classifier = CharacterClassifier(network, _on_the_host(params), name=f"step {step}", content_hash="")
        return scores(classifier, held_out, EVALUATED)

    return Task(
        init=lambda key: materialise(make, key)[1],
        loss_fn=loss_fn,
        frozen=FROZEN,
        evaluate=None if held_out is None else evaluate,
        examples_per_batch=lambda batch: batch["images"].shape[0] * batch["images"].shape[1],
    )


def _on_the_host(params: Params) -> Params:
    """Whole arrays, wherever the devices of a training hold their parts."""
    whole = jax.jit(lambda params: jax.tree.map(lambda leaf: lay_out(leaf, "everywhere"), params))(params)
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), whole)


def scores(classifier: CharacterClassifier, source: StorySource, most: int) -> dict[str, float]:
    """Char-F1 and Frm-Acc on the real frames of the first `most` stories: the most that generated ones can reach."""
    characters, evidence = source.table.truth["characters"], []
    for index in range(min(most, len(source))):
        story = StoryFrames(
            source.table.ids[index],
            source.sentences(index),
            source.images(index),
            characters=characters[index].astype(bool),
        )
        evidence += CharF1(classifier).measure([story])
    return {metric.name: metric(classifier).score(evidence) for metric in (CharF1, FrmAcc)}


def imagenet_params(network: CharacterClassifierConfig, seed: int) -> Params:
    """torchvision's published weights, with heads for these characters drawn from the seed."""
    make, file = classifier_maker(network), INCEPTION_TORCHVISION.find()
    drawn: Any = materialise(make, jax.random.key(seed))[1]
    tensors = {key: value for key, value in dict(open_tensors(file)).items() if not key.startswith(HEADS)}
    for key, head in (("fc", drawn["fc"]), ("AuxLogits.fc", drawn.get("auxiliary", {}).get("fc"))):
        if head is not None:
            tensors[f"{key}.weight"], tensors[f"{key}.bias"] = np.asarray(head["kernel"]).T, np.asarray(head["bias"])
    if "auxiliary" not in drawn:
        tensors = {key: value for key, value in tensors.items() if not key.startswith("AuxLogits.")}
    return recognition.network_of(tensors, make, recognition.INCEPTION, source=f"'{file}'")[1]
