"""OWL-ViT: against transformers at toy size, and at the size of google/owlvit-base-patch32."""

import numpy as np
import pytest

from storyjax.models.owlvit import base_patch32, logits, places
from storyjax.weights import build, component_of
from tests.models.transformers_pairs import TOKENS, built, detected, owlvit_config, pictures, relative, tensors
from tests.tiny import quick_jit

TOLERANCE = 1e-4  # relative, of the whole array


def compared(config, side, tokens):
    theirs, images = built(config), pictures(2, side)
    ours = build("owlvit", config, tensors(theirs))
    boxes, scores = detected(theirs, images, tokens)
    seen = quick_jit(lambda x: ours.look(x))(images)
    texts = quick_jit(lambda x: ours.embed_texts(x))(tokens)
    return relative(seen["boxes"], boxes), relative(logits(seen, texts), scores)


def test_toy_size_is_transformers():
    pytest.importorskip("torch")
    assert max(compared(owlvit_config(), 21, TOKENS)) < TOLERANCE


@pytest.mark.slow
def test_the_released_size_is_transformers():
    pytest.importorskip("torch")
    config = component_of({"architectures": ["OwlViTForObjectDetection"]}).write_config(base_patch32())
    tokens = np.zeros((3, 16), np.int64)
    tokens[:, :4] = [[49406, 320, 2368, 49407], [49406, 7, 2, 49407], [49406, 40000, 5, 49407]]
    assert max(compared(config, 768, tokens)) < TOLERANCE


def test_every_patch_looks_at_its_lower_right_corner_first():
    centre = 1 / (1 + np.exp(-places(4)))
    np.testing.assert_allclose(centre[1], [0.5, 0.25, 0.25, 0.25], atol=1e-3)  # the second of the first row
    np.testing.assert_allclose(centre[-1], [1, 1, 0.25, 0.25], atol=1e-3)
