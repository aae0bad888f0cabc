import math
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from storyjax.errors import StoryjaxError
from storyjax.weights.component import component_of
from storyjax.weights.latent_diffusion import PREDICTIONS, read_single_file
from tests.goldens.make_base_models import keys
from tests.weights.latent_files import FULL, SCHEDULE, TINY, numbers, shapes


class OnlyShapes(dict):
    """A reader of a file that is not there: name -> shape, in float16."""

    def __init__(self, named, metadata=None):
        super().__init__(named)
        self.files, self.metadata = ["model.ckpt"], metadata or {}

    def shape_of(self, key):
        return self[key]

    def dtype_of(self, key):
        return np.dtype(np.float16)


def single(family, ema=False, metadata=None, without="(?!)", plus=None, **options):
    named = {key: shape for key, shape in shapes(family, ema=ema).items() if not re.match(without, key)}
    return read_single_file(OnlyShapes(named | (plus or {}), metadata), **options)


RELEASED = {
    "sd1": {"unet": "sd15_unet", "vae": "sd_vae", "text_encoder": "clip_l_text"},
    "sd1-inpainting": {"unet": "sd15_inpainting_unet", "vae": "sd_vae", "text_encoder": "clip_l_text"},
    "sd2": {"unet": "sd21_base_unet", "vae": "sd_vae", "text_encoder": "sd21_text"},
    "sdxl": {
        "unet": "sdxl_unet",
        "vae": "sdxl_vae",
        "text_encoder": "clip_l_text",
        "text_encoder_2": "clip_bigg_text",
    },
}
PIPELINES = {"sd1-inpainting": "StableDiffusionInpaintPipeline", "sdxl": "StableDiffusionXLPipeline"}


@pytest.mark.parametrize("name", FULL)
def test_a_full_model_becomes_the_released_folder(name):
    """Names, shapes and configs of each network are those of the folder that diffusers publishes."""
    found = single(FULL[name], prediction="epsilon")
    assert list(found.networks) == list(RELEASED[name])
    for folder, network in found.networks.items():
        config, expected = keys(RELEASED[name][folder])
        named = {key: network.tensors.shape_of(key) for key in network.tensors if not key.endswith("position_ids")}
        assert named == {key: tuple(shape) for key, shape in expected.items()}, folder
        kind = component_of(config)
        assert component_of(network.config) is kind
        assert kind.read_config(network.config) == kind.read_config(config), folder
        different = {key for key, value in network.config.items() if config.get(key, value) != value}
        assert different <= {"projection_dim", "sample_size"}, folder  # without a projection; of pictures in training
    assert found.inpainting == (name == "sd1-inpainting")
    assert found.index["_class_name"] == PIPELINES.get(name, "StableDiffusionPipeline")
    assert found.scheduler["_class_name"] == found.index["scheduler"][1]
    assert set(found.index) >= {*found.networks, *found.tokenizers}


def test_what_no_network_reads():
    unread = {name: set(single(FULL[name]).left_out) - set(SCHEDULE) for name in FULL}
    at = "cond_stage_model.model"
    last = {key for key in shapes(FULL["sd2"]) if key.startswith(f"{at}.transformer.resblocks.23.")}
    assert len(last) == 12
    assert unread == {
        "sd1": set(),
        "sd1-inpainting": set(),
        "sd2": {f"{at}.logit_scale", f"{at}.text_projection"} | last,
        "sdxl": {"conditioner.embedders.1.model.logit_scale"},
    }


def test_a_second_version_whose_last_layer_is_gone_already():
    """As files look that were made from a folder of diffusers."""
    full = single(FULL["sd2"]).networks["text_encoder"]
    gone = r"cond_stage_model\.model\.(transformer\.resblocks\.23\.|text_projection|logit_scale)"
    found = single(FULL["sd2"], without=gone).networks["text_encoder"]
    assert list(found.tensors) == list(full.tensors)
    assert found.config["num_hidden_layers"] == 23


@pytest.mark.parametrize("rows", [(385, 128), (384,), ()])
def test_fused_matrices_that_are_no_three_are_refused(rows):
    name = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"
    encoder = single(TINY["sdxl"], plus={name: rows}).networks["text_encoder_2"]
    shape = encoder.tensors.shape_of("text_model.encoder.layers.0.self_attn.v_proj.weight")
    assert shape != (128, 128)


@pytest.fixture
def file(tmp_path):
    def write(family, metadata=None, **options):
        values = numbers(shapes(family, **options))
        save_file(values, tmp_path / "model.safetensors", metadata=metadata)
        return tmp_path / "model.safetensors", values

    return write


def test_values_are_read_lazily_and_changed_where_layouts_differ(file, monkeypatch):
    path, values = file(TINY["sdxl"])
    networks = read_single_file(path).networks
    assert list(networks) == ["unet", "vae", "text_encoder", "text_encoder_2"]
    read = []
    fromfile = np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda *args, **kwargs: read.append(args) or fromfile(*args, **kwargs))
    second = networks["text_encoder_2"].tensors
    assert read == []
    fused = values["conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight"]
    for number, part in enumerate("qkv"):
        name = f"text_model.encoder.layers.1.self_attn.{part}_proj.weight"
        np.testing.assert_array_equal(second[name], fused[128 * number : 128 * (number + 1)])
        assert second.shape_of(name) == (128, 128)
    projection = values["conditioner.embedders.1.model.text_projection"]
    np.testing.assert_array_equal(second["text_projection.weight"], projection.T)
    assert second["text_projection.weight"].flags.c_contiguous
    query = networks["vae"].tensors["decoder.mid_block.attentions.0.to_q.weight"]
    np.testing.assert_array_equal(query, values["first_stage_model.decoder.mid.attn_1.q.weight"][:, :, 0, 0])
    up = networks["vae"].tensors["decoder.up_blocks.2.resnets.1.conv1.weight"]
    np.testing.assert_array_equal(up, values["first_stage_model.decoder.up.0.block.1.conv1.weight"])
    assert len(read) == 7
    unet = networks["unet"].tensors
    assert unet.source_of("mid_block.resnets.1.conv2.bias") == "model.diffusion_model.middle_block.2.out_layers.3.bias"
    assert unet.nbytes == sum(4 * math.prod(unet.shape_of(key)) for key in unet)
    assert unet.dtype_of("conv_in.weight") == np.float32


def test_averaged_weights_are_a_choice(file):
    path, values = file(TINY["sd1"], ema=True)
    last, averaged = read_single_file(path), read_single_file(path, ema=True)
    assert last.has_ema
    assert averaged.has_ema
    name = "down_blocks.0.resnets.0.conv1.weight"
    mine = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
    flat = "model_ema.diffusion_modelinput_blocks10in_layers2weight"
    np.testing.assert_array_equal(last.networks["unet"].tensors[name], values[mine])
    np.testing.assert_array_equal(averaged.networks["unet"].tensors[name], values[flat])
    assert list(averaged.networks["unet"].tensors) == list(last.networks["unet"].tensors)
    assert all(key.startswith("model_ema.") for key in averaged.networks["unet"].tensors.sources())
    assert flat in last.left_out
    assert mine in averaged.left_out
    for name in ("vae", "text_encoder"):
        assert averaged.networks[name].tensors.sources() == last.networks[name].tensors.sources()


def test_averaged_weights_that_are_not_there():
    with pytest.raises(StoryjaxError, match=r"no averaged weights for \d+ tensors of its UNet .*load it without ema"):
        read_single_file(OnlyShapes(shapes(TINY["sd1"])), ema=True)
    assert not single(TINY["sd1"]).has_ema


def test_averaged_weights_that_lack_one():
    named = shapes(TINY["sd1"], ema=True)
    del named["model_ema.diffusion_modelout2bias"]
    with pytest.raises(StoryjaxError, match=r"for 1 tensors .*'model_ema\.diffusion_modelout2bias'"):
        read_single_file(OnlyShapes(named), ema=True)


V_PRED = {"v_pred": (0,), "ztsnr": (0,)}


@pytest.mark.parametrize(
    ("name", "options", "prediction", "guessed"),
    [
        ("sd1", {}, "epsilon", False),
        ("sd1", {"prediction": "v_prediction"}, "v_prediction", False),
        ("sdxl", {}, "epsilon", False),
        ("sdxl", {"plus": V_PRED}, "v_prediction", False),
        ("sdxl", {"metadata": {"modelspec.prediction_type": "v"}}, "v_prediction", False),
        ("sd2", {}, "v_prediction", True),
        ("sd2", {"metadata": {"global_step": 875000}}, "epsilon", True),
        ("sd2", {"metadata": {"global_step": 140000}}, "v_prediction", True),
        ("sd2", {"metadata": {"modelspec.prediction_type": "epsilon"}}, "epsilon", False),
        ("sd2", {"prediction": "epsilon"}, "epsilon", False),
    ],
)
def test_what_the_unet_predicts(name, options, prediction, guessed):
    found = single(TINY[name], **options)
    assert found.scheduler["prediction_type"] == prediction
    assert (found.guessed is not None) == guessed
    if guessed:
        other = next(each for each in PREDICTIONS if each != prediction)
        assert f"{prediction} is assumed" in found.guessed
        assert found.guessed.endswith(f"choose {other}")
    if name == "sd2":
        assert found.networks["unet"].config["sample_size"] == (96 if prediction == "v_prediction" else 64)
    assert found.scheduler.get("rescale_betas_zero_snr", False) == ("plus" in options)


def test_an_inpainting_version_of_the_second_predicts_noise():
    named = shapes(TINY["sd2"])
    named["model.diffusion_model.input_blocks.0.0.weight"] = (64, 9, 3, 3)
    found = read_single_file(OnlyShapes(named))
    assert (found.family, found.inpainting, found.guessed) == ("sd2", True, None)
    assert found.scheduler["prediction_type"] == "epsilon"


def test_unknown_tensors_are_not_dropped():
    """They keep their names in the network they stand in, whose table then refuses them."""
    odd = {
        "model.diffusion_model.input_blocks.1.0.out_layers.7.weight": (1,),
        "first_stage_model.encoder.extra.weight": (1,),
        "conditioner.embedders.1.model.ln_extra.weight": (1,),
        "something.else": (1,),
    }
    networks = single(TINY["sdxl"], plus=odd).networks
    where = {key: folder for folder, network in networks.items() for key in network.tensors if key in odd}
    assert list(where.values()) == ["unet", "unet", "vae", "text_encoder_2"]
    assert set(where) == set(odd)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("sd1", {"without": "first_stage_model"}, r"not a whole model: it lacks vae \(first_stage_model\.\*\)"),
        ("sdxl", {"without": r"conditioner\.embedders\.1"}, r"lacks text_encoder_2 \(conditioner\.embedders\.1\.model"),
        ("sd1", {"without": "cond_stage_model"}, "has no text encoder"),
        ("sd1", {"without": r"model\.diffusion_model\.middle_block"}, "lacks the tensor 'model.diffusion_model.middle"),
        ("sd1", {"without": r".*token_embedding"}, "lacks the tensor 'text_model.embeddings.token_embedding.weight'"),
        ("sd1", {"prediction": "v"}, "unknown prediction 'v'.*v_prediction"),
    ],
)
def test_what_is_not_whole(name, change, message):
    with pytest.raises(StoryjaxError, match=message) as error:
        single(TINY[name], **change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.input_blocks.0.0.weight",
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    ],
)
def test_shapes_of_nothing_known(name):
    with pytest.raises(StoryjaxError, match="shapes that no Stable Diffusion has"):
        single(TINY["sd1"], plus={name: (4,)})


@pytest.mark.parametrize(("channels", "kind"), [(5, "depth"), (7, "upscaler"), (8, "InstructPix2Pix"), (12, "another")])
def test_relatives_that_need_other_inputs(channels, kind):
    plus = {"model.diffusion_model.input_blocks.0.0.weight": (32, channels, 3, 3)}
    with pytest.raises(StoryjaxError, match=rf"looks like an? .*{kind}.*\({channels} input channels\)|{kind}"):
        single(TINY["sd1"], plus=plus)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["lora_unet_mid_block.lora_up.weight"], "a LoRA"),
        (["unet.down_blocks.0.attn.lora_A.weight"], "a LoRA"),
        (["control_model.input_blocks.0.0.weight"], "a ControlNet"),
        (["double_blocks.0.img_attn.qkv.weight"], "a Flux model"),
        (["model.diffusion_model.joint_blocks.0.x"], "a Stable Diffusion 3"),
        (["emb_params"], "a textual inversion"),
        (["down_blocks.0.resnets.0.conv1.weight"], "one network of a diffusers folder"),
        (["encoder.down.0.block.0.conv1.weight"], "a picture codec alone"),
        (["text_model.final_layer_norm.weight"], "a CLIP encoder alone"),
        (["a", "b", "c", "d"], r"no model of this layout \(its tensors are a, b, c"),
    ],
)
def test_other_files_are_refused_by_what_they_look_like(names, kind):
    with pytest.raises(StoryjaxError, match=rf"'model\.ckpt' looks like {kind}"):
        read_single_file(OnlyShapes(dict.fromkeys(names, (1,))))


def test_the_refiner_is_refused():
    named = {
        re.sub(r"^conditioner\.embedders\.1", "conditioner.embedders.0", key): shape
        for key, shape in shapes(TINY["sdxl"]).items()
        if "embedders.0" not in key
    }
    with pytest.raises(StoryjaxError, match="looks like the refiner of SDXL"):
        read_single_file(OnlyShapes(named))


def test_two_names_for_one_tensor():
    plus = {
        "model.diffusion_model.output_blocks.1.2.conv.bias": (64,),
        "model.diffusion_model.output_blocks.1.1.conv.bias": (64,),
    }
    with pytest.raises(StoryjaxError, match=r"are both 'up_blocks\.0\.upsamplers\.0\.conv\.bias'; expected one"):
        single(TINY["sd1"], plus=plus)


def test_a_training_checkpoint_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    values = numbers(shapes(TINY["sd2"]), np.float16)
    state = {name: torch.from_numpy(value) for name, value in values.items()}
    torch.save({"state_dict": state, "global_step": 875000}, tmp_path / "model.ckpt")
    found = read_single_file(tmp_path / "model.ckpt")
    assert found.scheduler["prediction_type"] == "epsilon"
    np.testing.assert_array_equal(
        found.networks["unet"].tensors["conv_in.weight"], values["model.diffusion_model.input_blocks.0.0.weight"]
    )
