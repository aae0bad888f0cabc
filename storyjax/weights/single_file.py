"""A single file in the original latent-diffusion layout as a checkpoint: its networks, and the tokenizer that it lacks."""

import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

from storyjax.checkpoints.folder import write_json
from storyjax.diffusion.diffusers_format import from_diffusers
from storyjax.errors import StoryjaxError
from storyjax.weights.checkpoint import TOKENIZER_FILES, Checkpoint, Part, told_of
from storyjax.weights.component import component_of
from storyjax.weights.hub import locate
from storyjax.weights.latent_diffusion import read_single_file
from storyjax.weights.system import system_of

CLIP_TOKENIZER = {
    "tokenizer_class": "CLIPTokenizer",
    "model_max_length": 77,
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "do_lower_case": True,
    "errors": "replace",
    "add_prefix_space": False,
}


def single_file(path: Path, ema: bool, prediction: str | None, tokenizer: str | Path | None) -> Checkpoint:
    """The checkpoint in a file; the arguments are those of `storyjax.weights.layouts.recognise`."""
    found = read_single_file(path, ema=ema, prediction=prediction)
    if found.guessed:
        warnings.warn(found.guessed, stacklevel=4)
    known = system_of(found.index["_class_name"])
    if known is None:  # the tables of that layout know Stable Diffusion only
        raise StoryjaxError(f"'{path}' looks like a {found.index['_class_name']}, which no system here reads")
    parts = {}
    for name, network in found.networks.items():
        with told_of(path):
            kind = component_of(network.config)
            config = kind.read_config(network.config)
        parts[name] = Part(kind, config, network.config, network.tensors, f"{path}: {name}")
    scratch = tempfile.TemporaryDirectory(prefix="storyjax_")
    return Checkpoint(
        path,
        "latent-diffusion",
        known,
        parts,
        _tokenizers(path, found.tokenizers, tokenizer, Path(scratch.name)),
        from_diffusers(found.scheduler),
        found.scheduler,
        found.index,
        left_out=(f"{len(found.left_out)} tensors of no network",) if found.left_out else (),
        scratch=scratch,
    )


def _tokenizers(
    path: Path, wanted: Mapping[str, Mapping[str, str]], given: str | Path | None, scratch: Path
) -> dict[str, Path]:
    """A tokenizer's folder for each name, made in `scratch`: CLIP's words, and the padding that this model was trained with."""
    folders = {}
    for name, said in wanted.items():
        origin = _clip_words(path, said["name"]) if given is None else Path(given)
        missing = [file for file in TOKENIZER_FILES if not (origin / file).is_file()]
        if missing:
            raise StoryjaxError(
                f"no tokenizer in '{origin}': {' and '.join(missing)} missing; expected a CLIP tokenizer folder"
            )
        folders[name] = scratch / name
        folders[name].mkdir()
        for file in TOKENIZER_FILES:
            shutil.copyfile(origin / file, folders[name] / file)
        write_json(folders[name] / "tokenizer_config.json", CLIP_TOKENIZER | {"pad_token": said["pad_token"]})
    return folders


def _clip_words(path: Path, name: str) -> Path:
    """The folder of a tokenizer on the hub; it is downloaded once."""
    try:
        return locate(name, patterns=list(TOKENIZER_FILES))
    except StoryjaxError as error:
        raise StoryjaxError(
            f"'{path}' is a single file, which holds no tokenizer, and {error}; or give a folder with CLIP's tokenizer "
            "(vocab.json, merges.txt) as tokenizer"
        ) from None
