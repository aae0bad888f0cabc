"""CLIP whole: against transformers at toy size, and at the size of ViT-B/32."""

import jax
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.models.clip import CLIPConfig
from storyjax.models.clip_text import CLIPTextConfig
from storyjax.models.clip_vision import CLIPVisionConfig
from storyjax.weights import build, component_of
from tests.models.transformers_pairs import TOKENS, built, clip_config, embedded, pictures, relative, tensors
from tests.tiny import quick_jit

TOLERANCE = 1e-4  # relative, of the whole array


@pytest.mark.parametrize(("end", "act"), [(2, "quick_gelu"), (31, "gelu")])
def test_toy_size_is_transformers(end, act):
    """End 2 means the largest id, in configs from before transformers used it."""
    pytest.importorskip("torch")
    config = clip_config(end=end, act=act)
    theirs, images = built(config), pictures(3, 14)
    ours = build("clip", config, tensors(theirs))
    expected_image, expected_text = embedded(theirs, images, TOKENS)
    assert relative(quick_jit(lambda x: ours.embed_images(x))(images), expected_image) < TOLERANCE
    assert relative(quick_jit(lambda x: ours.embed_texts(x))(TOKENS), expected_text) < TOLERANCE
    assert float(ours.logit_scale[...]) == float(theirs.logit_scale.detach())


@pytest.mark.slow
def test_the_size_of_vit_b32_is_transformers():
    pytest.importorskip("torch")
    config = component_of({"architectures": ["CLIPModel"]}).write_config(CLIPConfig.vit_b32())
    theirs, images = built(config), pictures(2, 224)
    tokens = np.full((2, 77), 49407)
    tokens[:, :20] = np.random.default_rng(0).integers(0, 49000, (2, 20))
    ours = build("clip", config, tensors(theirs))
    expected_image, expected_text = embedded(theirs, images, tokens)
    assert relative(jax.jit(lambda x: ours.embed_images(x))(images), expected_image) < TOLERANCE
    assert relative(jax.jit(lambda x: ours.embed_texts(x))(tokens), expected_text) < TOLERANCE


def test_encoders_of_two_widths_are_refused():
    with pytest.raises(StoryjaxError, match=r"project to one width, got 5 \(text\) and 6 \(vision\)"):
        CLIPConfig(CLIPTextConfig(projection=5), CLIPVisionConfig(projection=6))
    with pytest.raises(StoryjaxError, match=r"project to one width, got None \(text\)"):
        CLIPConfig(CLIPTextConfig(), CLIPVisionConfig(projection=None))


def test_a_config_without_an_encoder_is_refused():
    read = component_of({"architectures": ["CLIPModel"]}).read_config
    with pytest.raises(StoryjaxError, match="CLIPModel: expected an object as text_config, got 'x'"):
        read({"text_config": "x"})
    with pytest.raises(StoryjaxError, match="widen is 3, which is not known here"):
        read({"widen": 3})
