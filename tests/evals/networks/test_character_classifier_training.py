"""The character classifier goes through the one training loop and comes out as a folder that Char-F1 opens."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from configs.character_classifier import flintstones, pororo
from storyjax.data.config import DataConfig
from storyjax.data.labels import Labels
from storyjax.errors import StoryjaxError
from storyjax.evals.metrics.character_metrics import CharF1
from storyjax.evals.networks.character_classifier import CharacterClassifierConfig, classifier_maker
from storyjax.evals.networks.character_classifier_loss import classifier_loss
from storyjax.evals.networks.published import PublishedFile
from storyjax.nn.build import abstract, flatten, materialise
from storyjax.train import character_classifier as training
from storyjax.train.character_classifier import CharacterClassifierRun, classifier_task, imagenet_params
from storyjax.train.config import EmaConfig, OptimizerConfig, TrainConfig
from storyjax.train.state import split
from storyjax.weights import recognition
from storyjax.weights.convert import to_pytorch
from tests import tiny
from tests.evals.drawn import DrawnSource
from tfds_builders.cartoon_stories.world import LABELS

SMALL = CharacterClassifierConfig(("one", "other"), image_size=80, shrink=16)
RUN = CharacterClassifierRun(
    data=DataConfig(size=80, threads=0),
    network=CharacterClassifierConfig(shrink=16),
    start_from="scratch",
    train=TrainConfig(
        steps=12,
        batch_size=2,
        log_every=4,
        evaluate_every=12,
        optimizer=OptimizerConfig(learning_rate=3e-3, weight_decay=0.0),
        ema=EmaConfig(decay=0.0),
    ),
)


@pytest.mark.slow
def test_a_short_training_learns_and_writes_a_model_folder(tmp_path, monkeypatch):
    sources = {"train": DrawnSource("train", 2, 80), "validation": DrawnSource("validation", 2, 80)}
    monkeypatch.setattr(DataConfig, "open", lambda self, split: sources[split])
    with tiny.quick_compiles():
        result = RUN.start(tmp_path, progress=False)
        losses = [json.loads(line).get("loss") for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        losses = [loss for loss in losses if loss is not None]
        assert losses[-1] < losses[0]
        assert result.examples_seen == 12 * 2 * 5  # frames
        assert {"eval/char_f1", "eval/frm_acc"} <= set(result.metrics)
        metric = CharF1.open(classifier=tmp_path / "model")
        metric.check_labels(Labels(**LABELS), "the data")
        assert metric.classifier.config.image_size == 80
        assert metric.classifier.read(sources["train"].images(0)).shape == (5, len(LABELS["characters"]))
    card = json.loads((tmp_path / "model/training.json").read_text())
    assert card["frames_seen"] == 120


def test_statistics_stay_and_everything_else_learns():
    _, shapes = abstract(classifier_maker(SMALL))
    learns, stays = split(shapes, classifier_task(SMALL).frozen)
    assert {path.rsplit(".", 1)[1] for path in flatten(stays)} == {"mean", "variance"}
    assert {path.rsplit(".", 1)[1] for path in flatten(learns)} == {"kernel", "scale", "bias"}


def test_the_loss_of_an_undecided_classifier_is_that_of_guessing():
    config = CharacterClassifierConfig(("one", "other"), shrink=16)  # 299 pixels: with the second head
    graphdef, params = materialise(classifier_maker(config), jax.random.key(0))
    silent = {**params, "fc": jax.tree.map(jnp.zeros_like, params["fc"])}
    silent["auxiliary"] = {**params["auxiliary"], "fc": jax.tree.map(jnp.zeros_like, params["auxiliary"]["fc"])}
    batch = {
        "images": np.random.default_rng(0).integers(0, 256, (1, 1, 299, 299, 3), dtype=np.uint8),
        "characters": np.array([[[0, 1]]], np.uint8),
    }
    compute = tiny.quick_jit(lambda params, batch, key: classifier_loss(graphdef, "unit", params, batch, key))
    loss, metrics = compute(silent, batch, jax.random.key(1))
    assert float(loss) == pytest.approx(1.4 * np.log(2), rel=1e-5)
    assert float(metrics["characters_loss"]) == pytest.approx(np.log(2), rel=1e-5)
    assert float(metrics["frames_right"]) == 0


def test_training_starts_from_the_published_weights_with_new_heads(tmp_path, monkeypatch):
    published = CharacterClassifierConfig(tuple(map(str, range(1000))), shrink=16)
    _, params = materialise(classifier_maker(published), jax.random.key(5))
    save_file(to_pytorch(params, recognition.INCEPTION), tmp_path / "imagenet.pth")
    file = PublishedFile("imagenet.pth", "https://somewhere", None, "ImageNet's classifier")
    monkeypatch.setattr(training, "INCEPTION_TORCHVISION", file)
    monkeypatch.setenv("STORYJAX_WEIGHTS", str(tmp_path))
    for network in (CharacterClassifierConfig(("one", "other"), shrink=16), SMALL):
        found, old = flatten(imagenet_params(network, 0)), flatten(params)
        assert found["fc.kernel"].shape == (128, 2)
        same = [path for path in found if ".fc." not in f".{path}"]
        assert len(same) > 100
        for path in same:
            np.testing.assert_array_equal(found[path], old[path], err_msg=path)
    monkeypatch.setenv("STORYJAX_WEIGHTS", str(tmp_path / "nothing"))
    with pytest.raises(StoryjaxError, match=r"needs its published weights 'imagenet\.pth'"):
        imagenet_params(SMALL, 0)


def test_data_that_names_nobody_is_refused(tmp_path, monkeypatch):
    source = DrawnSource("train", 2, 80)
    source.labels = Labels()
    monkeypatch.setattr(DataConfig, "open", lambda self, split: source)
    with pytest.raises(StoryjaxError, match="'drawn' does not say who is in its frames"):
        RUN.start(tmp_path, progress=False)


@pytest.mark.parametrize("config", [pororo, flintstones])
def test_the_shipped_configurations_are_runs(config):
    run = config.get_config()
    assert isinstance(run, CharacterClassifierRun)
    assert run.data.size == 299
