"""A whole training run at toy size, through the command: codec, tokenizer, cached latents, story model, model folder."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import storyjax
from storyjax.checkpoints.folder import load_component
from storyjax.checkpoints.manager import load_params
from storyjax.cli import main
from storyjax.data.build import build
from storyjax.data.config import DataConfig
from storyjax.errors import StoryjaxError
from storyjax.models.vae import to_unit
from storyjax.nn.build import abstract, bind, flatten
from storyjax.systems.contextual_story.experiment import ContextualStoryRun
from storyjax.systems.contextual_story.objective import StoryLoss, motion_of
from storyjax.systems.contextual_story.pipeline import Defaults, vae_maker
from storyjax.train.autoencoder import AutoencoderRun
from storyjax.train.config import EmaConfig, OptimizerConfig, TrainConfig
from storyjax.train.loop import TrainResult
from tests import tiny

POSITIONS, VOCABULARY = 40, 1000
# Attention in the middle block alone: half the parameters, and so half the time that compiling and saving take.
UNET = dataclasses.replace(tiny.UNET, attention=(False,))
CODEC_TRAIN = TrainConfig(steps=2, batch_size=2, log_every=1, save_every=2)
STORY_TRAIN = TrainConfig(
    steps=4,
    batch_size=2,
    log_every=1,
    save_every=2,
    sample_every=4,
    optimizer=OptimizerConfig(learning_rate=1e-3),
    ema=EmaConfig(decay=0.5),
)


def run_config(data_dir: str) -> ContextualStoryRun:
    """What the configuration file of these tests returns: 3 frames of 32x32 pixels of the `tiny` cartoon stories."""
    data = DataConfig(data_dir=data_dir, size=tiny.SIZE, frames=tiny.FRAMES, threads=0)
    return ContextualStoryRun(
        data=data,
        codec=AutoencoderRun(data=DataConfig(threads=0), vae=tiny.CODEC, train=CODEC_TRAIN),
        story=dataclasses.replace(tiny.VISUALIZATION, unet=UNET, contextualizer_positions=POSITIONS),
        text_encoder=dataclasses.replace(tiny.TEXT, vocab_size=VOCABULARY, positions=POSITIONS),
        vocabulary=VOCABULARY,
        loss=StoryLoss(schedule=tiny.SCHEDULE, clean_first_frame=0.5),
        train=STORY_TRAIN,
        defaults=Defaults(num_inference_steps=2, guidance_scale=3.0),
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A configuration file, and beside it the data it names."""
    folder = tmp_path_factory.mktemp("experiment")
    build("cartoon_stories", data_dir=folder / "data", config="tiny", processes=1)
    file = folder / "tiny_story.py"
    lines = [
        "from tests.systems.contextual_story.test_experiment import run_config",
        f"def get_config(): return run_config({str(folder / 'data')!r})",
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


def train(config, workdir, *changes):
    main(["train", str(config), "--workdir", str(workdir), *(["--set", *changes] if changes else [])])


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The work directory of a run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train(config, workdir)
    return workdir


def branch(whole, workdir):
    """A work directory in which all but the story model is trained already."""
    for stage in ("vae", "tokenizer", "latents"):
        shutil.copytree(whole / stage, workdir / stage)
    return workdir


def curve(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def failure(function, *args):
    with pytest.raises(StoryjaxError) as caught:
        function(*args)
    return str(caught.value)


# ---- the whole way ----


def test_every_stage_leaves_its_result(whole):
    assert sorted(path.name for path in whole.iterdir()) == ["latents", "model", "story", "tokenizer", "vae"]
    assert sorted(curve(whole / "vae")) == [1, 2]
    assert sorted(curve(whole / "story")) == [1, 2, 3, 4]
    assert all(np.isfinite(value) for value in curve(whole / "story").values())
    strips = sorted((whole / "story" / "samples" / "step_00000004").glob("story_*.png"))
    assert len(strips) == 4  # as many as there are held-out stories
    assert all(np.asarray(Image.open(strip)).std() > 5 for strip in strips)


def test_the_codecs_scaling_gives_latents_of_unit_deviation(whole, config):
    saved, params = load_component(whole / "vae" / "model", "vae")
    graphdef, _ = abstract(vae_maker(tiny.CODEC))
    held_out = run_config(str(config.parent / "data")).data.open("validation")
    images = np.concatenate([held_out.images(i) for i in range(4)])
    encode = tiny.quick_jit(lambda params, images: bind(graphdef, params).encode(to_unit(images))[0])
    latents = np.asarray(encode(params, images)) * saved["scaling_factor"]
    assert abs(latents.std() - 1) < 1e-3


def test_latents_and_motion_are_those_of_the_codec(whole, config):
    saved, params = load_component(whole / "vae" / "model", "vae")
    graphdef, _ = abstract(vae_maker(tiny.CODEC))
    stories = run_config(str(config.parent / "data")).data.open("train")
    images = np.stack([stories.images(i) for i in range(len(stories))])
    encode = tiny.quick_jit(lambda params, images: bind(graphdef, params).encode(to_unit(images))[0])
    mean = np.asarray(encode(params, images.reshape(-1, 32, 32, 3))).reshape(20, 3, 4, 4, 4)
    np.testing.assert_allclose(np.load(whole / "latents" / "latents_mean.npy"), mean, atol=2e-3 * np.abs(mean).max())
    motion = np.asarray(json.loads((whole / "model" / "cumulative_motion.json").read_text()))
    assert motion.shape == (1, 2)
    np.testing.assert_allclose(motion[0], motion_of(saved["scaling_factor"] * mean).mean(0), rtol=1e-3)


def test_the_model_folder_holds_the_averaged_weights_and_draws(whole):
    pipeline = storyjax.load(whole / "model")
    averaged = flatten(load_params(whole / "story", "ema")[0])
    raw = flatten(load_params(whole / "story", "raw")[0])
    path = "unet.unet.conv_in.kernel"
    stored = flatten(pipeline.params)
    np.testing.assert_array_equal(stored[path], np.asarray(averaged[path]).astype(np.float16))
    assert np.abs(np.asarray(stored[path]) - raw[path]).max() > 1e-4
    assert pipeline.config.defaults == Defaults(num_inference_steps=2, guidance_scale=3.0)
    told = [["Poppy walks.", "She sleeps.", "Poppy dances."]] * 4
    images = pipeline(told, seed=[0, 1, 2, 3], output_type="np").images
    assert [frames.shape for frames in images] == [(3, 32, 32, 3)] * 4
    assert np.std(images) > 5


def test_a_finished_run_started_again_trains_nothing(whole, config):
    weights = whole / "vae" / "model" / "vae" / "model.safetensors"
    before, losses = weights.stat().st_mtime_ns, curve(whole / "story")
    train(config, whole)
    assert weights.stat().st_mtime_ns == before
    assert curve(whole / "story") == losses


def test_a_run_that_was_stopped_goes_on_as_if_it_never_was(whole, config, tmp_path):
    workdir = branch(whole, tmp_path)
    train(config, workdir, "train.steps=2", "train.sample_every=0")
    assert sorted(curve(workdir / "story")) == [1, 2]
    shutil.rmtree(workdir / "model")
    train(config, workdir, "train.sample_every=0")
    assert curve(workdir / "story") == curve(whole / "story")
    one, two = (flatten(load_params(path / "story")[0]) for path in (workdir, whole))
    assert all((one[path] == two[path]).all() for path in two)
    assert (workdir / "model" / "model_index.json").is_file()


def test_a_stopped_codec_stops_the_run(config, tmp_path, monkeypatch):
    stopped = TrainResult(1, 2, "SIGTERM", {}, tmp_path)
    monkeypatch.setattr(AutoencoderRun, "start", lambda self, workdir, placement, progress: stopped)
    assert run_config(str(config.parent / "data")).start(tmp_path / "run") is stopped
    assert not (tmp_path / "run" / "tokenizer").exists()


def test_the_codec_sees_the_pictures_of_the_story_model(config):
    data = run_config(str(config.parent / "data"))._codec().data
    assert (data.data_dir, data.size, data.frames) == (str(config.parent / "data"), 32, 3)


# ---- other runs ----


def test_a_frozen_text_encoder_stays_what_it_was_and_its_states_are_cached(whole, config, tmp_path):
    reuse = [f"vae_folder={whole}/vae/model", f"tokenizer_folder={whole}/tokenizer", f"init_from={whole}/model"]
    train(config, tmp_path, *reuse, "freeze_text_encoder=true", "train.steps=1", "train.sample_every=0")
    given = {name: flatten(load_component(whole / "model", name)[1]) for name in ("unet", "text_encoder")}
    trained = load_params(tmp_path / "story", "raw")[0]
    for path, leaf in flatten(trained["text_encoder"]).items():
        np.testing.assert_array_equal(leaf, given["text_encoder"][path], err_msg=path)
    moved = {path: np.abs(leaf - given["unet"][path]).max() for path, leaf in flatten(trained["unet"]).items()}
    assert 0 < max(moved.values()) < 5e-3  # one step of AdamW away from where it began
    states = np.load(tmp_path / "states" / "text.npy")
    assert states.shape == (20, 3, POSITIONS, 8)
    pipeline = storyjax.load(whole / "model")
    stories = run_config(str(config.parent / "data")).data.open("train")
    encode = tiny.quick_jit(lambda params, tokens: bind(pipeline.networks.text, params)(tokens))
    expected = encode(pipeline.params["text_encoder"], pipeline._tokens(stories.sentences(7), 1))
    np.testing.assert_allclose(states[7], expected[0], atol=5e-3)
    assert not (tmp_path / "vae").exists()


@pytest.mark.slow
def test_a_continuation_without_contextualizer_recomputing_its_activations(whole, config, tmp_path):
    workdir = branch(whole, tmp_path)
    changes = [
        "story.first_frame=conv2d",
        "story.contextualizer_layers=0",
        "loss.clean_first_frame=0",
        "train.remat=blocks",
    ]
    train(config, workdir, *changes, "train.steps=2", "train.save_every=2", "train.sample_every=2")
    assert sorted(curve(workdir / "story")) == [1, 2]
    assert len(list((workdir / "story" / "samples" / "step_00000002").glob("story_*.png"))) == 4
    pipeline = storyjax.load(workdir / "model")
    assert pipeline.config.story.first_frame == "conv2d"
    assert not any("contextualizer" in path for path in flatten(pipeline.params))


def test_weights_of_another_network_are_refused(whole, config, tmp_path, capsys):
    workdir = branch(whole, tmp_path)
    with pytest.raises(SystemExit) as caught:
        train(config, workdir, f"init_from={whole}/model", "story.contextualizer_layers=0")
    assert caught.value.code == 2
    assert "the initial parameters do not fit the model: unknown 'unet.contextualizer." in capsys.readouterr().err


# ---- mistakes, before anything is trained ----


def mistake(config, workdir, capsys, *changes):
    with pytest.raises(SystemExit) as caught:
        train(config, workdir, *changes)
    assert caught.value.code == 2
    *before, error = capsys.readouterr().err.strip().splitlines()
    assert all(line.startswith("storyjax: warning: ") for line in before)
    assert error.startswith("storyjax: ")
    return error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["train.step=3"], "the configuration has no field 'train.step'; did you mean 'train.steps'?"),
        (["train.steps=soon"], "field 'train.steps': Input should be a valid integer"),
        (["story.frames=4"], "the data gives 3 frames a story (data.frames), the model draws 4 (story.frames)"),
        (["data.random_frames=true"], "the latents of all frames are computed once"),
        (["vocabulary=2000"], "the tokenizer may learn 2000 tokens (vocabulary), the text encoder knows 1000"),
        (["freeze_text_encoder=true"], "a frozen text encoder must have learnt before"),
        (["codec.vae.latent_channels=6"], "the codec has 6 latent channels, but the UNet reads 4 and predicts 4"),
        (["data.size=36", "codec.data.size=32"], "frames of 36x36 pixels do not divide into the codec's 8x8 blocks"),
        (["codec.data.size=36"], "pictures of 36 pixels (data.size) do not divide into the codec's blocks of 8"),
        (["story.contextualizer_heads=3"], "attention: 8 channels do not divide into 3 heads"),
        (["story.unet.norm_groups=3"], "group norm: 8 channels do not divide into 3 groups"),
        (["loss.drop_text=1.5"], "drop_text is a share of stories, expected 0..1, got 1.5"),
        (["train.accumulation=3"], "batch_size 2 is not divisible by accumulation 3"),
    ],
)
def test_a_run_that_cannot_work_does_not_begin(config, tmp_path, capsys, changes, message):
    assert message in mistake(config, tmp_path / "run", capsys, *changes)
    assert not (tmp_path / "run").exists()


def test_the_work_directory_of_another_configuration_is_refused(whole, config, capsys):
    error = mistake(config, whole, capsys, "train.batch_size=4", "story.contextualizer_heads=4")
    assert f"the work directory '{whole / 'story'}' belongs to another configuration" in error
    assert "story.contextualizer_heads: there 2, here 4; train.batch_size: there 2, here 4" in error


def test_a_tokenizer_with_too_many_tokens_is_refused(whole, config, tmp_path, capsys):
    changes = [f"vae_folder={whole}/vae/model", f"tokenizer_folder={whole}/tokenizer", "text_encoder.vocab_size=600"]
    error = mistake(config, tmp_path / "run", capsys, *changes)
    assert f"the tokenizer of '{whole}/tokenizer' has " in error
    assert "the text encoder knows 600 (text_encoder.vocab_size)" in error


def test_a_missing_codec_folder_and_missing_data_are_named(config, tmp_path, capsys):
    assert "no model folder at '/no/codec'" in mistake(config, tmp_path / "run", capsys, "vae_folder=/no/codec")
    error = mistake(config, tmp_path / "run", capsys, f"data.data_dir={tmp_path}")
    assert "dataset 'cartoon_stories' is not built" in error
    assert "storyjax data build cartoon_stories" in error


@pytest.mark.slow
def test_in_a_bucket_all_stages_go_on_on_another_machine_with_the_same_losses(config, whole, gcs, tmp_path):
    workdir, changes = "gs://bucket/run", ["train.sample_every=2"]
    train(config, workdir, *changes, "train.steps=2")
    assert (tmp_path / "cache" / "storyjax" / "runs").is_dir()
    shutil.rmtree(tmp_path / "cache")  # what the next machine does not have
    train(config, workdir, *changes)
    lines = gcs.objects["bucket", "run/story/metrics.jsonl"].content.decode().splitlines()
    assert {row["step"]: row["loss"] for row in map(json.loads, lines) if "loss" in row} == curve(whole / "story")
    names = gcs.names("bucket")
    assert {name.split("/")[1] for name in names} == {"vae", "tokenizer", "story", "model"}
    assert "run/story/samples/step_00000004/story_3.png" in names
    ours, theirs = (flatten(storyjax.load(place).params) for place in (f"{workdir}/model", whole / "model"))
    assert ours.keys() == theirs.keys()
    assert all((ours[path] == theirs[path]).all() for path in theirs)
