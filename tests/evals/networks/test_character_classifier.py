"""The character classifier, its folder, the authors' file, and the scores that it gives."""

import dataclasses

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from storyjax.data.images import fit_picture
from storyjax.data.labels import Labels
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import StoryFrames
from storyjax.evals.metrics.character_metrics import CharF1, CharF1Macro, FrmAcc
from storyjax.evals.networks import character_classifier as module
from storyjax.evals.networks.character_classifier import (
    INPUTS,
    CharacterClassifier,
    CharacterClassifierConfig,
    classifier_maker,
    load_classifier,
    save_classifier,
)
from storyjax.models.inception import InceptionConfig
from storyjax.nn.build import abstract, bind, materialise
from storyjax.weights import recognition
from storyjax.weights.convert import to_pytorch

NAMES = ("Pororo", "Crong", "Eddy")
CONFIG = CharacterClassifierConfig(NAMES, image_size=80, shrink=16)
pytestmark = pytest.mark.usefixtures("quick_compiles")


@pytest.fixture(scope="module")
def params():
    return materialise(classifier_maker(CONFIG), jax.random.key(0))[1]


def frames(count, size=(40, 56)):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def test_a_saved_classifier_reads_as_before_and_is_known_by_its_hash(params, tmp_path):
    before = CharacterClassifier(CONFIG, params, name="new", content_hash="x", batch=2)
    save_classifier(tmp_path / "pororo", CONFIG, params, card={"steps": 3})
    after = load_classifier(tmp_path / "pororo", batch=3)
    np.testing.assert_array_equal(before.logits(frames(3)), after.logits(frames(3)))
    assert (after.read(frames(3)) == (after.logits(frames(3)) > 0)).all()
    assert after.config == CONFIG
    assert after.about["sha256"] == after.hash
    assert len(after.hash) == 64
    assert after.about["input"] == "unit"
    assert after.about["characters"] == list(NAMES)


def test_what_the_network_is_shown(params):
    """Short side scaled, middle cut out, colours as the input says."""
    config = dataclasses.replace(CONFIG, input="imagenet")
    found = CharacterClassifier(config, params, name="x", content_hash="", batch=1).logits(frames(1))
    from PIL import Image

    fitted = fit_picture(Image.fromarray(frames(1)[0]), (80, 80))
    shown = (fitted / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    graphdef, _ = abstract(classifier_maker(CONFIG))
    expected = jax.jit(lambda params, x: bind(graphdef, params)(x))(params, shown[None].astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(INPUTS["plain"](frames(1)), frames(1) / 255, rtol=1e-6)


def test_a_file_of_the_authors_is_read(tmp_path, monkeypatch):
    """At the size of a test: the real one is the same with every width times sixteen."""
    config = InceptionConfig("torchvision", len(NAMES), auxiliary=True, shrink=16)
    monkeypatch.setattr(CharacterClassifierConfig, "network", property(lambda self: config))
    _, params = materialise(classifier_maker(CONFIG), jax.random.key(1))
    file = tmp_path / "best.pt"
    save_file(to_pytorch(params, recognition.INCEPTION), file)
    classifier = load_classifier(file, characters=NAMES)
    assert classifier.config.input == "imagenet"
    assert load_classifier(file, characters=NAMES, input="plain").config.input == "plain"
    assert classifier.name == "best.pt"
    with pytest.raises(StoryjaxError, match=r"tells 3 characters apart and does not name them.*none were given"):
        load_classifier(file)
    with pytest.raises(StoryjaxError, match="2 were given"):
        load_classifier(file, characters=NAMES[:2])
    with pytest.raises(
        StoryjaxError, match=r"no character classifier at .*storyjax train configs/character_classifier"
    ):
        load_classifier(tmp_path / "nothing")


def test_settings_that_cannot_be():
    with pytest.raises(StoryjaxError, match="pictures of 75 pixels, got 64"):
        CharacterClassifierConfig(image_size=64)
    with pytest.raises(StoryjaxError, match="no input 'rgb'; it has unit, imagenet, plain"):
        CharacterClassifierConfig(input="rgb")  # type: ignore[arg-type]


def test_another_cast_is_refused(params):
    classifier = CharacterClassifier(CONFIG, params, name="small", content_hash="")
    CharF1(classifier).check_labels(Labels(NAMES), "the data")
    with pytest.raises(StoryjaxError, match=r"'small' knows \[Pororo, Crong, Eddy\], but the data has \[Crong, Pororo"):
        classifier.check_labels(Labels(("Crong", "Pororo", "Eddy")), "the data")


class Fixed:
    """A classifier that sees what each frame's first pixel says, bit by bit."""

    name, about = "fixed", {"classifier": "fixed"}

    def read(self, frames):
        return (frames[:, 0, 0] > 0)[:, :3]


def story(seen, truth, given=0, name="s"):
    seen, truth = np.array(seen, np.uint8), np.array(truth, bool)
    pictures = np.zeros((len(seen), 4, 4, 3), np.uint8)
    pictures[:, 0, 0] = seen
    return StoryFrames(name, [], pictures, characters=truth, given=given)


STORIES = [
    story([[1, 0, 0], [1, 1, 0]], [[1, 0, 0], [1, 0, 0]]),
    story([[1, 1, 1], [0, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0], [1, 1, 0]], given=1),
]


def by_hand(seen, truth, together):
    seen, truth = np.array(seen, bool), np.array(truth, bool)
    columns = [(seen.ravel(), truth.ravel())] if together else zip(seen.T, truth.T)
    found = []
    for p, t in columns:
        precision = (p & t).sum() / p.sum() if p.any() else 0
        recall = (p & t).sum() / t.sum() if t.any() else 0
        found.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return np.mean(found)


COUNTED = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], [[1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0]]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [(CharF1, by_hand(*COUNTED, True)), (CharF1Macro, by_hand(*COUNTED, False)), (FrmAcc, 2 / 4)],
)
def test_scores_of_counted_frames(metric, expected):
    score = metric(Fixed())
    evidence = score.measure(STORIES)
    assert score.score(evidence) == pytest.approx(expected)
    apart = [found for each in STORIES for found in score.measure([each])]
    assert score.score(apart) == score.score(evidence)
    interval = score.interval(evidence * 5)
    assert interval.low <= expected <= interval.high
    assert np.isnan(score.score([]))


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_scores_equal_those_of_scikit_learn(average):
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    seen, truth = random.integers(0, 2, (40, 3)), random.integers(0, 2, (40, 3))
    stories = [story(seen[i : i + 5], truth[i : i + 5]) for i in range(0, 40, 5)]
    metric = (CharF1 if average == "micro" else CharF1Macro)(Fixed())
    expected = metrics.f1_score(truth, seen, average=average)
    assert metric.score(metric.measure(stories)) == pytest.approx(expected)
    frames_right = FrmAcc(Fixed())
    assert frames_right.score(frames_right.measure(stories)) == metrics.accuracy_score(truth, seen)


def test_nobody_anywhere_has_no_f1():
    score = CharF1(Fixed())
    assert np.isnan(score.score(score.measure([story([[0, 0, 0]], [[0, 0, 0]])])))


def test_stories_without_truth_or_with_another():
    score = CharF1(Fixed())
    with pytest.raises(StoryjaxError, match="'s' does not say who is in its frames; Char-F1 needs"):
        score.measure([dataclasses.replace(STORIES[0], characters=None)])
    with pytest.raises(StoryjaxError, match=r"2 frames of 4 characters, but 2 frames were generated and .* knows 3"):
        score.measure([dataclasses.replace(STORIES[0], characters=np.zeros((2, 4), bool))])


def test_every_input_is_described():
    assert set(INPUTS) == {"unit", "imagenet", "plain"}
    assert all(name in module.__doc__ for name in INPUTS)
