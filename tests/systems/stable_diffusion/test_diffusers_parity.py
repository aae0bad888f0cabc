"""Whole pipelines against diffusers' at toy size: its networks with random weights, saved by it, read and run here."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storyjax.systems.stable_diffusion.pipeline import StableDiffusionPipeline
from storyjax.weights.component import component
from tests import tiny, tiny_sd
from tests.diffusion.diffusers_runs import DDIM, RELEASED

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

STEPS, PROMPTS = 4, ["Ada walks to the lake.", "She swims in it."]


def their_pipeline(kind: str, scheduler: dict, tokenizer: Path):
    """A pipeline of diffusers whose networks have our toy sizes and PyTorch's random weights."""
    torch.manual_seed(0)
    config = tiny_sd.CONFIGS[kind]
    networks = {
        "unet": diffusers.UNet2DConditionModel.from_config(component("unet").write_config(config.unet)),
        "vae": diffusers.AutoencoderKL.from_config(component("vae").write_config(config.vae)),
        "text_encoder": _text_encoder(config.text_encoder),
        "tokenizer": transformers.CLIPTokenizer.from_pretrained(tokenizer),
        "scheduler": getattr(diffusers, scheduler["_class_name"]).from_config(scheduler),
    }
    if kind == "sdxl":
        networks |= {"text_encoder_2": _text_encoder(config.text_encoder_2), "tokenizer_2": networks["tokenizer"]}
        return diffusers.StableDiffusionXLPipeline(**networks, add_watermarker=False)
    made = diffusers.StableDiffusionInpaintPipeline if kind == "inpaint" else diffusers.StableDiffusionPipeline
    return made(**networks, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def _text_encoder(config):
    written = component("clip_text").write_config(config)
    cls = getattr(transformers, written["architectures"][0])
    return cls(transformers.CLIPTextConfig(**written)).eval()


def start(channels: int = 4) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((len(PROMPTS), 8, 8, channels)).astype(np.float32)


def both(kind: str, scheduler: dict, tokenizer: Path, folder: Path, output_type: str = "latent", **settings):
    """What diffusers draws (channels last), and what the same folder draws here."""
    theirs = their_pipeline(kind, scheduler, tokenizer)
    theirs.set_progress_bar_config(disable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.save_pretrained(folder)
    settings = {"num_inference_steps": STEPS, "guidance_scale": 6.0, "output_type": output_type} | settings
    latents = torch.from_numpy(np.ascontiguousarray(start().transpose(0, 3, 1, 2)))
    expected = theirs(PROMPTS, latents=latents, height=16, width=16, **settings).images
    with tiny.quick_compiles():
        got = np.stack(StableDiffusionPipeline.load(folder)(PROMPTS, latents=start(), **settings).images)
    if output_type == "latent":
        return expected.numpy().transpose(0, 2, 3, 1), got
    return np.asarray(expected), got


def relative(got, expected) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def test_stable_diffusion_1_with_its_own_sampler(tokenizer, tmp_path):
    expected, got = both("sd15", RELEASED["sd15"], tokenizer, tmp_path / "sd15", negative_prompt=["the lake", "rain"])
    assert relative(got, expected) < 1e-4


def test_stable_diffusion_2_with_v_prediction_and_rescaled_guidance(tokenizer, tmp_path):
    expected, got = both("sd21_v", RELEASED["sd21_v"], tokenizer, tmp_path / "sd21", guidance_rescale=0.7)
    assert relative(got, expected) < 1e-4


@pytest.mark.parametrize("sampler", ["EulerDiscreteScheduler", DDIM])
def test_sdxl_with_zeros_for_no_negative_prompt_and_told_sizes(sampler, tokenizer, tmp_path):
    scheduler = RELEASED["sdxl"] | {"_class_name": sampler}
    told = {"original_size": (12, 20), "crops_coords_top_left": (3, 5), "target_size": (16, 16)}
    expected, got = both("sdxl", scheduler, tokenizer, tmp_path / "sdxl", **told)
    assert relative(got, expected) < 1e-4


def test_inpainting_down_to_the_pixels(tokenizer, tmp_path, monkeypatch):
    """diffusers draws from the codec's posterior; here it is made to take the mean."""
    posterior = diffusers.models.autoencoders.vae.DiagonalGaussianDistribution
    monkeypatch.setattr(posterior, "sample", lambda self, generator=None: self.mode())
    random = np.random.default_rng(2)
    mask = np.zeros((16, 16), np.uint8)
    mask[3:9, 4:13] = 255
    given = {
        "image": Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)),
        "mask_image": Image.fromarray(mask),
    }
    scheduler = RELEASED["sd15"] | {"_class_name": DDIM}
    expected, got = both("inpaint", scheduler, tokenizer, tmp_path / "inpaint", output_type="np", **given)
    np.testing.assert_allclose(got, 255 * expected, atol=0.51)
