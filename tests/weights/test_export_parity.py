"""diffusers' own folders there and back: saved by diffusers, converted, exported, loaded by diffusers again; every tensor equal."""

import json

import pytest

from storyjax.weights.conversion import convert
from storyjax.weights.export import export
from tests.weights.base_models import original
from tests.weights.folders import MODELS, SCHEDULER, tokenizer

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

# How the source is saved: in shards, as pickles, as a variant in half precision.
SAVED = {
    "sd1": {"max_shard_size": "60KB"},
    "sd2": {"safe_serialization": False},
    "sdxl": {"variant": "fp16"},
}


def original_pipeline(model, place):
    torch.manual_seed(0)
    name, _, networks = MODELS[model]
    parts = {part: original(config) for part, config in networks.items()}
    for part in [part for part in parts if part.startswith("text_encoder")]:
        words = part.replace("text_encoder", "tokenizer")
        tokenizer(place / words)
        parts[words] = transformers.CLIPTokenizer.from_pretrained(str(place / words))
    if model != "sdxl":
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    scheduler = diffusers.DDIMScheduler.from_config({k: v for k, v in SCHEDULER.items() if k != "_diffusers_version"})
    return getattr(diffusers, name)(**parts, scheduler=scheduler)


@pytest.mark.parametrize("model", SAVED)
def test_diffusers_loads_what_export_wrote(tmp_path, model):
    source = original_pipeline(model, tmp_path)
    variant = SAVED[model].get("variant")
    if variant:
        source.to(dtype=torch.float16)
    source.save_pretrained(tmp_path / "source", **SAVED[model])
    convert(tmp_path / "source", tmp_path / "ours", variant=variant, progress=False)
    export(tmp_path / "ours", tmp_path / "back", progress=False)
    dtype = torch.float16 if variant else torch.float32
    back = getattr(diffusers, MODELS[model][0]).from_pretrained(str(tmp_path / "back"), torch_dtype=dtype)
    assert type(back) is type(source)
    for name in MODELS[model][2]:
        found, expected = getattr(back, name).state_dict(), getattr(source, name).state_dict()
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key].dtype == value.dtype
            assert torch.equal(found[key], value), f"{name}: {key}"
    assert back.scheduler.config["beta_schedule"] == "scaled_linear"
    index = json.loads((tmp_path / "back" / "model_index.json").read_text())
    assert index == json.loads((tmp_path / "source" / "model_index.json").read_text())
