"""The original library's side, a process of its own: random weights, saved by that library, and what it computes with them.

    python -m benchmarks.parity.torch_side NAME FOLDER [--full]

Leaves in FOLDER the checkpoint as the library saves it (sharded at 2 GB), `expected.npz` and `torch.json`.
"""

import argparse
import json
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub
import numpy as np
import torch
import transformers
from accelerate import init_empty_weights

from benchmarks.parity.cases import BY_NAME, Case
from tests.parity.contextual_story_torch import Sizes, StoryUNet
from tests.parity.random_weights_torch import randomise

SHARD = "2GB"
Tensors = Mapping[str, torch.Tensor]


def make(case: Case, full: bool) -> torch.nn.Module:
    """The network without values: its parameters have shapes only."""
    config = case.config(full)
    with init_empty_weights(include_buffers=False):
        if case.kind == "contextual_story":
            return StoryUNet(story_sizes(config)).eval()
        if case.kind in ("unet", "vae"):
            return getattr(diffusers, case.original).from_config(config).eval()
        config_class = transformers.CLIPTextConfig if case.kind == "clip_text" else transformers.CLIPVisionConfig
        return getattr(transformers, case.original)(config_class(**config)).eval()


def story_sizes(config: Mapping[str, Any]) -> Sizes:
    """The sizes that a case's config tells the PyTorch implementation."""
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    del given["sample_size"]
    return Sizes(**given)


def save(case: Case, model: torch.nn.Module, folder: Path, full: bool) -> None:
    if case.kind != "contextual_story":
        model.save_pretrained(folder, max_shard_size=SHARD)
        return
    pattern = "diffusion_pytorch_model{suffix}.safetensors"
    huggingface_hub.save_torch_state_dict(model.state_dict(), folder, filename_pattern=pattern, max_shard_size=SHARD)
    config = story_sizes(case.config(full)).published_config(case.config(full)["sample_size"])
    (folder / "config.json").write_text(json.dumps(config, indent=2))


@torch.no_grad()
def run(case: Case, model: Any, given: Tensors) -> dict[str, torch.Tensor]:
    """Everything that somebody takes from such a network."""
    if case.kind == "unet":
        added = {"text_embeds": given["pooled_text"], "time_ids": given["time_ids"]} if "time_ids" in given else None
        out = model(given["sample"], given["timestep"], given["context"], added_cond_kwargs=added)
        return {"sample": out.sample}
    if case.kind == "vae":
        posterior = model.encode(given["image"]).latent_dist
        return {"mean": posterior.mean, "deviation": posterior.std, "decoded": model.decode(given["latents"]).sample}
    if case.kind == "clip_text":
        out = model(given["tokens"].long(), output_hidden_states=True)
        pooled = out.text_embeds if "text_embeds" in out else out.pooler_output
        return {"last": out.last_hidden_state, "penultimate": out.hidden_states[-2], "pooled": pooled}
    if case.kind == "clip_vision":
        out = model(given["image"], output_hidden_states=True)
        return {"penultimate": out.hidden_states[-2], "embedding": out.image_embeds}
    return _run_story(model, given)


def _run_story(model: Any, given: Tensors) -> dict[str, torch.Tensor]:
    """One story as in training, and one as in sampling: two copies, with and without text."""
    latents, timestep, first = given["latents"], given["timestep"], given.get("first_frame")
    null, keep = given["null_text"], torch.tensor([False])
    trained = model.training_form(latents, timestep, given["text"], null, keep, given["motion"].long(), first)
    twice = None if first is None else torch.cat([first, first])
    doubled = torch.cat([latents, latents])
    guided = model.guided_form(doubled, timestep, null, given["text"], given["motion"], first_frame=twice)
    return {"training": trained, "guided": guided}


def main(case: Case, folder: Path, full: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = make(case, full)
    randomise(model)
    save(case, model, folder, full)
    given = {name: torch.from_numpy(value) for name, value in case.inputs(full).items()}
    expected: dict[str, Any] = {}
    start = time.perf_counter()
    for name, value in run(case, model, given).items():
        expected[f"float32.{name}"] = value.numpy()
    seconds = time.perf_counter() - start
    # Weights rounded, arithmetic as before: what a computation in bfloat16 with these weights should come near.
    for parameter in model.parameters():
        parameter.data.copy_(parameter.data.to(torch.bfloat16))
    for name, value in run(case, model, given).items():
        expected[f"bfloat16.{name}"] = value.numpy()
    np.savez(folder / "expected.npz", **expected)
    libraries = (torch, diffusers, transformers)
    told = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "run_seconds": seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {library.__name__: library.__version__ for library in libraries},
    }
    (folder / "torch.json").write_text(json.dumps(told))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=BY_NAME)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args()
    main(BY_NAME[given.name], given.folder, given.full)
