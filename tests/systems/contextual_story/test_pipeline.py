"""The pipeline, on a model of toy size: what is asked for is what is drawn, and every mistake says so."""

import dataclasses
import json
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from storyjax.data import TokensCutWarning
from storyjax.diffusion.frame_init import FrameInit
from storyjax.diffusion.samplers import Sampler
from storyjax.errors import StoryjaxError
from storyjax.nn.build import flatten
from storyjax.story.story import Story, story_from_sentences
from storyjax.systems.contextual_story.pipeline import ContextualStoryPipeline, check_fit
from storyjax.weights.layouts import recognise
from storyjax.weights.system import system
from tests import tiny

SENTENCES = list(tiny.SENTENCES)
OTHERS = ["Ada sleeps.", "She walks home.", "Ada swims in the lake."]
# With fresh noise in every step, so that it shows whose noise it is.
ANCESTRAL = {"sampler": Sampler("ddim", eta=0.5), "output_type": "np"}
RANDOM = np.random.default_rng(29)
PICTURE = RANDOM.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def draw(pipeline, prompt=SENTENCES, **settings):
    return np.asarray(pipeline(prompt, **(ANCESTRAL | settings)).images)


def failure(pipeline, *args, **settings):
    with pytest.raises(StoryjaxError) as caught:
        pipeline(*args, **settings)
    return str(caught.value)


@pytest.fixture(scope="module")
def drawn(visual):
    """The story of `SENTENCES` with seed 5, drawn once."""
    return draw(visual, seed=5)


# ---- what is drawn ----


def test_a_story_becomes_a_picture_for_every_sentence(drawn):
    assert (drawn.shape, drawn.dtype) == ((3, 32, 32, 3), np.uint8)
    assert drawn.std() > 10


def test_the_same_seed_gives_the_same_pictures_and_another_others(visual, drawn):
    np.testing.assert_array_equal(draw(visual, seed=5), drawn)
    assert (draw(visual, seed=6) != drawn).mean() > 0.5


def test_half_precision_weights_compute_in_half_precision_and_the_codec_exactly(visual, continuing):
    def halved(tree):
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree)

    for pipeline in (visual, continuing):
        params = halved({name: pipeline.params[name] for name in ("unet", "text_encoder")})
        params["vae"] = pipeline.params["vae"]
        half = ContextualStoryPipeline(pipeline.config, params, pipeline.tokenizer, pipeline.motion)
        model = nnx.merge(half.networks.story, params["unet"])
        shape = (1, 3 - half._drawing.continues, 4, 4, 4)
        predict = half._drawing.conditioned(
            model,
            jnp.zeros((1, 3, tiny.TOKENS, 8)),
            half.motion[None],
            jnp.zeros((1, 4, 4, 4)),
            jnp.zeros((1, 1, 4, 4, 4)),
            "none",
        )
        traced = str(jax.make_jaxpr(predict)(jnp.zeros(shape), jnp.array(3)))
        assert traced.count("= conv_general_dilated") > 10
        assert not re.findall(r":f32\[[\d,]+\] = conv_general_dilated", traced)
        if pipeline is visual:
            exact, rounded = (draw(one, output_type="latent") for one in (visual, half))
            assert rounded.dtype == np.float32
            assert 1e-4 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 0.1


def test_every_sentence_counts_in_every_picture(visual, drawn):
    changed = draw(visual, [SENTENCES[0], SENTENCES[1], "Ada swims in the lake."], seed=5)
    assert (changed != drawn).any(axis=(1, 2, 3)).all()


def test_a_story_and_its_sentences_are_the_same_prompt(visual, drawn):
    np.testing.assert_array_equal(draw(visual, story_from_sentences(SENTENCES), seed=5), drawn)
    pictures = visual(tuple(SENTENCES), **(ANCESTRAL | {"output_type": "pil"}), seed=5).images
    assert all(isinstance(picture, Image.Image) for picture in pictures)
    np.testing.assert_array_equal(np.stack([np.asarray(picture) for picture in pictures]), drawn)


def test_a_story_does_not_depend_on_the_batch_it_is_drawn_in(visual, drawn):
    batch = draw(visual, [OTHERS, SENTENCES], seed=[3, 5])
    assert batch.shape == (2, 3, 32, 32, 3)
    assert np.abs(batch[1].astype(int) - drawn).max() <= 1
    assert (batch[0] != batch[1]).mean() > 0.5
    counted = draw(visual, [story_from_sentences(OTHERS), SENTENCES], seed=4)  # the second one has seed 5
    assert np.abs(counted[1].astype(int) - drawn).max() <= 1


def test_nothing_is_compiled_again_for_other_sentences_seeds_or_scales(visual, drawn):
    before = visual._drawing.whole._cache_size()
    changed = [
        draw(visual, OTHERS, seed=7, guidance_scale=2),
        draw(visual, OTHERS, seed=7, guidance_scale=2.5),
        draw(visual, OTHERS, seed=np.int64(7), guidance_scale=2, guidance_rescale=0.7),
        draw(visual, OTHERS, seed=7, guidance_scale=2, negative_prompt="the lake"),
        draw(visual, OTHERS, seed=7, guidance_scale=2, negative_prompt=["the lake", "", "home"]),
    ]
    assert visual._drawing.whole._cache_size() == before
    for i, one in enumerate(changed):
        for other in changed[:i]:
            assert (one != other).any()


def test_a_guidance_of_one_draws_without_the_null_captions(visual, drawn):
    plain = draw(visual, seed=5, guidance_scale=1)
    assert (plain != drawn).any()
    np.testing.assert_array_equal(draw(visual, seed=5, guidance_scale=1, negative_prompt="the lake"), plain)


def test_a_sentence_that_is_too_long_is_cut_with_a_warning_that_names_the_rest(visual):
    long = "Ada walks home and walks home and walks to the lake, and sleeps."
    with pytest.warns(TokensCutWarning, match=r"cut off: '.*sleeps\.' of 'Ada walks") as caught:
        cut = draw(visual, [long, *SENTENCES[1:]], seed=5)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TokensCutWarning)
        other_end = draw(visual, [long.replace("sleeps", "swims"), *SENTENCES[1:]], seed=5)
    np.testing.assert_array_equal(other_end, cut)


# ---- story continuation ----


def test_a_model_with_clean_first_frames_continues_from_a_picture(visual, drawn):
    out = draw(visual, seed=5, image=PICTURE)
    np.testing.assert_array_equal(out[0], PICTURE)
    assert (out[1:] != drawn[1:]).mean() > 0.5
    darker = draw(visual, seed=5, image=Image.fromarray(PICTURE // 3))
    np.testing.assert_array_equal(darker[0], PICTURE // 3)
    assert (darker[1:] != out[1:]).any(axis=(1, 2, 3)).all()


def test_a_picture_may_be_a_file_or_come_with_the_story(visual, tmp_path):
    expected = draw(visual, seed=5, image=PICTURE)
    Image.fromarray(PICTURE).save(tmp_path / "first.png")
    told = story_from_sentences(SENTENCES, first_picture=str(tmp_path / "first.png"))
    np.testing.assert_array_equal(draw(visual, told, seed=5), expected)
    np.testing.assert_array_equal(draw(visual, [SENTENCES], seed=5, image=[PICTURE])[0], expected)
    Image.fromarray(RANDOM.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(tmp_path / "large.png")
    resized = visual(SENTENCES, image=tmp_path / "large.png", seed=5, **ANCESTRAL)
    assert resized.notes == ("first picture 'large.png' resized: 96x64 -> centre crop 64x64 -> 32x32 LANCZOS",)
    assert (resized.images[1] != expected[1]).any()


def test_a_continuation_model_with_both_scales_and_frame_init(continuing):
    settings = ANCESTRAL | {"image_guidance_scale": 1.5, "frame_init": FrameInit(), "seed": 5}
    out = draw(continuing, image=PICTURE, **settings)
    np.testing.assert_array_equal(out[0], PICTURE)
    assert out[1:].std() > 10
    darker = draw(continuing, image=PICTURE // 3, **settings)
    assert (darker[1:] != out[1:]).any(axis=(1, 2, 3)).all()
    stronger = draw(continuing, image=PICTURE, **settings | {"image_guidance_scale": 3})
    assert (stronger[1:] != out[1:]).any()


class Shown:
    """A network that only notes what it is shown."""

    dtype = np.float32

    def __call__(self, latents, times, text, motion, first=None):
        self.latents, self.times, self.first = latents, times, first
        return latents


GIVEN, START = (RANDOM.standard_normal(shape).astype(np.float32) for shape in ((2, 4, 4, 4), (2, 3, 4, 4, 4)))


@pytest.mark.parametrize(("form", "branches"), [("none", 1), ("text", 2), ("both", 3)])
def test_a_visualization_model_holds_frame_0_still_at_timestep_0(visual, form, branches):
    model, text = Shown(), np.zeros((2 * branches, 3, 4, 8))
    predict = visual._drawing.conditioned(model, text, visual.motion[None], GIVEN, START[:, :1], form)
    predict(jnp.tile(START, (branches, 1, 1, 1, 1)), 700)
    for branch in range(branches):
        rows = slice(2 * branch, 2 * branch + 2)
        sees = not (form == "both" and branch == 0)  # "both": the first branch knows neither picture nor text
        np.testing.assert_array_equal(model.latents[rows, 0], GIVEN if sees else START[:, 0])
        np.testing.assert_array_equal(model.latents[rows, 1:], START[:, 1:])
        np.testing.assert_array_equal(model.times[rows], [[0 if sees else 700, 700, 700]] * 2)


@pytest.mark.parametrize(("form", "branches"), [("none", 1), ("text", 2), ("both", 3)])
def test_a_continuation_model_is_given_frame_0_beside_the_others(continuing, form, branches):
    model, text = Shown(), np.zeros((2 * branches, 3, 4, 8))
    predict = continuing._drawing.conditioned(model, text, continuing.motion[None], GIVEN, START[:, :1], form)
    predict(START[:, 1:], 700)
    expected = [START[:, 0], GIVEN, GIVEN] if form == "both" else [GIVEN] * branches
    np.testing.assert_array_equal(model.first, np.concatenate(expected))


# ---- folders ----


@pytest.fixture
def folder(visual, tokenizer, tmp_path):
    visual.save(tmp_path / "model", tokenizer)
    return tmp_path / "model"


def test_a_saved_model_is_loaded_as_it_was(visual, folder):
    again = ContextualStoryPipeline.load(folder)
    assert again.config == visual.config
    np.testing.assert_array_equal(again.motion, visual.motion)
    found = flatten(again.params)
    assert found.keys() == flatten(visual.params).keys()
    for path, leaf in flatten(visual.params).items():
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)
    np.testing.assert_array_equal(again._tokens(SENTENCES, 1), visual._tokens(SENTENCES, 1))


def edit(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in (content | changes).items() if v is not None}))


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("model_index.json", {"system": "storygen"}, "model_index.json': no system 'storygen'"),
        ("model_index.json", {"prior": None}, "has no 'prior'"),
        ("unet/config.json", {"framse": 3}, "unet/config.json has no field 'framse'; did you mean 'frames'?"),
        ("unet/config.json", {"frames": 4}, "contextualizer.pos_embed: expected (1, 4, "),
        ("vae/config.json", {"patch": "8"}, "vae/config.json: field 'patch': Input should be a valid integer, got '8'"),
        (
            "scheduler/scheduler_config.json",
            {"kind": "cosin"},
            "field 'kind': Input should be 'linear', 'scaled_linear'",
        ),
    ],
)
def test_a_damaged_folder_says_what_is_wrong_with_it(folder, file, changes, message):
    edit(folder / file, **changes)
    assert message in failure(ContextualStoryPipeline.load, folder)


def test_a_model_of_another_system_is_refused(folder):
    other = dataclasses.replace(recognise(folder), system=system("stable_diffusion"))
    text = failure(ContextualStoryPipeline.of, other)
    assert text == f"'{folder}' holds a model of system 'stable_diffusion', expected 'contextual_story'"


@pytest.mark.parametrize(
    "file", ["unet/model.safetensors", "vae/config.json", "tokenizer/vocab.json", "cumulative_motion.json"]
)
def test_a_half_written_folder_names_what_is_missing(folder, file):
    (folder / file).unlink()
    assert file.rsplit("/", 1)[-1] in failure(ContextualStoryPipeline.load, folder)


def test_weights_that_were_cut_off_are_named(folder):
    weights = folder / "unet" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert f"'{weights}' is no whole .safetensors file" in failure(ContextualStoryPipeline.load, folder)


# ---- mistakes ----


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("Ada walks.", "expected a list of sentences, one for each frame, got one text; pass [text]"),
        ([], "the story has no frames"),
        (["Ada walks.", "", "Ada sleeps."], "frame 2 has no sentence"),
        ([SENTENCES, "Ada walks."], "'frames' must be a list, got text 'Ada walks.'"),
    ],
)
def test_a_prompt_that_is_no_story_of_this_model_is_refused(visual, prompt, message):
    assert message in failure(visual, prompt)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "dimm"}, "unknown sampler 'dimm'; did you mean 'ddim'?"),
        ({"num_inference_steps": 0}, "expected 1..1000 sampling steps (the schedule's training steps), got 0"),
        ({"num_inference_steps": 1001}, "expected 1..1000 sampling steps (the schedule's training steps), got 1001"),
        ({"guidance_scale": -1}, "expected scales of at least 0"),
        ({"guidance_rescale": 2}, "expected rescale in 0..1, got 2.0"),
        ({"negative_prompt": ["a", "b"]}, "expected one negative prompt or 3, one for each frame, got 2"),
        ({"seed": [1, 2]}, "expected one seed or 1, one for each story, got 2"),
        ({"seed": -1}, "expected a seed in 0..4294967295, got -1"),
        ({"seed": [1.5]}, "expected a seed in 0..4294967295, got 1.5"),
        (
            {"frame_init": FrameInit()},
            "FrameInit starts from a given first picture; pass image= or leave frame_init out",
        ),
        (
            {"image": PICTURE[:, :16]},
            "expected a first picture of 32x32 RGB pixels (uint8), got uint8 of shape (32, 16, 3)",
        ),
        (
            {"image": PICTURE / 255},
            "expected a first picture of 32x32 RGB pixels (uint8), got float64 of shape (32, 32, 3)",
        ),
        ({"image": "no_such.png"}, "there is no picture at 'no_such.png'"),
    ],
)
def test_a_wrong_setting_is_named(visual, settings, message):
    assert message in failure(visual, SENTENCES, **settings)


def test_every_story_of_a_batch_needs_its_picture(visual, tmp_path):
    assert "expected 2 first pictures, one for each story, got 1" in failure(
        visual, [SENTENCES, OTHERS], image=Image.fromarray(PICTURE)
    )
    Image.fromarray(PICTURE).save(tmp_path / "first.png")
    with_picture = story_from_sentences(SENTENCES, first_picture=str(tmp_path / "first.png"))
    assert "expected 2 first pictures, one for each story, got 1" in failure(visual, [with_picture, OTHERS])


def test_a_continuation_model_asks_for_its_picture(continuing):
    message = failure(continuing, Story(frames=tuple(SENTENCES)))
    assert message == "this is a story-continuation model: it needs the first picture, pass image="


def test_a_tokenizer_of_another_model_is_noticed(visual, tokenizer):
    text = dataclasses.replace(tiny.TEXT, vocab_size=500)
    config = dataclasses.replace(visual.config, text_encoder=text)
    misfit = ContextualStoryPipeline(config, visual.params, visual.tokenizer, visual.motion)
    assert "the text encoder knows 500; they do not fit" in failure(misfit, SENTENCES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vae": {"latent_channels": 5}}, "the codec has 5 latent channels, but the UNet reads 4 and predicts 4"),
        ({"text": {"width": 16}}, "the text encoder is 16 wide, but the UNet's cross_attention_dim is 8"),
        ({"text": {"positions": 77}}, "captions have 77 tokens, but the contextualizer only 12 positions"),
        ({"size": (32, 36)}, "frames of 36x32 pixels do not divide into the codec's 8x8 blocks"),
    ],
)
def test_networks_that_do_not_fit_each_other_are_named(changes, message):
    parts = {
        "text": dataclasses.replace(tiny.TEXT, **changes.get("text", {})),
        "vae": dataclasses.replace(tiny.CODEC, **changes.get("vae", {})),
        "size": changes.get("size", (32, 32)),
    }
    assert message in failure(check_fit, tiny.VISUALIZATION, **parts)
    if "text" not in changes or "positions" not in changes["text"]:
        return
    check_fit(dataclasses.replace(tiny.VISUALIZATION, contextualizer_layers=0), **parts)  # then nobody counts positions
