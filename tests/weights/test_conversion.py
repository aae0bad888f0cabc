"""`convert` and `export`: there and back byte for byte, and nothing half-written whatever goes wrong."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from storyjax.checkpoints.folder import model_index
from storyjax.errors import StoryjaxError
from storyjax.weights.conversion import convert
from storyjax.weights.export import export
from storyjax.weights.layouts import recognise
from storyjax.weights.readers import open_tensors
from tests.disk import no_file_grows_past
from tests.weights.folders import MODELS, all_bytes, diffusers_folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Each model once; tests that change one work on a copy."""
    place = tmp_path_factory.mktemp("sources")
    dtypes = {"sd2": "float16", "sdxl": "bfloat16"}
    return {model: diffusers_folder(place / model, model, dtypes.get(model, "float32")) for model in MODELS}


@pytest.fixture(scope="module")
def converted(sources, tmp_path_factory):
    place = tmp_path_factory.mktemp("converted")
    for model in ("sd1", "contextual_story"):
        convert(sources[model], place / model, progress=False)
    return place


@pytest.fixture
def ours(converted, tmp_path):
    """Stable Diffusion 1, converted, to be spoiled."""
    return shutil.copytree(converted / "sd1", tmp_path / "ours")


@pytest.fixture
def source(sources, tmp_path):
    """Stable Diffusion 1, to be spoiled."""
    return shutil.copytree(sources["sd1"], tmp_path / "source")


def failure(function, *args, **settings):
    with pytest.raises(StoryjaxError) as error:
        function(*args, progress=False, **settings)
    return str(error.value)


def one_line(text):
    assert "\n" not in text
    return text


# ---- there and back ----


@pytest.mark.parametrize("model", MODELS)
def test_round_trip_is_equal_byte_for_byte(sources, tmp_path, model):
    source = sources[model]
    done = convert(source, tmp_path / "ours", progress=False)
    back = export(tmp_path / "ours", tmp_path / "back", progress=False)
    assert back.pipeline == MODELS[model][0]
    found, expected = all_bytes(tmp_path / "back"), all_bytes(source)
    assert found.keys() == expected.keys()
    assert found == expected
    for file in source.glob("*/*.json"):
        if "safety_checker" not in str(file):
            assert json.loads((tmp_path / "back" / file.relative_to(source)).read_text()) == json.loads(
                file.read_text()
            )
    assert sum(report.complete for report in done.reports.values()) == len(MODELS[model][2])


def test_dead_tensors_are_kept_aside_with_their_own_values(converted, sources):
    kept = load_file(converted / "contextual_story" / "unet" / "original_extra.safetensors")
    original = load_file(sources["contextual_story"] / "unet" / "diffusion_pytorch_model.safetensors")
    assert {name.rpartition(".conv3ds.0.")[2] for name in kept} > {"time_emb_proj.weight", "time_emb_proj.bias"}
    for name, value in kept.items():
        np.testing.assert_array_equal(value, original[name])
        assert value.any()


def test_the_folder_is_one_of_ours(sources, tmp_path):
    convert(sources["sdxl"], tmp_path / "ours", progress=False)
    index = model_index(tmp_path / "ours")
    assert index["system"] == "stable_diffusion"
    assert index["components"]["text_encoder_2"]["component"] == "clip_text"
    assert index["components"]["unet"]["dtype"] == "bfloat16"
    assert {"tokenizer", "tokenizer_2", "scheduler"} <= {path.name for path in (tmp_path / "ours").iterdir()}
    original, ours = recognise(sources["sdxl"]), recognise(tmp_path / "ours")
    assert ours.schedule == original.schedule
    assert ours.settings == original.settings
    for name, part in original.parts.items():
        assert ours.parts[name].config == part.config
    kept, found = original.parts["text_encoder_2"].load()[0], ours.parts["text_encoder_2"].load()[0]
    jax.tree.map(np.testing.assert_array_equal, found, kept)


def test_what_is_not_read_is_told_and_its_index_entry_goes(sources, tmp_path):
    done = convert(sources["sd1"], tmp_path / "ours", progress=False)
    text = done.text()
    assert "not read, as no pipeline here uses it: safety_checker (StableDiffusionSafetyChecker)" in text
    assert re.search(r"unet +0\.\d M parameters +\d+ tensors placed", text)
    assert "kept aside: 1 that no output depends on" in text
    export(tmp_path / "ours", tmp_path / "back", progress=False)
    index = json.loads((tmp_path / "back" / "model_index.json").read_text())
    assert index["safety_checker"] == [None, None]
    assert index["requires_safety_checker"] is False
    assert index["feature_extractor"] == ["transformers", "CLIPImageProcessor"]
    assert (tmp_path / "back" / "feature_extractor" / "preprocessor_config.json").is_file()


def test_other_spellings_are_read_and_given_back(source, tmp_path):
    """The codec's attention has older names, and its matrices once were 1x1 convolutions."""
    file = source / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, value in load_file(file).items():
        new = name
        for now, before in old.items():
            new = new.replace(f"attentions.0.{now}.", f"attentions.0.{before}.")
        tensors[new] = value[:, :, None, None] if new != name and value.ndim == 2 else value
    assert len(set(tensors) - set(load_file(file))) == 16
    save_file(tensors, file)
    convert(source, tmp_path / "ours", progress=False)
    export(tmp_path / "ours", tmp_path / "back", progress=False)
    assert all_bytes(tmp_path / "back") == all_bytes(source)


def test_a_model_that_was_never_converted_is_exported_by_the_tables(converted, sources, tmp_path):
    """As training writes it: without original names, configs and index."""
    shutil.copytree(converted / "contextual_story", tmp_path / "ours")
    for file in (tmp_path / "ours").rglob("original_*"):
        file.unlink()
    index = json.loads((tmp_path / "ours" / "model_index.json").read_text())
    for said in index["components"].values():
        del said["component"]
    (tmp_path / "ours" / "model_index.json").write_text(
        json.dumps({k: v for k, v in index.items() if k not in ("original", "files")})
    )
    export(tmp_path / "ours", tmp_path / "back", progress=False)
    found, expected = all_bytes(tmp_path / "back"), all_bytes(sources["contextual_story"])
    expected = {name: value for name, value in expected.items() if "position_ids" not in name}
    assert found.keys() == expected.keys()
    assert {name: (dtype, shape) for name, (dtype, shape, _) in found.items()} == {
        name: (dtype, shape) for name, (dtype, shape, _) in expected.items()
    }
    differ = {name for name in found if found[name] != expected[name]}
    assert differ
    assert not any(any(found[name][2]) for name in differ)  # zeros for the dead, all else as it was
    again = recognise(tmp_path / "back")
    assert again.system.name == "contextual_story"
    assert again.parts["unet"].config == recognise(sources["contextual_story"]).parts["unet"].config


def test_other_dtype_on_request(sources, tmp_path):
    convert(sources["sd1"], tmp_path / "ours", dtype="float16", progress=False)
    assert {said["dtype"] for said in model_index(tmp_path / "ours")["components"].values()} == {"float16"}
    export(tmp_path / "ours", tmp_path / "back", dtype="float32", progress=False)
    originals = all_bytes(sources["sd1"])
    for name, (dtype, shape, content) in all_bytes(tmp_path / "back").items():
        own, own_shape, original = originals[name]
        assert (dtype, shape) == (own, own_shape)
        if dtype == "float32":
            half = np.frombuffer(original, np.float32).astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(np.frombuffer(content, np.float32), half)


def test_room_and_size_are_those_of_what_is_written(sources, tmp_path, monkeypatch):
    """Not those of what is read: half precision doubles."""
    half = convert(sources["sd1"], tmp_path / "half", dtype="float16", progress=False)
    asked = []
    monkeypatch.setattr("storyjax.weights.export.check_room", lambda _, nbytes: asked.append(nbytes))
    done = export(tmp_path / "half", tmp_path / "back", dtype="float32", progress=False)
    tensors = [open_tensors(file) for file in (tmp_path / "back").glob("*/*.safetensors")]
    assert asked == [done.nbytes] == [sum(each.nbytes for each in tensors)]
    assert done.nbytes > 1.9 * half.nbytes


def test_tensors_of_a_variant(source, tmp_path):
    for file in source.glob("*/*.safetensors"):
        tensors = load_file(file)
        half = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in tensors.items()}
        save_file(half, file.with_suffix(".fp16.safetensors"))
    convert(source, tmp_path / "ours", variant="fp16", progress=False)
    assert model_index(tmp_path / "ours")["components"]["unet"]["dtype"] == "float16"
    assert "one of variant 'bf16'" in failure(convert, source, tmp_path / "other", variant="bf16")


# ---- mistakes: one line or a listing, and the destination as it was ----


def spoil(file, change):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def assert_nothing_but(folder, *names):
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_broken_numbers_are_named_by_their_tensor(source, tmp_path, number):
    def change(tensors):
        tensors["mid_block.resnets.0.conv1.weight"][1, 2] = number

    spoil(source / "unet" / "diffusion_pytorch_model.safetensors", change)
    text = one_line(failure(convert, source, tmp_path / "ours"))
    assert re.search(r"source/unet': tensor 'mid_block\.resnets\.0\.conv1\.weight' holds 9 (NaN|infinite)", text)
    assert_nothing_but(tmp_path, "source")


def test_number_beyond_the_dtype_is_named(source, tmp_path):
    def change(tensors):
        tensors["conv_in.bias"][0] = 1e6

    spoil(source / "unet" / "diffusion_pytorch_model.safetensors", change)
    text = one_line(failure(convert, source, tmp_path / "ours", dtype="float16"))
    assert text == "tensor 'conv_in.bias' holds 1000000.0, beyond float16; choose another dtype"
    assert_nothing_but(tmp_path, "source")


def test_everything_that_does_not_fit_is_listed_at_once(source, tmp_path):
    def unet(tensors):
        tensors["lora.up.weight"] = np.zeros((2, 2), np.float32)
        del tensors["conv_out.bias"]

    def vae(tensors):
        tensors["decoder.conv_in.bias"] = np.zeros(3, np.float32)

    spoil(source / "unet" / "diffusion_pytorch_model.safetensors", unet)
    spoil(source / "vae" / "diffusion_pytorch_model.safetensors", vae)
    text = failure(convert, source, tmp_path / "ours")
    assert "lora.up.weight" in text
    assert "conv_out.bias (conv_out.bias)" in text
    assert "decoder.conv_in.bias: expected (16,), got (3,)" in text
    assert_nothing_but(tmp_path, "source")


def test_tensors_allowed_to_be_left_over_come_back(source, tmp_path):
    def change(tensors):
        tensors["lora.up.weight"] = np.full((2, 2), np.nan, np.float32)

    spoil(source / "unet" / "diffusion_pytorch_model.safetensors", change)
    done = convert(source, tmp_path / "ours", allow_unused=[r"lora\..*"], progress=False)
    assert "1 unused as allowed" in done.text()
    export(tmp_path / "ours", tmp_path / "back", progress=False)
    assert all_bytes(tmp_path / "back") == all_bytes(source)


def test_cut_off_file(source, tmp_path):
    file = source / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    assert "is no whole .safetensors file" in one_line(failure(convert, source, tmp_path / "ours"))
    assert_nothing_but(tmp_path, "source")


def test_wrong_magic(source, tmp_path):
    (source / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    (source / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"<html><body>404</body></html>" * 20)
    text = one_line(failure(convert, source, tmp_path / "ours"))
    assert "neither a .safetensors file nor one of torch.save" in text
    assert_nothing_but(tmp_path, "source")


def test_pickle_that_calls_a_function(source, tmp_path):
    import pickle
    import zipfile

    class Evil:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'harm')!r}, 'w')",))

    (source / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with zipfile.ZipFile(source / "vae" / "diffusion_pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": Evil()}, protocol=2))
        archive.writestr("archive/version", "3\n")
    text = one_line(failure(convert, source, tmp_path / "ours"))
    assert "exec" in text
    assert_nothing_but(tmp_path, "source")


def test_name_twice(source, tmp_path):
    file = source / "vae" / "diffusion_pytorch_model.safetensors"
    header = (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    )
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert "'a' stands twice" in one_line(failure(convert, source, tmp_path / "ours"))
    assert_nothing_but(tmp_path, "source")


def test_full_disk_while_writing(source, tmp_path):
    with no_file_grows_past(5000):
        text = one_line(failure(convert, source, tmp_path / "ours"))
    assert re.search(r"could not write the model folder '.*ours': File too large; nothing was changed there", text)
    assert_nothing_but(tmp_path, "source")


def test_full_disk_before_writing(source, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    assert "no space for" in one_line(failure(convert, source, tmp_path / "ours"))
    assert_nothing_but(tmp_path, "source")


@pytest.mark.parametrize("verb", [convert, export])
def test_destination_in_use(source, tmp_path, verb):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "us.jpg").write_text("x")
    assert "exists; choose another folder" in one_line(failure(verb, source, tmp_path / "photos"))
    text = one_line(failure(verb, source, tmp_path / "photos", overwrite=True))
    assert "is no model folder" in text
    assert (tmp_path / "photos" / "us.jpg").read_text() == "x"


@pytest.mark.parametrize("verb", [convert, export])
def test_a_source_is_never_replaced_by_its_result(source, verb):
    before = all_bytes(source)
    text = one_line(failure(verb, source, source.parent / "x" / ".." / "source", overwrite=True))
    assert "is the source itself, which would be lost" in text
    assert all_bytes(source) == before


def test_a_folder_is_not_replaced_by_what_is_made_of_a_file_in_it(source):
    """Repositories hold whole models as single files beside the parts."""
    file = source / "v1-5-pruned.ckpt"
    file.write_bytes(b"whole model")
    text = one_line(failure(convert, file, source, overwrite=True))
    assert text == f"'{source}' holds the source '{file}', which would be lost; choose another folder"
    assert file.read_bytes() == b"whole model"


def test_overwriting_replaces_and_a_failure_leaves_the_old(source, sources, tmp_path):
    convert(sources["sd2"], tmp_path / "ours", progress=False)
    before = all_bytes(tmp_path / "ours")
    with no_file_grows_past(5000):
        failure(convert, source, tmp_path / "ours", overwrite=True)
    assert all_bytes(tmp_path / "ours") == before
    assert_nothing_but(tmp_path, "ours", "source")
    convert(source, tmp_path / "ours", overwrite=True, progress=False)
    assert all_bytes(tmp_path / "ours") != before


def test_each_verb_names_the_other_where_it_is_meant(converted, sources, tmp_path):
    text = one_line(failure(convert, converted / "sd1", tmp_path / "again"))
    assert "is a storyjax folder already; `storyjax export` turns it" in text
    text = one_line(failure(export, sources["sd1"], tmp_path / "back"))
    assert "is no storyjax folder but has the layout 'diffusers'" in text


def test_weights_that_changed_since_are_not_exported_under_old_names(ours, tmp_path):
    names = ours / "vae" / "original_tensors.json"
    names.write_text(json.dumps([said for said in json.loads(names.read_text()) if said["name"] != "quant_conv.bias"]))
    text = one_line(failure(export, ours, tmp_path / "back"))
    assert "disagree about 1 tensors, the first is 'quant_conv.bias'" in text
    assert_nothing_but(tmp_path, "ours")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda names: [3], "original_tensors.json' is damaged; convert the original again"),
        (lambda names: {"a": 1}, r"is not as it was converted: .* disagree about \d+ tensors"),
        (lambda names: [said | {"shape": None} for said in names], "is damaged; convert the original again"),
        (lambda names: [*names, {"name": "x", "shape": [1]}], "no weights at '.*original_extra.safetensors'"),
        (
            lambda names: [said | {"shape": [1, *said["shape"]]} for said in names],
            r"no rule leads from 'conv_in\.bias' \(1, \d+\) to 'conv_in\.bias' \(\d+,\); convert the original again",
        ),
    ],
)
def test_damaged_names_of_the_original(ours, tmp_path, change, told):
    names = ours / "unet" / "original_tensors.json"
    names.write_text(json.dumps(change(json.loads(names.read_text()))))
    assert re.search(told, one_line(failure(export, ours, tmp_path / "back")))
    assert_nothing_but(tmp_path, "ours")


def test_model_that_the_original_library_has_no_words_for(tmp_path):
    from storyjax.api import SHIPPED

    text = one_line(failure(export, SHIPPED / "cartoon", tmp_path / "back"))
    assert "keep it as it is" in text
    assert not list(tmp_path.iterdir())
