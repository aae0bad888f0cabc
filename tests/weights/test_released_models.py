"""Every tensor of every released base model has its place: names and shapes at full size, no values, so no memory."""

import functools

import pytest

from storyjax.errors import StoryjaxError
from storyjax.models.clip import CLIPConfig
from storyjax.models.clip_text import CLIPTextConfig
from storyjax.models.clip_vision import CLIPVisionConfig
from storyjax.models.owlvit import base_patch32
from storyjax.models.unet import UNetConfig
from storyjax.models.vae import VAEConfig
from storyjax.nn.build import abstract, count
from storyjax.weights import component_of, plan, shapes_of
from storyjax.weights.rules import TRANSFORMS, key_of
from tests.goldens.make_base_models import RELEASED, keys

# As published; the codec is the same in all of them but for its scaling factor.
EXPECTED = {
    "sd15_unet": (UNetConfig.sd15(), 859_520_964),
    "sd15_inpainting_unet": (UNetConfig.sd_inpaint(), 859_535_364),
    "sd21_base_unet": (UNetConfig.sd21_base(), 865_910_724),
    "sdxl_unet": (UNetConfig.sdxl(), 2_567_463_684),
    "sd_vae": (VAEConfig.stable_diffusion(), 83_653_863),
    "sdxl_vae": (VAEConfig.sdxl(), 83_653_863),
    "clip_l_text": (CLIPTextConfig.clip_l(), 123_060_480),
    "sd21_text": (CLIPTextConfig.sd21(), 340_387_840),
    "clip_bigg_text": (CLIPTextConfig.clip_bigg(), 694_659_840),
    "clip_h_vision": (CLIPVisionConfig.clip_h(), 632_076_800),
    "clip_b32": (CLIPConfig.vit_b32(), 151_277_313),
    "pick_score": (CLIPConfig.vit_h14(), 986_109_441),
    "owlvit_b32": (base_patch32(), 153_231_879),
    "clip_bigg_vision": (CLIPVisionConfig.clip_bigg(), 1_844_907_264),
}


@functools.cache
def expected(name):
    """Path -> shape, and the number of parameters, of our model for the released config."""
    config = keys(name)[0]
    found = component_of(config)
    settings = found.read_config(config)
    _, shapes = abstract(lambda rngs: found.make(settings, rngs))
    return shapes_of(shapes), count(shapes)


@pytest.mark.parametrize("name", RELEASED)
def test_the_released_config_is_our_preset(name):
    config = keys(name)[0]
    assert component_of(config).read_config(config) == EXPECTED[name][0]


@pytest.mark.parametrize("name", RELEASED)
def test_every_tensor_has_its_place_and_its_name_comes_back(name):
    config, shapes = keys(name)
    found = component_of(config)
    rules = found.rules(found.read_config(config))
    native, parameters = expected(name)
    assert parameters == EXPECTED[name][1]
    places, report = plan(shapes, rules, native)
    report.require_complete()
    assert len(places) == len(native) == len(shapes)
    for path, (key, _) in places.items():
        ((rule, written),) = key_of(rules, path)  # exactly one
        assert (written, TRANSFORMS[rule.transform].shape(native[path], inverse=True)) == (key, shapes[key])


def test_position_numbers_and_places_of_boxes_in_old_files_are_dropped_from_whole_models():
    for name, prefix in (("clip_b32", ""), ("owlvit_b32", "owlvit.")):
        config, shapes = keys(name)
        found = component_of(config)
        buffers = {f"{prefix}{tower}_model.embeddings.position_ids": (1, 3) for tower in ("text", "vision")}
        buffers |= {"box_bias": (576, 4)} if prefix else {}
        _, report = plan(shapes | buffers, found.rules(None), expected(name)[0])
        assert report.complete
        assert report.dead == list(buffers)


@pytest.mark.parametrize("name", ["clip_l_text", "clip_h_vision"])
def test_the_position_numbers_of_old_files_are_dropped(name):
    config, shapes = keys(name)
    found = component_of(config)
    prefix = next(iter(shapes)).split(".")[0]
    buffer = {f"{prefix}.embeddings.position_ids": (1, 77)}
    _, report = plan(shapes | buffer, found.rules(None), expected(name)[0])
    assert report.complete
    assert report.dead == list(buffer)


def test_a_tensor_in_both_spellings_is_named():
    config, shapes = keys("clip_l_text")
    doubled = shapes | {"final_layer_norm.bias": (768,)}
    _, report = plan(doubled, component_of(config).rules(None), expected("clip_l_text")[0])
    with pytest.raises(
        StoryjaxError, match=r"final_layer_norm\.bias: text_model\.final_layer_norm\.bias and final_layer_norm\.bias"
    ):
        report.require_complete()


def test_convolutions_do_not_pass_for_linear_projections():
    """Stable Diffusion 1 with a config that says otherwise."""
    config, shapes = keys("sd15_unet")
    found = component_of(config)
    ours = found.read_config({**config, "use_linear_projection": True})
    _, report = plan(shapes, found.rules(ours), expected("sd15_unet")[0])
    assert len(report.wrong_shape) == 32
    assert "expected (320, 320), got (320, 320, 1, 1)" in report.text()
