"""`storyjax.load` takes every layout alike; `storyjax convert` and `storyjax export` from the command line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import storyjax
from storyjax.api import SHIPPED, model_folder
from storyjax.cli import main
from storyjax.errors import StoryjaxError
from storyjax.nn.build import flatten
from storyjax.systems.contextual_story.pipeline import ContextualStoryPipeline
from storyjax.systems.stable_diffusion.pipeline import StableDiffusionPipeline
from storyjax.weights import open_tensors
from tests.weights import latent_files
from tests.weights.folders import diffusers_folder, tokenizer


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    for model in ("sd1", "contextual_story"):
        diffusers_folder(place / model, model)
    storyjax.convert(place / "contextual_story", place / "ours", progress=False)
    return place


def test_a_released_story_model_and_its_conversion_are_the_same(folders):
    released, ours = storyjax.load(folders / "contextual_story"), storyjax.load(folders / "ours")
    assert isinstance(released, ContextualStoryPipeline)
    assert ours.config == released.config
    assert released.config.size == (256, 256)
    np.testing.assert_array_equal(released.motion, [3.5, 4.25])
    expected, found = flatten(released.params), flatten(ours.params)
    assert found.keys() == expected.keys()
    for path, leaf in expected.items():
        assert isinstance(leaf, jax.Array)
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)
    original = open_tensors(folders / "contextual_story" / "unet")["mid_block.conv3ds.0.conv1.weight"]
    kernel = released.params["unet"]["unet"]["mid_block"]["after_resnet"]["0"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, original[:, :, :, 0, 0].transpose(2, 1, 0))


def test_stable_diffusion_in_the_dtype_and_place_asked_for(folders):
    mesh = jax.make_mesh((1,), ("x",))
    asked = {}

    def sharding(path, shape):
        asked[path] = shape
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    pipeline = storyjax.load(folders / "sd1", dtype="bfloat16", sharding=sharding)
    assert isinstance(pipeline, StableDiffusionPipeline)
    flat = flatten(pipeline.params)
    assert {path: leaf.shape for path, leaf in flat.items()} == asked
    assert flat["unet.conv_in.kernel"].dtype == jnp.bfloat16
    assert all(isinstance(leaf.sharding, jax.sharding.NamedSharding) for leaf in flat.values())


def test_a_single_file(tmp_path):
    family = latent_files.TINY["sd1"]
    save_file(latent_files.numbers(latent_files.shapes(family)), tmp_path / "model.safetensors")
    tokenizer(tmp_path / "words", words=family.clip[2])
    pipeline = storyjax.load(tmp_path / "model.safetensors", tokenizer=tmp_path / "words")
    assert isinstance(pipeline, StableDiffusionPipeline)
    assert pipeline.tokenizers["tokenizer"].pad_token == "<|endoftext|>"
    original = open_tensors(tmp_path / "model.safetensors")["model.diffusion_model.out.2.weight"]
    np.testing.assert_array_equal(pipeline.params["unet"]["conv_out"]["kernel"], original.transpose(2, 3, 1, 0))
    storyjax.convert(tmp_path / "model.safetensors", tmp_path / "ours", tokenizer=tmp_path / "words", progress=False)
    expected, found = flatten(pipeline.params), flatten(storyjax.load(tmp_path / "ours").params)
    assert found.keys() == expected.keys()
    for path, leaf in expected.items():
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)


def test_where_a_model_lies(tmp_path, monkeypatch):
    assert model_folder("cartoon") == SHIPPED / "cartoon"
    assert model_folder(tmp_path) == tmp_path
    (tmp_path / "model.ckpt").write_text("")
    assert model_folder(str(tmp_path / "model.ckpt")) == tmp_path / "model.ckpt"
    located = []
    monkeypatch.setattr("storyjax.weights.hub.locate", lambda name, **said: located.append((name, said)) or tmp_path)
    assert model_folder("org/name-1.5", variant="fp16", revision="main") == tmp_path
    assert located == [("org/name-1.5", {"revision": "main", "variant": "fp16"})]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(StoryjaxError, match="there is no model folder at 'runs/mine' and no shipped model"):
        model_folder("runs/mine")
    with pytest.raises(StoryjaxError, match=r"no shipped model of that name; did you mean 'cartoon'\?"):
        model_folder("cartoons")
    assert len(located) == 1


def test_unknown_dtype(folders):
    with pytest.raises(StoryjaxError, match="no dtype 'fp16' for weights"):
        storyjax.load(folders / "sd1", dtype="fp16")


def test_convert_and_export_from_the_command_line(folders, tmp_path, capsys):
    main(["convert", str(folders / "sd1"), str(tmp_path / "ours"), "--dtype", "float16"])
    out, err = capsys.readouterr()
    assert "tensors placed" in out
    assert f"{tmp_path}/ours: system stable_diffusion" in out
    assert "converting" in err  # the progress bar
    main(["export", str(tmp_path / "ours"), str(tmp_path / "back")])
    assert "StableDiffusionPipeline" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(folders / "sd1"), str(tmp_path / "ours")])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        f"storyjax: '{tmp_path}/ours' exists; choose another folder, or allow overwriting\n"
    )
    main(["convert", str(folders / "sd1"), str(tmp_path / "ours"), "--overwrite"])


def test_patterns_of_tensors_that_may_be_left_over_are_given_one_by_one(folders, tmp_path, capsys):
    main(["convert", str(folders / "sd1"), str(tmp_path / "ours"), "--allow-unused", "lora.*", "ema.*"])
    assert "tensors placed" in capsys.readouterr().out
