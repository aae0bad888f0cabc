"""Components are found by name and class; their configs translate both ways, or are refused by the name of what cannot be built."""

import dataclasses
import json

import pytest

from storyjax.errors import StoryjaxError
from storyjax.models.clip import CLIPConfig
from storyjax.models.clip_text import CLIPTextConfig
from storyjax.models.clip_vision import CLIPVisionConfig
from storyjax.models.owlvit import base_patch32
from storyjax.models.unet import UNetConfig
from storyjax.models.vae import VAEConfig
from storyjax.weights import component_of, register
from storyjax.weights.component import component
from tests.weights.base_models import CONFIGS

OURS = [
    ("unet", UNetConfig.sd15()),
    ("unet", UNetConfig.sd21()),
    ("unet", UNetConfig.sdxl()),
    ("unet", UNetConfig.sd_inpaint()),
    ("vae", VAEConfig.stable_diffusion()),
    ("vae", VAEConfig.sdxl()),
    ("clip_text", CLIPTextConfig.clip_l()),
    ("clip_text", CLIPTextConfig.clip_bigg()),
    ("clip_text", CLIPTextConfig(end_token=49407, projection=512)),
    ("clip_vision", CLIPVisionConfig.clip_bigg()),
    ("clip", CLIPConfig.vit_b32()),
    ("clip", CLIPConfig.vit_h14()),
    ("owlvit", base_patch32()),
    ("clip_vision", CLIPVisionConfig(projection=None, activation="quick_gelu")),
]


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "unet"),
        ({"_class_name": "AutoencoderKL"}, "vae"),
        ({"architectures": ["CLIPTextModelWithProjection"], "model_type": "clip_text_model"}, "clip_text"),
        ({"model_type": "clip_vision_model"}, "clip_vision"),
        ({"architectures": ["CLIPModel"], "model_type": "clip"}, "clip"),
        ({"architectures": ["OwlViTForObjectDetection"], "model_type": "owlvit"}, "owlvit"),
        ({"_class_name": "VideoLDMUNet3DConditionModel"}, "contextual_story"),
    ],
)
def test_a_config_names_its_component(config, name):
    assert component_of(config).name == name
    assert component(name) is component_of(config)


def test_unknown_names_and_classes_are_told_the_nearest():
    with pytest.raises(StoryjaxError, match="no component 'clip_txt'; did you mean 'clip_text'"):
        component("clip_txt")
    with pytest.raises(StoryjaxError, match="'UNet2DConditionalModel'; did you mean 'UNet2DConditionModel'"):
        component_of({"_class_name": "UNet2DConditionalModel"})
    with pytest.raises(StoryjaxError, match="the config names no class"):
        component_of({"hidden_size": 3})


def test_the_safety_checker_that_calls_itself_clip_is_no_clip():
    with pytest.raises(StoryjaxError, match="no component is a 'StableDiffusionSafetyChecker'"):
        component_of({"architectures": ["StableDiffusionSafetyChecker"], "model_type": "clip"})


def test_names_and_classes_are_taken_once():
    with pytest.raises(StoryjaxError, match=r"component 'unet' .* is registered already"):
        register(dataclasses.replace(component("unet"), classes=()))
    with pytest.raises(StoryjaxError, match=r"component 'other' \(AutoencoderKL\) is registered already, as 'vae'"):
        register(dataclasses.replace(component("vae"), name="other"))


@pytest.mark.parametrize(("name", "config"), OURS)
def test_configs_go_there_and_back(name, config):
    written = json.loads(json.dumps(component(name).write_config(config)))
    assert component_of(written).name == name
    assert component(name).read_config(written) == config


@pytest.mark.parametrize("name", CONFIGS)
def test_original_configs_survive_the_way_through_ours(name):
    """What the original says is in what we write; left out there is only what no number depends on."""
    config = CONFIGS[name]
    found = component_of(config)
    written = found.write_config(found.read_config(config))
    inert = ("attention_head_dim", "sample_size", "bos_token_id", "force_upcast")
    assert {key: written.get(key) for key in config if key not in inert} == {
        key: value for key, value in config.items() if key not in inert
    }


def test_what_a_config_leaves_out_has_the_original_default():
    assert component("unet").read_config({}) == UNetConfig(
        heads=(8, 8, 8, 8), cross_attention_dim=1280, linear_projection=False
    )
    assert component("vae").read_config({"block_out_channels": [64, 128]}) == VAEConfig((64, 128), layers_per_block=1)
    text = component("clip_text").read_config({"model_type": "clip_text_model"})
    assert (text.width, text.mlp_width, text.heads, text.end_token, text.projection) == (512, 2048, 8, 49407, None)


def test_attention_head_dim_is_the_number_of_heads():
    read = component("unet").read_config
    assert read({"attention_head_dim": [5, 10, 20, 20]}).heads == (5, 10, 20, 20)
    assert read({"attention_head_dim": 8}).heads == (8, 8, 8, 8)


UNET_REFUSALS = {
    "class_embed_type": "projection",
    "num_class_embeds": 1000,
    "resnet_time_scale_shift": "scale_shift",
    "dual_cross_attention": True,
    "only_cross_attention": [False, True, False, False],
    "act_fn": "gelu",
    "num_attention_heads": 8,
    "time_cond_proj_dim": 256,
    "encoder_hid_dim_type": "ip_image_proj",
    "addition_embed_type": "image",
    "attention_type": "gated",
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "flip_sin_to_cos": False,
    "cross_attention_dim": [768, 768, 1024, 1024],
    "down_block_types": ["DownBlock2D", "SkipDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"] * 4,
    "reverse_transformer_layers_per_block": [1, 2, 2, 1],
    "rotary_of_tomorrow": True,
}


@pytest.mark.parametrize("setting", UNET_REFUSALS)
def test_what_would_change_numbers_is_refused_by_name(setting):
    with pytest.raises(StoryjaxError, match=f"offered: {setting} is "):
        component("unet").read_config({setting: UNET_REFUSALS[setting]})


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("vae", {"shift_factor": 0.1159}),
        ("vae", {"latents_mean": [0.1, 0.2]}),
        ("vae", {"use_quant_conv": False}),
        ("vae", {"down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]}),
        ("clip_text", {"hidden_act": "gelu_new"}),
        ("clip_text", {"layer_norm_eps": 1e-6}),
        ("clip_vision", {"num_channels": 4}),
    ],
)
def test_codecs_and_encoders_refuse_by_name_too(name, config):
    with pytest.raises(StoryjaxError, match=f"offered: {next(iter(config))} is "):
        component(name).read_config(config)


def test_one_error_lists_everything_that_is_refused():
    with pytest.raises(StoryjaxError) as error:
        component("unet").read_config({"act_fn": "gelu", "dropout": 0.1, "novelty": 3, "unused_novelty": None})
    lines = str(error.value).splitlines()
    assert lines[0].endswith("not offered in 3 places:")
    assert [line.split(" is ")[0].strip() for line in lines[1:]] == ["dropout", "act_fn", "novelty"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"block_out_channels": "wide"}, "block_out_channels"),
        ({"attention_head_dim": ["5", 10, 20, 20]}, r"heads\.0.*valid integer, got '5'"),
        ({"block_out_channels": [320, 640]}, "2 levels, but attention has 4 entries"),
        ({"addition_embed_type": "text_time"}, "addition_inputs.*valid integer, got None"),
        ({"up_block_types": None}, "up_block_types is None, here only 'UpBlock2D' and 'CrossAttnUpBlock2D'"),
        ({"down_block_types": [["DownBlock2D"]]}, "down_block_types is .* here only 'DownBlock2D' and"),
    ],
)
def test_a_config_that_makes_no_sense_is_an_error_that_says_where(config, message):
    with pytest.raises(StoryjaxError, match=message):
        component("unet").read_config(config)


def test_a_codec_with_patches_cannot_be_written_for_diffusers():
    with pytest.raises(StoryjaxError, match="patch=8"):
        component("vae").write_config(VAEConfig(patch=8))
