"""CLIP-T, CLIP-I and PickScore on a toy CLIP: what they add up to, which frames count, and what is missing when it is."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.data import load_tokenizer, tokenize
from storyjax.errors import StoryjaxError
from storyjax.evals.metrics.clip_scores import ClipI, ClipT, PickScore
from storyjax.evals.networks import pretrained
from storyjax.evals.networks.clip_network import cosine
from storyjax.evals.networks.pictures import centre_crop
from storyjax.models.clip import CLIP
from storyjax.models.clip_vision import normalised
from storyjax.nn.build import abstract, bind
from tests.evals.toy_clip import CONFIG, folder, params, same, stories
from tests.tiny import TOKENS


@pytest.fixture(scope="module")
def model(tokenizer, tmp_path_factory):
    return folder(tmp_path_factory.mktemp("clip") / "toy", "clip", tokenizer)


@pytest.fixture(scope="module")
def clip_t(model):
    return ClipT.open(model=model, batch=2)


@pytest.fixture(scope="module")
def clip_i(model):
    return ClipI.open(model=model, batch=2)


@pytest.fixture(scope="module")
def vectors(tokenizer):
    """Of the first story's frames and sentences, by the network itself, all at once."""
    story = stories(1)[0]
    network = bind(abstract(lambda rngs: CLIP(CONFIG, rngs=rngs))[0], params("clip"))
    images = np.stack([centre_crop(frame, 14) for frame in story.generated])
    tokens = tokenize(load_tokenizer(tokenizer), story.sentences, TOKENS)
    return jax.jit(lambda x, t: (network.embed_images(normalised(x)), network.embed_texts(t)))(
        images, jnp.asarray(tokens)
    )


def test_clip_t_is_the_cosine_of_frame_and_sentence(clip_t, vectors):
    found = clip_t.measure(stories(1))[0]["values"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, cosine(*vectors), atol=1e-6)
    assert clip_t.score(clip_t.measure(stories(2))) == pytest.approx(
        np.mean([each["values"] for each in clip_t.measure(stories(2))])
    )


def test_any_number_of_stories_at_a_time_gives_the_same_bits(clip_t, clip_i):
    for metric in (clip_t, clip_i):
        whole = metric.measure(stories(3))
        assert same(whole, [metric.measure([story])[0] for story in stories(3)])
        assert same(whole, metric.measure(stories(3)[:1]) + metric.measure(stories(3)[1:]))


def test_given_frames_do_not_count(clip_t, clip_i):
    for metric in (clip_t, clip_i):
        whole, rest = metric.measure(stories(1)), metric.measure(stories(1, given=1))
        assert same(rest, [{"values": whole[0]["values"][1:]}])
        assert np.isnan(metric.score(metric.measure(stories(1, given=3))))


def test_clip_i_of_the_real_frames_themselves_is_one(clip_i):
    story = stories(1)[0]
    perfect = dataclasses.replace(story, generated=story.real)
    np.testing.assert_allclose(clip_i.measure([perfect])[0]["values"], 1, atol=1e-12)
    assert clip_i.score(clip_i.measure([story])) < 0.999


def test_pick_score_scales_and_takes_the_other_tokenizer(tokenizer, tmp_path, monkeypatch, vectors):
    bare = folder(tmp_path / "bare", "clip", None)
    asked = []

    def locate(source, *, patterns=None):
        asked.append((str(source), patterns is not None))
        return bare if patterns is None else tokenizer

    monkeypatch.setattr(pretrained, "locate", locate)
    metric = PickScore.open(model=bare, batch=3)
    assert asked == [(str(bare), False), ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", True)]
    scale = np.exp(np.float64(params("clip")["logit_scale"]))
    np.testing.assert_allclose(metric.measure(stories(1))[0]["values"], scale * cosine(*vectors), rtol=1e-4)


def test_about_names_file_hash_and_resize(clip_t):
    assert clip_t.about["weights"] == ["model.safetensors"]
    assert len(clip_t.about["sha256"]) == 64
    assert "short side to 14, bicubic" in clip_t.about["resize"]


@pytest.mark.parametrize(
    ("metric", "name"), [(ClipT, "openai/clip-vit-base-patch32"), (PickScore, "yuvalkirstain/PickScore_v1")]
)
def test_a_missing_model_says_where_it_is_published_and_how_it_gets_here(metric, name, monkeypatch):
    def locate(source, *, patterns=None):
        raise StoryjaxError("the hub did not answer")

    monkeypatch.setattr(pretrained, "locate", locate)
    with pytest.raises(
        StoryjaxError, match=rf"{metric.title} needs .*'{name}': the hub did not.*'hf download {name}'.*HF_HOME"
    ):
        metric.open()


def test_another_network_or_a_broken_file_is_refused(model, tmp_path):
    with pytest.raises(StoryjaxError, match=r"there is no file or folder at .*nothing here.*huggingface\.co/openai"):
        ClipT.open(model=tmp_path / "nothing here")
    with pytest.raises(StoryjaxError, match=r"is a file; expected a model's folder"):
        ClipT.open(model=model / "config.json")
    other = shutil.copytree(model, tmp_path / "other")
    (other / "config.json").write_text('{"architectures": ["OwlViTForObjectDetection"]}')
    with pytest.raises(StoryjaxError, match="CLIP-T expected a network of kind 'clip', found 'owlvit'"):
        ClipT.open(model=other)


def test_stories_that_do_not_pair_are_refused(clip_t, clip_i):
    story = stories(1)[0]
    with pytest.raises(StoryjaxError, match="story 's0': expected one sentence a frame, got 2 for 3 frames"):
        clip_t.measure([dataclasses.replace(story, sentences=story.sentences[:2])])
    with pytest.raises(StoryjaxError, match="story 's0' has no real frames"):
        clip_i.measure([dataclasses.replace(story, real=None)])
    with pytest.raises(StoryjaxError, match="as many generated frames as real ones, got 3 and 2"):
        clip_i.measure([dataclasses.replace(story, real=story.real[:2])])
    with pytest.raises(StoryjaxError, match=r"expected pictures as uint8 \(H, W, 3\), got float64"):
        clip_t.measure([dataclasses.replace(story, generated=story.generated / 255)])
