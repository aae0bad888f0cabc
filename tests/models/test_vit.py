"""DINO's vision transformer against PyTorch's own operations, at toy and at real size."""

import dataclasses

import jax
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.models.vit import ViT, ViTConfig
from storyjax.nn.build import abstract, bind, count
from storyjax.weights import load_params
from storyjax.weights.vit import VIT_COMPONENT
from tests.goldens.make_inputs import named_weights
from tests.models.transformers_pairs import pictures, relative
from tests.models.vit_torch import SMALL, class_and_embedding, shapes
from tests.tiny import quick_jit

TOLERANCE = 1e-4  # relative, of the whole array
PLAIN, CLIPS = ViTConfig(**SMALL), dataclasses.replace(ViTConfig.clip_b(16), **SMALL, projection=5)


def made(config):
    state = named_weights(shapes(config))
    params, report = load_params(VIT_COMPONENT, config, state)
    assert len(report.placed) == len(state)
    return state, bind(abstract(lambda rngs: ViT(config, rngs=rngs))[0], params)


@pytest.mark.parametrize("config", [PLAIN, CLIPS])
def test_toy_size_is_pytorch(config):
    pytest.importorskip("torch")
    state, ours = made(config)
    images = pictures(3, 8)
    tokens, embedding = class_and_embedding(config, state, images)
    assert relative(quick_jit(lambda x: ours(x)[:, 0])(images), tokens) < TOLERANCE
    assert relative(quick_jit(lambda x: ours.embed(x))(images), embedding) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("config", [ViTConfig.dino_b16(), ViTConfig.clip_b(32)])
def test_real_size_is_pytorch(config):
    pytest.importorskip("torch")
    state, ours = made(config)
    images = pictures(2, 224)
    tokens, embedding = class_and_embedding(config, state, images)
    assert relative(jax.jit(lambda x: ours(x)[:, 0])(images), tokens) < TOLERANCE
    assert relative(jax.jit(lambda x: ours.embed(x))(images), embedding) < TOLERANCE


def test_parameters_of_the_released_sizes():
    sizes = [ViTConfig.dino_b16(), ViTConfig.clip_b(16), ViTConfig.open_clip_b(32)]
    counts = [count(abstract(lambda rngs, c=config: ViT(c, rngs=rngs))[1]) for config in sizes]
    assert counts == [85_798_656, 86_193_408, 87_849_984]


def test_pictures_and_sizes_that_do_not_fit_are_refused():
    with pytest.raises(StoryjaxError, match="whole heads and patches, got 12 channels for 5 heads"):
        dataclasses.replace(PLAIN, heads=5)
    with pytest.raises(StoryjaxError, match=r"expected images \(N, 8, 8, 3\), got \(2, 9, 8, 3\)"):
        made(PLAIN)[1](np.zeros((2, 9, 8, 3), np.float32))
