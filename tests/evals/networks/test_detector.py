"""The detector on a toy OWL-ViT: the best patch of each name, threshold, any number of frames at a time."""

import jax
import numpy as np
import pytest

from storyjax.data import load_tokenizer, tokenize
from storyjax.errors import StoryjaxError
from storyjax.evals.networks.detector import OwlDetector
from storyjax.evals.networks.finding import Detected
from storyjax.evals.networks.pictures import stretched
from storyjax.evals.sources.boxes import is_there
from storyjax.models.clip_vision import normalised
from storyjax.models.owlvit import OwlViT, logits
from storyjax.nn.build import abstract, bind
from tests.evals.toy_clip import folder, owlvit_config, params, stories
from tests.tiny import TOKENS

NAMES = ["Ada", "the lake"]


@pytest.fixture(scope="module")
def detector(tokenizer, tmp_path_factory):
    place = folder(tmp_path_factory.mktemp("owl") / "toy", "owlvit", tokenizer, owlvit_config())
    return OwlDetector.open(place, threshold=0.0, batch=2)


def test_the_best_patch_of_each_name(detector, tokenizer):
    frames = stories(1)[0].generated
    config = owlvit_config()
    network = bind(abstract(lambda rngs: OwlViT(config, rngs=rngs))[0], params("owlvit", config))
    tokens = tokenize(load_tokenizer(tokenizer), NAMES, TOKENS)
    look = jax.jit(lambda x, t: (network.look(normalised(x)), network.embed_texts(t)))
    seen, texts = look(np.stack([stretched(frame, 21) for frame in frames]), tokens)
    best = np.asarray(logits(seen, texts)).argmax(axis=1)  # (F, Q)
    for n, found in enumerate(detector.find(frames, [NAMES] * 3)):
        assert [box.name for box in found] == NAMES
        for box, patch in zip(found, best[n]):
            x, y, w, h = np.asarray(seen["boxes"])[n, patch]
            expected = np.clip([y - h / 2, x - w / 2, y + h / 2, x + w / 2], 0, 1)
            np.testing.assert_allclose([box.top, box.left, box.bottom, box.right], expected, atol=1e-5)


def test_frames_alone_or_together_and_names_alone_or_together(detector):
    frames = stories(1)[0].generated
    whole = detector.find(frames, [NAMES, [], NAMES])
    assert whole[1] == []
    assert detector.find(frames[2:], [NAMES]) == whole[2:]
    assert detector.find(frames[:1], [NAMES[1:]]) == [whole[0][1:]]


def test_below_the_threshold_nobody_is_there(detector):
    strict = OwlDetector(
        detector.config, params("owlvit", detector.config), detector._tokenizer, {}, threshold=1.0, batch=2
    )
    found = strict.find(stories(1)[0].generated, [NAMES] * 3)
    assert [[is_there(box) for box in frame] for frame in found] == [[False, False]] * 3


def test_names_go_by_story(detector):
    story, other = stories(2)
    finder = Detected(detector, {"s0": ["Ada", "Ada"]})
    assert [[box.name for box in frame] for frame in finder.find(story)] == [["Ada"]] * 3
    with pytest.raises(StoryjaxError, match="no names to look for in story 's1'"):
        finder.find(other)


def test_odd_options_are_refused(detector):
    with pytest.raises(StoryjaxError, match="a list of names a frame, got 1 for 3 frames"):
        detector.find(stories(1)[0].generated, [NAMES])
    with pytest.raises(StoryjaxError, match=r"threshold in 0\.\.1 and '\{\}' in the template, got 2 and 'a photo'"):
        OwlDetector(detector.config, None, None, {}, threshold=2, template="a photo")
