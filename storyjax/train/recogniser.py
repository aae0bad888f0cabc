"""Train a recogniser for `storyjax evaluate` on drawn frames and their truth."""

import contextlib
import dataclasses

import jax

from storyjax.checkpoints.manager import load_params
from storyjax.checkpoints.paths import PathLike, at
from storyjax.checkpoints.remote import published
from storyjax.config import to_json
from storyjax.data.batch import BatchSpec
from storyjax.data.config import DataConfig
from storyjax.data.source import StorySource
from storyjax.evals.metrics.recogniser_metric import RecogniserMetric
from storyjax.evals.networks.recogniser import KINDS, Recogniser, RecogniserConfig, recogniser_maker, save_recogniser
from storyjax.evals.networks.recogniser_loss import recogniser_loss
from storyjax.evals.sources.generated import InMemory
from storyjax.evals.story_evaluator import StoryEvaluator
from storyjax.nn.build import Params, abstract, materialise
from storyjax.parallel.placement import Placement
from storyjax.train.config import TrainConfig
from storyjax.train.loop import TrainResult, train
from storyjax.train.task import Batch, Task

EVALUATED = 100  # validation stories that are read now and then during training


@dataclasses.dataclass(frozen=True)
class RecogniserRun:
    """A training run of the recogniser: `storyjax train` on a file whose get_config() returns this."""

    data: DataConfig = DataConfig()
    network: RecogniserConfig = RecogniserConfig()
    """Its labels and its image size are those of the data."""
    train: TrainConfig = TrainConfig()

    def start(self, workdir: PathLike, *, placement: Placement | None = None, progress: bool = True) -> TrainResult:
        """Train, or continue; when all steps are made, write the model folder `<workdir>/model`."""
        placement = placement or Placement.of()
        source, held_out = self.data.open("train"), self.data.open("validation")
        network = dataclasses.replace(self.network, labels=source.labels, image_size=self.data.size)
        spec = BatchSpec(pictures="images", text=None, truth=KINDS)
        rows = placement.rows(self.train.batch_size)
        batches = self.data.batches(source, spec, self.train.batch_size, rows)
        with contextlib.closing(batches):
            task = recogniser_task(network, held_out)
            config_json = to_json(self)
            result = train(
                task, self.train, batches, workdir, config_json=config_json, progress=progress, placement=placement
            )
        if result.stopped_by is None:
            params, info = load_params(workdir)
            card = {"dataset": source.name, "steps": result.step, "frames_seen": result.examples_seen}
            card |= {"train_seconds": info["train_seconds"], "config": to_json(self)}
            with published(at(workdir) / "model") as here:
                save_recogniser(here, network, params, card=card, overwrite=True)
        return result


def recogniser_task(network: RecogniserConfig, held_out: StorySource | None = None) -> Task:
    """What the loop needs. network: with its labels. held_out: stories whose drawn frames `evaluate` reads."""
    make = recogniser_maker(network)
    graphdef, _ = abstract(make)

    def loss_fn(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        return recogniser_loss(graphdef, params, batch, key)

    def evaluate(params: Params, step: int) -> dict[str, float]:
        assert held_out is not None
        recogniser = Recogniser(network, params, name=f"step {step}", content_hash="")
        metrics = {"recogniser": RecogniserMetric(recogniser)}
        evaluator = StoryEvaluator(held_out, metrics, min(EVALUATED, len(held_out)))
        return evaluator.run(InMemory.real(held_out), progress=False).scores()

    return Task(
        init=lambda key: materialise(make, key)[1],
        loss_fn=loss_fn,
        evaluate=None if held_out is None else evaluate,
        examples_per_batch=lambda batch: batch["images"].shape[0] * batch["images"].shape[1],
    )
