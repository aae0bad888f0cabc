"""What a file or folder that cannot be read looks like: a person who gave the wrong one is told which it is."""

import json
from pathlib import Path
from typing import Any

from storyjax.weights.component import class_names

# (file name or pattern, what it tells); the first that is found counts.
_SIGNS = (
    ("adapter_config.json", "a LoRA or another adapter of peft; merge it into its base model and give that"),
    ("pytorch_lora_weights.*", "a LoRA of diffusers; merge it into its base model and give that"),
    ("learned_embeds.*", "a textual inversion (a learned word), not a model"),
    ("flax_model.msgpack", "a Flax checkpoint of transformers; give its PyTorch or safetensors files"),
    ("diffusion_flax_model.msgpack", "a Flax checkpoint of diffusers; give its PyTorch or safetensors files"),
    ("*.onnx", "an ONNX export; give the PyTorch or safetensors checkpoint that it was made from"),
    ("openvino_model.xml", "an OpenVINO export; give the PyTorch or safetensors checkpoint that it was made from"),
    ("*.gguf", "a GGUF (quantised) model; give the checkpoint that it was made from"),
    ("saved_model.pb", "a TensorFlow SavedModel; give a PyTorch or safetensors checkpoint"),
    ("*.mlpackage", "a Core ML export; give the PyTorch or safetensors checkpoint that it was made from"),
    (
        "_CHECKPOINT_METADATA",
        "an orbax checkpoint of a training run; give the folder 'model' that the run writes at its end",
    ),
    (".lock", "the work directory of a training run; give its folder 'model', written when the run ends"),
    ("ip-adapter*", "an IP-Adapter, not a whole model"),
    ("t2i_adapter*", "a T2I-Adapter, not a whole model"),
    ("vocab.json", "a tokenizer alone; give the folder of the whole model"),
    ("scheduler_config.json", "a scheduler alone; give the folder of the whole model"),
)


def looks_like(folder: Path) -> str:
    """One clause about a folder without a model_index.json: what it seems to be and what to give instead."""
    if not any(folder.iterdir()):
        return "an empty folder"
    told = _by_config(folder / "config.json")
    if told:
        return told
    for pattern, meaning in _SIGNS:
        if any(folder.glob(pattern)):
            return meaning
    inner = sorted(path.parent.name for path in folder.glob("*/model_index.json"))
    if inner:
        return f"a folder of several models; give one of them, such as '{folder / inner[0]}'"
    parts = sorted(path.parent.name for path in folder.glob("*/config.json"))
    if parts:
        return f"a diffusers folder without its model_index.json (it has {', '.join(parts)}); copy or download it again"
    files = sorted(file for file in folder.iterdir() if file.suffix in (".safetensors", ".ckpt", ".pt", ".pth", ".bin"))
    if files:
        return f"a folder of single checkpoint files; give the file itself, such as '{files[0]}'"
    names = sorted(path.name for path in folder.iterdir())
    return f"no checkpoint: it holds {', '.join(names[:5])}{' and more' if len(names) > 5 else ''}"


def _by_config(file: Path) -> str | None:
    """What a config.json at the top of a folder tells: one network alone."""
    config = _read(file)
    if not isinstance(config, dict):
        return None
    names = class_names(config)
    if not names:
        return None
    if "_class_name" not in config:
        return f"a transformers model of class {names[0]}, not a whole picture model"
    if names[0].startswith(("ControlNet", "T2IAdapter")):
        return f"a {names[0]}, which steers a model and is none itself"
    return f"one part ({names[0]}) of a diffusers folder; give the folder around it, which has a model_index.json"


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
