"""The names of single files against diffusers' own loader: every tensor under the name it gives, at full and tiny size."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from storyjax.weights.latent_diffusion import OPEN_CLIP_H, XL_OPEN_CLIP, read_single_file
from tests.weights.latent_files import FULL, TINY, numbers, shapes

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
loader = pytest.importorskip("diffusers.loaders.single_file_utils")


def theirs(folder, config, checkpoint):
    """The network's tensors as diffusers converts them, and the network built from our config without memory."""
    with torch.device("meta"):
        if folder == "unet":
            network = diffusers.UNet2DConditionModel.from_config(config)
            return loader.convert_ldm_unet_checkpoint(dict(checkpoint), network.config), network
        if folder == "vae":
            network = diffusers.AutoencoderKL.from_config(config)
            return loader.convert_ldm_vae_checkpoint(dict(checkpoint), network.config), network
        kind = getattr(transformers, config["architectures"][0])
        network = kind(transformers.CLIPTextConfig(**config))
    if folder == "text_encoder_2":
        return loader.convert_open_clip_checkpoint(network, dict(checkpoint), prefix=XL_OPEN_CLIP), network
    if any(key.startswith(OPEN_CLIP_H) for key in checkpoint):
        return loader.convert_open_clip_checkpoint(network, dict(checkpoint), prefix=OPEN_CLIP_H), network
    return loader.convert_ldm_clip_checkpoint(dict(checkpoint)), network


@pytest.mark.parametrize("name", FULL)
def test_names_and_shapes_of_full_models(name):
    checkpoint = {key: torch.empty(shape, device="meta") for key, shape in shapes(FULL[name]).items()}
    for folder, network in single(checkpoint).networks.items():
        converted, built = theirs(folder, network.config, checkpoint)
        mine = {key: network.tensors.shape_of(key) for key in network.tensors}
        assert mine == {key: tuple(value.shape) for key, value in converted.items()}, folder
        # and the network that our config describes takes exactly these (its newest release leaves a prefix away)
        wanted = {key: tuple(value.shape) for key, value in built.state_dict().items()}
        bare = any(key.startswith("embeddings.") for key in wanted)
        mine = {key.removeprefix("text_model.") if bare else key: shape for key, shape in mine.items()}
        assert {key: shape for key, shape in mine.items() if not key.endswith("position_ids")} == wanted, folder


def single(checkpoint):
    class Reader(dict):
        files, metadata = ("model.ckpt",), {}

        def shape_of(self, key):
            return tuple(self[key].shape)

    return read_single_file(Reader(checkpoint))


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("name", ["sd1", "sd1-inpainting", "sdxl"])
def test_values_of_tiny_models(name, ema, tmp_path):
    values = numbers(shapes(TINY[name], ema=ema))
    save_file(values, tmp_path / "model.safetensors")
    checkpoint = {key: torch.from_numpy(value) for key, value in values.items()}
    for folder, network in read_single_file(tmp_path / "model.safetensors", ema=ema).networks.items():
        if folder == "unet":
            config = dict(network.config)
            converted = loader.convert_ldm_unet_checkpoint(dict(checkpoint), config, extract_ema=ema)
        else:
            converted, _ = theirs(folder, network.config, checkpoint)
        assert set(converted) == set(network.tensors), folder
        for key, value in network.tensors.items():
            np.testing.assert_array_equal(value, converted[key].numpy(), err_msg=key)
