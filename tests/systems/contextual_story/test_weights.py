"""The table of names against the names and shapes of the official state dicts; no values, so real sizes cost nothing."""

import math

import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.models.unet import UNetConfig
from storyjax.nn.build import abstract
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.model import ContextualStory
from storyjax.systems.contextual_story.weights import RULES
from storyjax.weights import plan, shapes_of, to_native, to_pytorch
from tests.goldens.make_inputs import FULL, SMALL, golden_json, named_weights, official_shapes

CONFIGS = {
    "visualization": ContextualStoryConfig.visualization(),
    "continuation": ContextualStoryConfig.continuation(),
}


def official(task):
    keys = golden_json("official_keys")
    found = keys["keys_story_visualization"]
    found = found | keys["extra_keys_story_continuation"] if task == "continuation" else found
    return {key: tuple(shape) for key, shape in found.items()}


@pytest.fixture(scope="module")
def native():
    """Path -> shape of the model at the released size, built abstractly."""
    return {
        task: shapes_of(abstract(lambda rngs, config=config: ContextualStory(config, rngs=rngs))[1])
        for task, config in CONFIGS.items()
    }


@pytest.mark.parametrize(
    ("task", "tensors", "parameters"), [("visualization", 1537, 1_424_190_732), ("continuation", 1555, 1_424_232_332)]
)
def test_every_official_tensor_has_its_place(native, task, tensors, parameters):
    shapes = official(task)
    places, report = plan(shapes, RULES, native[task])
    report.require_complete()
    assert len(report.dead) == 76
    assert len(places) == len(native[task]) == tensors - 76
    dead = sum(math.prod(shapes[key]) for key in report.dead)
    assert dead == 10_342_080 + 7_682
    assert sum(map(math.prod, native[task].values())) + dead == parameters


def test_small_model_goes_there_and_back():
    unet = UNetConfig(block_out_channels=(32, 64, 96, 96), heads=(4, 4, 4, 4), layers_per_block=1, norm_groups=8)
    config = ContextualStoryConfig(unet=unet, contextualizer_layers=1, first_frame="conv2d")
    expected = shapes_of(abstract(lambda rngs: ContextualStory(config, rngs=rngs))[1])
    given = named_weights(official_shapes(SMALL, continuation=True))
    params, report = to_native(given, RULES, expected)
    exported = to_pytorch(params, RULES)
    assert {key: value.shape for key, value in exported.items()} == {key: value.shape for key, value in given.items()}
    for key, value in given.items():
        np.testing.assert_array_equal(exported[key], 0 * value if key in report.dead else value, err_msg=key)


def test_test_generator_knows_the_official_shapes():
    assert official_shapes(FULL) == official("visualization")
    assert official_shapes(FULL, continuation=True) == official("continuation")


def test_continuation_weights_do_not_fit_a_visualization_model(native):
    _, report = plan(official("continuation"), RULES, native["visualization"])
    with pytest.raises(StoryjaxError, match=r"18 unused(?s:.*)mid_block\.first_frame_conv\.weight"):
        report.require_complete()


def test_visualization_weights_do_not_fill_a_continuation_model(native):
    _, report = plan(official("visualization"), RULES, native["continuation"])
    with pytest.raises(StoryjaxError, match=r"18 missing(?s:.*)mid_block\.first_frame_conv\.weight"):
        report.require_complete()
