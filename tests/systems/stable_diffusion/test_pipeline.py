"""Text to pictures at toy size: batches, seeds, sizes, dtypes, inpainting, folders, and what is refused."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from storyjax.errors import StoryjaxError
from storyjax.nn.build import flatten
from storyjax.systems.stable_diffusion.pipeline import StableDiffusionPipeline
from tests import tiny, tiny_sd

PROMPT = "Ada walks to the lake."
pytestmark = pytest.mark.usefixtures("quick_compiles")


@pytest.fixture(scope="module")
def sd15(tokenizer):
    return tiny_sd.pipeline("sd15", tokenizer)


@pytest.fixture(scope="module")
def inpaint(tokenizer):
    return tiny_sd.pipeline("inpaint", tokenizer)


@pytest.fixture(scope="module")
def alone(sd15):
    """One picture, drawn alone: seed 8."""
    return sd15(PROMPT, seed=8, output_type="np").images[0]


def levels(a, b) -> int:
    """The largest difference of a pixel, of 255."""
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max())


def hole(height: int, width: int, grey: int = 99) -> dict:
    mask = np.zeros((height, width), np.uint8)
    mask[2:10, 4:12] = 255
    return {"image": np.full((height, width, 3), grey, np.uint8), "mask_image": mask}


def test_a_seed_draws_the_same_picture_alone_and_in_a_batch(sd15, alone):
    output = sd15([PROMPT, PROMPT], num_images_per_prompt=2, seed=[8, 9, 8, 10])
    assert output.seeds == (8, 9, 8, 10)
    assert [picture.size for picture in output.images] == [(tiny_sd.SIZE, tiny_sd.SIZE)] * 4
    assert levels(output.images[0], alone) <= 1  # up to rounding
    assert levels(output.images[2], alone) <= 1
    assert levels(output.images[1], alone) > 20


def test_other_words_seeds_and_scales_use_the_same_program(sd15, alone):
    compiled = sd15._program._cache_size()
    others = [
        sd15("Ada goes home.", seed=8, output_type="np"),
        sd15(PROMPT, seed=9, output_type="np"),
        sd15(PROMPT, seed=8, guidance_scale=3, output_type="np"),
        sd15(PROMPT, seed=8, guidance_rescale=0.7, output_type="np"),
        sd15(PROMPT, seed=8, negative_prompt="the lake", output_type="np"),
    ]
    assert all(levels(other.images[0], alone) > 2 for other in others)
    assert levels(sd15(PROMPT, seed=8, negative_prompt="", output_type="np").images[0], alone) == 0
    assert sd15._program._cache_size() == compiled


def test_xl_is_told_the_size_and_an_absent_negative_prompt_is_zeros(tokenizer):
    pipeline = tiny_sd.pipeline("sdxl", tokenizer)
    assert pipeline._negative(None, 1) is None
    empty, second = pipeline._negative("", 1)
    assert empty.shape == second.shape == (1, tiny.TOKENS)
    latents = pipeline(PROMPT, output_type="latent", num_inference_steps=2).images[0]
    assert latents.shape == (8, 8, 4)
    told = {"original_size": (512, 512)}, {"crops_coords_top_left": (0, 8)}, {"target_size": (8, 8)}
    for change in told:
        other = pipeline(PROMPT, output_type="latent", num_inference_steps=2, **change).images[0]
        assert np.abs(other - latents).max() > 1e-3, change
    same = {"original_size": (16, 16), "target_size": (16, 16)}
    again = pipeline(PROMPT, output_type="latent", num_inference_steps=2, **same).images[0]
    np.testing.assert_array_equal(again, latents)


def test_an_inpainting_model_sees_the_picture_outside_the_mask_only(inpaint):
    height, width = 20, 12  # any multiple of the codec's factor
    settings = {"height": height, "width": width, "output_type": "np", "num_inference_steps": 2}
    given = hole(height, width)
    drawn = inpaint(PROMPT, **given, **settings).images[0]
    assert drawn.shape == (height, width, 3)
    inside, outside = given["image"].copy(), given["image"].copy()
    inside[5, 6], outside[15, 2] = 255, 255
    assert levels(inpaint(PROMPT, **given | {"image": inside}, **settings).images[0], drawn) == 0
    assert levels(inpaint(PROMPT, **given | {"image": outside}, **settings).images[0], drawn) > 0


def test_a_folder_gives_the_pipeline_back_and_bfloat16_spares_the_codec(sd15, tokenizer, alone, tmp_path):
    folder = tiny_sd.folder("sd15", tokenizer, tmp_path / "model")
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 500_000
    full = StableDiffusionPipeline.load(folder)
    assert full.config == sd15.config
    for path, value in flatten(sd15.params).items():
        np.testing.assert_array_equal(flatten(full.params)[path], value)
    half = StableDiffusionPipeline.load(folder, dtype=jnp.bfloat16)
    dtypes = {name: {leaf.dtype.name for leaf in flatten(params).values()} for name, params in half.params.items()}
    assert dtypes == {"unet": {"bfloat16"}, "text_encoder": {"bfloat16"}, "vae": {"float32"}}
    picture = half(PROMPT, seed=8, output_type="np").images[0]
    assert 0 < np.abs(picture.astype(int) - alone).mean() < 20


@pytest.mark.parametrize("kind", ["sdxl", "inpaint"])
def test_every_kind_of_model_is_a_folder(kind, tokenizer, tmp_path):
    folder = tiny_sd.folder(kind, tokenizer, tmp_path / "model")
    assert StableDiffusionPipeline.load(folder).config == tiny_sd.CONFIGS[kind]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 15}, "expected a height and width divisible by 2, got 16x15 .*; 16x16 would do"),
        ({"prompt": []}, r"expected a prompt as text, or a list of them, got \[\]"),
        ({"prompt": [3]}, r"expected a prompt as text, or a list of them, got \[3\]"),
        ({"negative_prompt": ["a", "b"]}, "expected one negative prompt or 1, one for each prompt, got 2"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt of at least 1, got 0"),
        ({"seed": [1, 2]}, "expected one seed or 1, one for each picture, got 2"),
        ({"seed": -1}, "expected a seed in 0..4294967295, got -1"),
        ({"sampler": "eular"}, "unknown sampler 'eular'; did you mean 'euler'"),
        ({"guidance_rescale": 2}, "expected rescale in 0..1, got 2"),
        ({"latents": np.zeros((1, 4, 8, 8))}, r"expected start latents of shape \(1, 8, 8, 4\), got \(1, 4, 8, 8\)"),
        (hole(16, 16), "this model draws from text alone; for image= and mask_image= take an inpainting model"),
    ],
)
def test_what_cannot_be_drawn_is_said_at_once(sd15, change, message):
    with pytest.raises(StoryjaxError, match=message):
        sd15(**{"prompt": PROMPT} | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_image": None}, "an inpainting model: it needs a picture and a mask"),
        ({"mask_image": np.zeros((16, 16), np.uint8)}, "the mask is black all over"),
        ({"image": np.zeros((8, 16, 3), np.uint8)}, "expected a picture of 16x16 pixels"),
        ({"mask_image": np.full((16, 16), 0.5)}, "expected a mask of 16x16 pixels .uint8., got float64"),
    ],
)
def test_pictures_and_masks_that_do_not_fit_are_refused(inpaint, change, message):
    with pytest.raises(StoryjaxError, match=message):
        inpaint(PROMPT, **hole(16, 16) | change)


def test_files_of_different_sizes_are_refused_as_picture_and_mask(inpaint, tmp_path):
    for name, size in {"picture": (16, 16), "mask": (32, 16)}.items():
        Image.new("RGB", size, "white").save(tmp_path / f"{name}.png")
    with pytest.raises(StoryjaxError, match="the picture is 16x16, its mask 32x16"):
        inpaint(PROMPT, image=tmp_path / "picture.png", mask_image=tmp_path / "mask.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"unet": dataclasses.replace(tiny_sd.UNET, in_channels=7)},
            "the UNet reads 7 and predicts 4; expected 4 and 4, or 9",
        ),
        ({"unet": dataclasses.replace(tiny_sd.UNET, cross_attention_dim=12)}, "are 8 wide together, .* is 12"),
        (
            {"text_encoder_2": tiny_sd.TEXT_2, "unet": dataclasses.replace(tiny_sd.UNET, cross_attention_dim=16)},
            "no addition",
        ),
        ({"size": (17, 16)}, "divisible by 2"),
    ],
)
def test_networks_that_do_not_belong_together_are_refused(change, message):
    with pytest.raises(StoryjaxError, match=message):
        dataclasses.replace(tiny_sd.CONFIGS["sd15"], **change)


def test_xl_with_another_projection_is_no_xl():
    with pytest.raises(StoryjaxError, match="pooled text of width 6, the UNet expects 8"):
        dataclasses.replace(tiny_sd.CONFIGS["sdxl"], text_encoder_2=dataclasses.replace(tiny_sd.TEXT_2, projection=6))


def test_a_checkpoint_without_its_second_tokenizer_is_not_whole(tokenizer, tmp_path):
    folder = tiny_sd.folder("sdxl", tokenizer, tmp_path / "model")
    (folder / "tokenizer_2").rename(tmp_path / "elsewhere")
    with pytest.raises(StoryjaxError, match="has no tokenizer_2"):
        StableDiffusionPipeline.load(folder)
