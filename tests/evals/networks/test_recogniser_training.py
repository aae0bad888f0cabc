"""The recogniser goes through the one training loop and comes out as a folder that evaluation loads."""

import json

from configs.recogniser import cartoon
from storyjax.data.config import DataConfig
from storyjax.data.labels import Labels
from storyjax.evals.networks.recogniser import RecogniserConfig, load_recogniser
from storyjax.train.config import EmaConfig, OptimizerConfig, TrainConfig
from storyjax.train.recogniser import RecogniserRun
from tests.evals.drawn import DrawnSource
from tfds_builders.cartoon_stories.world import LABELS


def test_a_short_training_learns_and_writes_a_model_folder(tmp_path, monkeypatch):
    sources = {"train": DrawnSource("train", 4, 32), "validation": DrawnSource("validation", 3, 32)}
    monkeypatch.setattr(DataConfig, "open", lambda self, split: sources[split])
    run = RecogniserRun(
        data=DataConfig(size=32, threads=0),
        network=RecogniserConfig(channels=(16, 16), norm_groups=4),
        train=TrainConfig(
            steps=40,
            batch_size=4,
            log_every=10,
            evaluate_every=40,
            optimizer=OptimizerConfig(learning_rate=1e-2),
            ema=EmaConfig(decay=0.5),
        ),
    )
    result = run.start(tmp_path, progress=False)
    losses = [json.loads(line).get("loss") for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    assert losses[-1] < 0.7 * losses[0]
    assert result.examples_seen == 40 * 4 * 5  # frames
    assert "eval/char_f1" in result.metrics

    recogniser = load_recogniser(tmp_path / "model")
    assert recogniser.labels == Labels(**LABELS)
    assert recogniser.config.image_size == 32
    assert recogniser.read(sources["train"].images(0)).place.shape == (5,)
    card = json.loads((tmp_path / "model/training.json").read_text())
    assert card["frames_seen"] == 800
    assert card["config"]["train"]["steps"] == 40


def test_the_shipped_configuration_is_a_run():
    assert isinstance(cartoon.get_config(), RecogniserRun)
