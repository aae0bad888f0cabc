"""The table of names against the names and shapes of the official state dicts (no values, so real sizes cost nothing), and the
official config."""

import dataclasses
import json
import math

import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.models.unet import UNetConfig
from storyjax.nn.build import abstract
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.model import ContextualStory
from storyjax.systems.contextual_story.weights import RULES
from storyjax.weights import component_of, plan, shapes_of, to_native, to_pytorch
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


# The settings of all four released models, as the official training files give them to the class (spec, section 2).
RELEASED = {
    "_class_name": "VideoLDMUNet3DConditionModel",
    "_diffusers_version": "0.21.2",
    "FStext_layer_causal": [False, False],
    "FStext_layer_depth": 2,
    "FStext_layer_temporal": [False, True],
    "act_fn": "silu",
    "attention_head_dim": [5, 10, 20, 20],
    "augment_temporal_attention": True,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "first_frame_condition_mode": "none",
    "layers_per_block": 2,
    "n_frames": 5,
    "n_temp_heads": 8,
    "num_layers_FStext": 4,
    "sample_n_frames": 5,
    "sample_size": 64,
    "temp_pos_embedding": "rotary",
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "use_frame_stride_condition": False,
    "use_linear_projection": True,
    "use_motion_condition": True,
    "use_temporal": {"temporal_attn": True, "temporal_conv": True},
    "use_text_cross_attention": "FSText",
    "variant": None,
    "zero_init_FSText": True,
    "zero_init_storyflow_adapter": True,
}


@pytest.mark.parametrize(("mode", "task"), [("none", "visualization"), ("conv2d", "continuation")])
def test_the_released_config_is_our_preset_and_comes_back(mode, task):
    config = {**RELEASED, "first_frame_condition_mode": mode}
    found = component_of(config)
    assert found.name == "contextual_story"
    assert found.read_config(config) == CONFIGS[task]
    written = json.loads(json.dumps(found.write_config(CONFIGS[task])))
    assert found.read_config(written) == CONFIGS[task]
    training = ("_diffusers_version", "sample_n_frames", "variant", "zero_init_FSText", "zero_init_storyflow_adapter")
    assert {name: written[name] for name in config if name not in training} == {
        name: value for name, value in config.items() if name not in training
    }


def test_a_model_without_contextualizer_has_a_config_too():
    found = component_of(RELEASED)
    ours = found.read_config({**RELEASED, "use_text_cross_attention": ""})
    assert ours == dataclasses.replace(CONFIGS["visualization"], contextualizer_layers=0)
    assert found.read_config(found.write_config(ours)) == ours


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("use_text_cross_attention", "text_adapter"),
        ("first_frame_condition_mode", "concat"),
        ("temp_pos_embedding", "sinusoidal"),
        ("augment_temporal_attention", False),
        ("use_motion_condition", False),
        ("use_frame_stride_condition", True),
        ("use_temporal", {"temporal_attn": True, "temporal_conv": False}),
        ("FStext_layer_temporal", [True, True]),
        ("resnet_time_scale_shift", "scale_shift"),
        ("use_fps_condition", True),
    ],
)
def test_another_architecture_of_the_official_class_is_refused_by_name(setting, value):
    with pytest.raises(StoryjaxError, match=f"offered: {setting} is "):
        component_of(RELEASED).read_config({**RELEASED, setting: value})


def test_left_out_settings_have_the_official_class_defaults_and_those_are_no_released_model():
    with pytest.raises(StoryjaxError, match=r"in 4 places:(?s:.*)temp_pos_embedding is None, here only 'rotary'"):
        component_of(RELEASED).read_config({"_class_name": RELEASED["_class_name"]})


def test_sizes_that_the_official_code_cannot_have_are_not_written():
    config = dataclasses.replace(CONFIGS["visualization"], contextualizer_positions=77)
    with pytest.raises(StoryjaxError, match="contextualizer_positions=1024 only, this model has 77"):
        component_of(RELEASED).write_config(config)
