"""What lies at a path is recognised, or refused in one line that says what it looks like and what to give instead."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from storyjax.api import SHIPPED
from storyjax.diffusion.samplers import Sampler
from storyjax.errors import StoryjaxError
from storyjax.weights.layouts import recognise
from storyjax.weights.system import System, register_system, system
from tests.weights import latent_files
from tests.weights.folders import diffusers_folder, tokenizer, write_json


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return {
        model: diffusers_folder(tmp_path_factory.mktemp(model) / model, model) for model in ("sd1", "contextual_story")
    }


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole["sd1"], tmp_path / "model")


def failure(path, **settings):
    with pytest.raises(StoryjaxError) as error:
        recognise(path, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def edit(file, **changes):
    write_json(file, json.loads(file.read_text()) | changes)


# ---- what is known ----


def test_stable_diffusion(whole):
    found = recognise(whole["sd1"])
    assert (found.kind, found.system.name) == ("diffusers", "stable_diffusion")
    assert {name: part.component.name for name, part in found.parts.items()} == {
        "unet": "unet",
        "vae": "vae",
        "text_encoder": "clip_text",
    }
    assert found.tokenizers == {"tokenizer": whole["sd1"] / "tokenizer"}
    assert found.schedule.kind == "scaled_linear"
    assert found.sampler == Sampler()
    assert found.settings["size"] == [16, 16]  # 8 latent pixels, a codec of two levels
    assert found.left_out == ("safety_checker (StableDiffusionSafetyChecker)",)
    assert found.files == {
        "feature_extractor/preprocessor_config.json": whole["sd1"] / "feature_extractor" / "preprocessor_config.json"
    }


def test_contextual_story(whole):
    found = recognise(whole["contextual_story"])
    assert (found.kind, found.system.name) == ("diffusers", "contextual_story")
    assert found.parts["unet"].config.first_frame == "none"
    assert found.read("cumulative_motion.json") == [[3.5, 4.25]]
    assert found.settings["size"] == [256, 256]
    assert found.settings["prior"] == {"kind": "mixed", "alpha": 1.5}
    assert found.settings["defaults"]["num_inference_steps"] == 50


def test_continuation(whole, tmp_path):
    folder = shutil.copytree(whole["contextual_story"], tmp_path / "continuation")
    edit(folder / "unet" / "config.json", first_frame_condition_mode="conv2d")
    assert recognise(folder).parts["unet"].config.first_frame == "conv2d"


def test_a_folder_of_ours():
    found = recognise(SHIPPED / "cartoon")
    assert (found.kind, found.system.name) == ("storyjax", "contextual_story")
    assert found.settings["size"] == [128, 128]
    assert found.scheduler is None
    assert found.parts["text_encoder"].config.width == 128


def test_a_single_file(tmp_path):
    family = latent_files.TINY["sd1"]
    save_file(latent_files.numbers(latent_files.shapes(family)), tmp_path / "model.safetensors")
    tokenizer(tmp_path / "words")
    found = recognise(tmp_path / "model.safetensors", tokenizer=tmp_path / "words")
    assert (found.kind, found.system.name) == ("latent-diffusion", "stable_diffusion")
    assert set(found.parts) == {"unet", "vae", "text_encoder"}
    assert found.parts["unet"].load()[1].complete
    words = found.tokenizers["tokenizer"]
    assert (words / "vocab.json").read_text() == (tmp_path / "words" / "vocab.json").read_text()
    assert json.loads((words / "tokenizer_config.json").read_text())["pad_token"] == "<|endoftext|>"


def test_a_single_file_needs_a_tokenizer(tmp_path, monkeypatch):
    family = latent_files.TINY["sd1"]
    save_file(latent_files.numbers(latent_files.shapes(family)), tmp_path / "model.safetensors")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("storyjax.weights.single_file.locate", lambda *_, **__: unreachable())
    text = failure(tmp_path / "model.safetensors")
    assert "is a single file, which holds no tokenizer, and the hub did not answer; or give a folder with" in text
    text = failure(tmp_path / "model.safetensors", tokenizer=tmp_path)
    assert text == f"no tokenizer in '{tmp_path}': vocab.json and merges.txt missing; expected a CLIP tokenizer folder"


def unreachable():
    raise StoryjaxError("the hub did not answer")


# ---- what is missing ----


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("tokenizer/vocab.json", "tokenizer/vocab.json is missing"),
        ("tokenizer", "tokenizer/vocab.json, tokenizer/merges.txt are missing"),
        ("scheduler/scheduler_config.json", "scheduler/scheduler_config.json is missing"),
        ("unet/config.json", "unet/config.json is missing"),
        ("vae", "vae/config.json is missing"),
    ],
)
def test_missing_parts_are_named(folder, lost, named):
    gone = folder / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    text = failure(folder)
    assert f"looks like a diffusers folder of StableDiffusionPipeline, but {named}; copy or download" in text


def test_a_network_that_only_some_models_have_is_missed_where_the_index_names_it(folder):
    """A half-downloaded SDXL is no Stable Diffusion 1."""
    edit(folder / "model_index.json", text_encoder_2=["transformers", "CLIPTextModelWithProjection"])
    assert "but text_encoder_2/config.json is missing" in failure(folder)


def test_parts_that_the_index_leaves_out(folder):
    edit(folder / "model_index.json", vae=[None, None], tokenizer=[None, None], scheduler=[None, None])
    assert "but vae/, scheduler/scheduler_config.json, tokenizer/ are missing" in failure(folder)


def test_missing_weights(folder):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert "expected weights (.safetensors, .bin or an index), one, in" in failure(folder)


def test_story_model_without_its_motion(whole, tmp_path):
    folder = shutil.copytree(whole["contextual_story"], tmp_path / "story")
    (folder / "cumulative_motion.json").unlink()
    assert "ConditionalAnimationPipeline, but cumulative_motion.json is missing" in failure(folder)


def test_a_fast_tokenizer_alone_is_enough(folder):
    for name in ("vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).unlink()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    assert set(recognise(folder).tokenizers) == {"tokenizer"}


# ---- what is something else ----


def test_pipeline_of_another_kind(folder):
    edit(folder / "model_index.json", _class_name="FluxPipeline")
    text = failure(folder)
    assert "looks like a diffusers folder of FluxPipeline; this storyjax reads ConditionalAnimationPipeline, " in text


def test_setting_that_is_not_built_here_names_its_file(folder):
    edit(folder / "unet" / "config.json", class_embed_type="timestep")
    text = failure(folder)
    assert text.startswith(f"'{folder}/unet/config.json': ")
    assert "class_embed_type" in text


def test_network_of_another_kind_in_the_place_of_one(folder):
    edit(folder / "unet" / "config.json", _class_name="AutoencoderKL")
    assert "expected a network of kind 'unet', found 'vae'" in failure(folder)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "an empty folder"),
        ({"adapter_config.json": "{}"}, "a LoRA or another adapter of peft"),
        ({"pytorch_lora_weights.safetensors": ""}, "a LoRA of diffusers"),
        (
            {"config.json": '{"_class_name": "UNet2DConditionModel"}'},
            "one part (UNet2DConditionModel) of a diffusers folder",
        ),
        ({"config.json": '{"_class_name": "ControlNetModel"}'}, "a ControlNetModel, which steers a model"),
        ({"config.json": '{"architectures": ["LlamaForCausalLM"]}'}, "a transformers model of class LlamaForCausalLM"),
        ({"model.onnx": ""}, "an ONNX export"),
        ({"flax_model.msgpack": ""}, "a Flax checkpoint of transformers"),
        ({"a.safetensors": "", "b.ckpt": ""}, "a folder of single checkpoint files; give the file itself, such as"),
        ({"sd15/model_index.json": "{}"}, "a folder of several models; give one of them, such as"),
        (
            {"unet/config.json": "{}", "vae/config.json": "{}"},
            "a diffusers folder without its model_index.json (it has unet, vae)",
        ),
        ({"config.json": '{"steps": 3}', ".lock": ""}, "the work directory of a training run; give its folder 'model'"),
        ({"us.jpg": "", "you.jpg": ""}, "no checkpoint: it holds us.jpg, you.jpg"),
    ],
)
def test_folder_of_something_else(tmp_path, files, told):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert f"'{tmp_path}' looks like {told}" in failure(tmp_path)


def test_file_of_something_else(tmp_path):
    save_file({"lora_unet_down.lora_up.weight": np.zeros(2, np.float32)}, tmp_path / "style.safetensors")
    assert "style.safetensors' looks like" in failure(tmp_path / "style.safetensors")


def test_nothing_there_and_broken_index(tmp_path, folder):
    assert failure(tmp_path / "nothing") == f"there is no checkpoint at '{tmp_path}/nothing'"
    (folder / "model_index.json").write_text("[1]")
    assert "is no JSON object" in failure(folder)
    (folder / "model_index.json").write_text("{")
    assert "is no valid JSON" in failure(folder)
    (folder / "model_index.json").write_text('{"components": {}}')
    assert "names neither a '_class_name' nor a 'system'" in failure(folder)


@pytest.mark.parametrize("file", ["unet/config.json", "scheduler/scheduler_config.json", "safety_checker/config.json"])
def test_configs_that_are_no_objects_are_named(folder, file):
    (folder / file).write_text("[1]")
    assert failure(folder) == f"'{folder / file}' is no JSON object; copy or download it again"


@pytest.mark.parametrize("place", ["../words", "words/../../words", "/words", ""])
def test_parts_that_lie_outside_are_refused(folder, place):
    """`convert` and `export` copy a part to the place of its name."""
    shutil.copytree(folder / "tokenizer", folder.parent / "words")
    edit(folder / "model_index.json", **{place: ["transformers", "CLIPTokenizer"]})
    assert f"names '{place}', which is no place in its folder" in failure(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"files": ["../secret.json"]}, "names '../secret.json', which is no place in its folder"),
        ({"files": ["notes.json"]}, "that is not whole: notes.json is missing"),
        ({"files": "notes.json"}, "is damaged: expected a list 'files', and an object as"),
        ({"original": 3}, "is damaged: expected a list 'files', and an object as"),
        ({"components": {"unet": 3}}, "is damaged: expected a list 'files', and an object as"),
        ({"components": {"../unet": {}}}, "names '../unet', which is no place"),
        ({"system": ["x"]}, "no system"),
    ],
)
def test_a_damaged_index_of_ours(tmp_path, change, told):
    folder = shutil.copytree(SHIPPED / "cartoon", tmp_path / "ours")
    edit(folder / "model_index.json", **change)
    assert told in failure(folder)


@pytest.mark.parametrize("setting", [{"ema": True}, {"prediction": "epsilon"}, {"tokenizer": "x"}])
def test_settings_of_single_files_are_refused_for_folders(folder, setting):
    assert f"is a folder, and {next(iter(setting))} is for single files; leave it out" in failure(folder, **setting)


def test_variants_are_for_diffusers_folders(tmp_path):
    assert "a storyjax folder, which has no variants" in failure(SHIPPED / "cartoon", variant="fp16")
    (tmp_path / "x.ckpt").write_text("")
    assert "a single file, which has no variants" in failure(tmp_path / "x.ckpt", variant="fp16")


# ---- systems ----


def test_a_system_is_known_once():
    with pytest.raises(StoryjaxError, match="no system 'stabel_diffusion'; did you mean 'stable_diffusion'"):
        system("stabel_diffusion")
    taken = System("other", ("StableDiffusionPipeline",), {}, lambda _: {})
    with pytest.raises(StoryjaxError, match=r"system 'other' \(StableDiffusionPipeline\) is known already, as 'stable"):
        register_system(taken)
