"""Networks that metrics see with, as transformers' model folders: found here or on the hub, read strictly, named by hash."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storyjax.errors import StoryjaxError
from storyjax.evals.networks.published import sha256_of
from storyjax.nn.build import Params
from storyjax.weights.checkpoint import read_object, told_of
from storyjax.weights.component import component_of
from storyjax.weights.hub import locate
from storyjax.weights.load import load_params
from storyjax.weights.readers import open_tensors

CONFIG = "config.json"
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A network that somebody trained. about: where it came from, its weight files and their SHA-256, as JSON values."""

    config: Any
    params: Params
    folder: Path
    about: dict[str, Any]


def pretrained(model: str | Path, kind: str, *, published: str, what: str) -> Pretrained:
    """The network of kind `kind` (a component's name) in a folder, or of that name on the hub; parameters float32.

    published: the name under which its owner publishes the one that `what` (a metric, for messages) is defined by. Errors: not
    here and not to be had (saying where it is published and how it gets here), another kind of network, tensors that do not fit.
    """
    folder = found(model, published=published, what=what)
    with told_of(folder / CONFIG):
        known = component_of(read_object(folder / CONFIG))
        if known.name != kind:
            raise StoryjaxError(f"{what} expected a network of kind '{kind}', found '{known.name}'")
    files = tuple(open_tensors(folder).files)
    hashes = [sha256_of(file) for file in files]
    digest = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    config, params = _loaded(folder.resolve(), kind, digest)
    about = {"model": str(model), "weights": [file.name for file in files], "sha256": digest}
    return Pretrained(config, params, folder, about)


@functools.lru_cache(maxsize=4)
def _loaded(folder: Path, kind: str, digest: str) -> tuple[Any, Params]:
    """Several metrics look with one network: it is read once. digest: of its files, so that changed ones are read anew."""
    original = read_object(folder / CONFIG)
    with told_of(folder / CONFIG):
        known = component_of(original)
        config = known.read_config(original)
    return config, load_params(known, config, open_tensors(folder), dtype=np.float32, source=str(folder))[0]


def found(model: str | Path, *, published: str, what: str, patterns: Sequence[str] | None = None) -> Path:
    """The folder of a model, or of its files that match `patterns`. Errors as `pretrained`."""
    try:
        folder = locate(model, patterns=patterns)
    except StoryjaxError as error:
        raise StoryjaxError(f"{what} needs the weights of '{published}': {error}; {how_to_get(published)}") from None
    if not folder.is_dir():
        raise StoryjaxError(f"{what}: '{folder}' is a file; expected a model's folder with its {CONFIG}")
    return folder


def how_to_get(published: str) -> str:
    """What to do for a model of the hub on a machine that may have no network."""
    return (
        f"its owner publishes it at https://huggingface.co/{published}: where there is a network, "
        f"'hf download {published}' fetches it; for a machine without one copy that cache and set HF_HOME to it, or copy the "
        "model's folder and give its path"
    )


def tokenizer_folder(folder: Path, *, published: str, what: str) -> Path:
    """Where the texts of a model are made into tokens: its own folder where that has a tokenizer, else that of `published`."""
    if (folder / "tokenizer.json").is_file() or all((folder / name).is_file() for name in TOKENIZER[:2]):
        return folder
    return found(published, published=published, what=f"{what}'s tokenizer", patterns=TOKENIZER)
