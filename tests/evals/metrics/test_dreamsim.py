"""DreamSim at toy size: files as its releases hold them, against PyTorch with the adapter beside the weights."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from storyjax.errors import StoryjaxError
from storyjax.evals.metrics import dreamsim
from storyjax.evals.metrics.dreamsim import VARIANTS, DreamSim, load_dreamsim
from tests.evals.toy_clip import same, stories
from tests.goldens.make_inputs import named_weights
from tests.models.vit_torch import SMALL, class_and_embedding, shapes

SIZES = SMALL | {"projection": 5}
PEFT = {"r": 2, "lora_alpha": 0.5, "lora_dropout": 0.3, "bias": "none", "target_modules": ["qkv"], "peft_type": "LORA"}


def toy(branch):
    sizes = SIZES if branch.config.projection else SMALL
    return dataclasses.replace(branch, config=dataclasses.replace(branch.config, **sizes))


@pytest.fixture
def release(tmp_path, monkeypatch):
    """The folder of a toy ensemble, and (branch, weights, adapter) of each of its branches."""
    branches = tuple(toy(branch) for branch in VARIANTS["ensemble"][0])
    monkeypatch.setitem(dreamsim.VARIANTS, "ensemble", (branches, "ensemble_lora"))
    parts, together = [], {}
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "ensemble_lora").mkdir()
    for n, branch in enumerate(branches):
        state = {k: v + 0.1 * n for k, v in named_weights(shapes(branch.config)).items()}
        low = named_weights(
            {
                f"blocks.{i}.attn.qkv.lora_{name}.weight": size
                for i in (0, 1)
                for name, size in {"A": (2, 12), "B": (36, 2)}.items()
            }
        )
        save_file(state, tmp_path / ("checkpoints" if n == 0 else "") / branch.file)
        together |= {f"base_model.model.extractor_list.{n}.model.{k}": v for k, v in low.items()}
        parts.append((branch, state, low))
    save_file(together, tmp_path / "ensemble_lora" / "adapter_model.safetensors")
    (tmp_path / "ensemble_lora" / "adapter_config.json").write_text(json.dumps(PEFT))
    return tmp_path, parts


def pictures(count=3):
    return [np.random.default_rng(n).integers(0, 256, (11, 13, 3), dtype=np.uint8) for n in range(count)]


def test_the_ensemble_is_pytorch_with_the_adapter_beside_the_weights(release):
    pytest.importorskip("torch")
    folder, parts = release
    small = [np.asarray(Image.fromarray(p).resize((8, 8), Image.Resampling.BICUBIC)) for p in pictures()]
    expected = []
    for branch, state, low in parts:
        x = (np.stack(small).astype(np.float32) / 255 - np.float32(branch.mean)) / np.float32(branch.deviation)
        found = class_and_embedding(branch.config, state, x, low, 0.25)
        plain = class_and_embedding(branch.config, state, x)
        assert np.abs(found[0] - plain[0]).max() > 1e-3  # the adapter does something
        expected.append(found[branch.feature == "embedding"])
    network = load_dreamsim("ensemble", folder, batch=2)
    vectors, expected = network(pictures()), np.concatenate(expected, axis=1)
    assert vectors.shape == (3, 12 + 5 + 5)
    assert np.linalg.norm(vectors - expected) / np.linalg.norm(expected) < 1e-4
    centred = expected.astype(np.float64) - expected.mean(axis=1, keepdims=True, dtype=np.float64)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    assert dreamsim.distance(vectors[:1], vectors[1:2]) == pytest.approx(1 - unit[0] @ unit[1], rel=1e-3)


def test_the_metric_compares_with_the_real_frames_any_number_at_a_time(release):
    metric = DreamSim.open(folder=release[0], batch=4)
    whole = metric.measure(stories(3))
    assert same(whole, [metric.measure([story])[0] for story in stories(3)])
    assert all((each["values"] > 1e-4).all() and (each["values"] < 2).all() for each in whole)
    story = stories(1)[0]
    perfect = metric.measure([dataclasses.replace(story, generated=story.real)])[0]["values"]
    np.testing.assert_allclose(perfect, 0, atol=1e-12)
    assert same(metric.measure(stories(1, given=2)), [{"values": whole[0]["values"][2:]}])
    assert np.isnan(metric.score(metric.measure(stories(1, given=3))))
    assert sorted(metric.about["sha256"]) == [
        "clip_vitb16_pretrain.pth.tar",
        "dino_vitbase16_pretrain.pth",
        "ensemble_lora/adapter_model.safetensors",
        "open_clip_vitb16_pretrain.pth.tar",
    ]


def test_files_as_pytorch_saves_them_are_read_too(release):
    torch = pytest.importorskip("torch")
    folder, parts = release
    before = load_dreamsim("ensemble", folder, batch=3)(pictures())
    branch, state, _ = parts[1]
    tensors = {key: torch.from_numpy(value) for key, value in state.items()}
    torch.save({"state_dict": tensors, "kwargs": {"patch_size": 4}}, folder / branch.file)
    np.testing.assert_array_equal(load_dreamsim("ensemble", folder, batch=3)(pictures()), before)


def test_what_is_missing_is_said_with_its_address(release):
    folder = release[0]
    (folder / "clip_vitb16_pretrain.pth.tar").unlink()
    (folder / "checkpoints" / "dino_vitbase16_pretrain.pth").unlink()
    message = r"lacks dino_vitbase16_pretrain\.pth, clip_vitb16_pretrain\.pth\.tar; unpack https://github.*dreamsim_ensemble_checkpoint"
    with pytest.raises(StoryjaxError, match=message + r".*and put https://dl\.fbaipublicfiles\.com/dino"):
        load_dreamsim("ensemble", folder)
    with pytest.raises(StoryjaxError, match="no DreamSim 'ensembl' here; did you mean 'ensemble'"):
        load_dreamsim("ensembl", folder)


def test_an_adapter_for_other_networks_is_refused(release):
    folder = release[0]
    stray = {"base_model.model.extractor_list.3.model.blocks.0.attn.qkv.lora_A.weight": np.zeros((2, 12), np.float32)}
    save_file(stray, folder / "ensemble_lora" / "adapter_model.safetensors")
    with pytest.raises(StoryjaxError, match="which is of none of its 3 branches"):
        load_dreamsim("ensemble", folder)
