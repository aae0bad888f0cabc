"""The model folder: what is shipped, published and loaded by name, laid out as diffusers' folders are.

    model_index.json             system, components, how their weights are stored
    <component>/config.json      the component's configuration
    <component>/model.safetensors   native dotted paths; stored as float16, bfloat16 or float32, loaded as float32
    tokenizer/                   vocab.json, merges.txt, tokenizer_config.json
    scheduler/..., *.json        whatever the system keeps beside

A folder appears whole or not at all: it is written beside its place and renamed.
"""

import hashlib
import json
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from storyjax.checkpoints.beside import INDEX, may_write, written_beside
from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.nn.build import Params, flatten, unflatten

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def save_folder(
    folder: str | Path,
    components: Mapping[str, tuple[Mapping[str, Any], Params]],
    extra_files: Mapping[str, Any] | None = None,
    *,
    index: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    tokenizer: str | Path | Mapping[str, str | Path] | None = None,
    kinds: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model folder.

    components: name -> (configuration as JSON values, parameters). extra_files: relative path -> JSON value. index: what
    model_index.json says beside its list of components (the system's name). tokenizer: a folder to copy, or several by the
    name they are to have. kinds: which kind of network a component is, where its name does not tell. overwrite: replace the
    model folder that stands there, with everything in it.

    Errors: the folder exists, a number that `dtype` cannot hold, a tokenizer folder that is not there, a full disk or
    any other failed write; whatever stood at `folder` before is then untouched and no half folder is left.
    """
    folder = Path(folder)
    if dtype not in DTYPES:
        raise StoryjaxError(f"weights cannot be stored as '{dtype}'{nearest(dtype, list(DTYPES))}")
    tokenizers = dict(tokenizer) if isinstance(tokenizer, Mapping) else {"tokenizer": tokenizer} if tokenizer else {}
    for place in tokenizers.values():
        if not Path(place).is_dir():
            raise StoryjaxError(f"no tokenizer folder at '{place}'")
    may_write(folder, overwrite)
    stored = {name: _stored(name, params, dtype) for name, (_, params) in components.items()}
    sizes = {
        name: ({"component": kinds[name]} if kinds and name in kinds else {})
        | {"dtype": dtype, "parameters": sum(int(x.size) for x in flat.values()), "tensors": len(flat)}
        for name, flat in stored.items()
    }
    with written_beside(folder, overwrite=overwrite) as beside:
        for name, (config, _) in components.items():
            write_json(beside / name / CONFIG, config)
            # One entry only: several are written in random order, and the same weights must give the same file and hash.
            save_file(stored[name], beside / name / WEIGHTS, metadata={"dtype": dtype})
        for name, value in (extra_files or {}).items():
            write_json(beside / name, value)
        for name, place in tokenizers.items():
            shutil.copytree(place, beside / name)
        write_json(beside / INDEX, {**(index or {}), "components": sizes})


def load_component(
    folder: str | Path, name: str, expect: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[dict[str, Any], Params]:
    """The configuration and the parameters of one component, float32, as a pure nested dictionary.

    expect: dotted path -> shape, from the abstract model that the parameters are for; anything else in the file is an error
    that lists all of it. Errors: no such folder or component, a missing or cut-off file.
    """
    folder = Path(folder)
    known = list(model_index(folder)["components"])
    if name not in known:
        raise StoryjaxError(f"model folder '{folder}' has no component '{name}'{nearest(name, known)}")
    config = _read_json(folder / name / CONFIG)
    flat = _read_weights(folder / name / WEIGHTS, expect)
    return config, unflatten(flat)


def model_index(folder: str | Path) -> dict[str, Any]:
    """The content of model_index.json: `components` (name -> dtype, parameters, tensors) and what the system added."""
    folder = Path(folder)
    if not folder.is_dir():
        raise StoryjaxError(f"no model folder at '{folder}'")
    if not (folder / INDEX).is_file():
        raise StoryjaxError(f"'{folder}' is no model folder: it has no {INDEX}")
    content = _read_json(folder / INDEX)
    if not isinstance(content.get("components"), dict):
        raise StoryjaxError(f"'{folder / INDEX}' does not list its components; expected an object 'components'")
    return content


def read_extra(folder: str | Path, name: str) -> Any:
    """The content of a JSON file of the model folder, by its relative path."""
    return _read_json(Path(folder) / name)


def model_hash(folder: str | Path) -> str:
    """SHA-256 (hex) over the components' weight files, in the order of their names."""
    folder, digest = Path(folder), hashlib.sha256()
    for name in sorted(model_index(folder)["components"]):
        file = folder / name / WEIGHTS
        if not file.is_file():
            raise StoryjaxError(f"model folder '{folder}' is not whole: '{file}' is missing")
        digest.update(f"{name}\0".encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _stored(name: str, params: Params, dtype: str) -> dict[str, np.ndarray]:
    """Dotted path -> array as stored; a number that is or becomes infinite or NaN is an error."""
    flat = {}
    for path, value in sorted(flatten(params).items()):
        array = np.asarray(value, np.float32)
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(array.astype(DTYPES[dtype])).reshape(array.shape)
        if not np.isfinite(cast.astype(np.float32)).all():
            largest = np.abs(array).max()
            advice = f"beyond {dtype}; store as float32" if np.isfinite(largest) else "not a model worth saving"
            raise StoryjaxError(f"component '{name}': {path} holds {largest}, {advice}")
        flat[path] = cast
    return flat


def write_json(file: Path, value: Any) -> None:
    """A JSON value as a file, its folders made where they are missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(file: Path) -> Any:
    if not file.is_file():
        raise StoryjaxError(f"the model folder is not whole: '{file}' is missing")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoryjaxError(f"'{file}' is no valid JSON ({error}); copy or save the model folder again") from None


def _read_weights(file: Path, expect: Mapping[str, tuple[int, ...]] | None) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise StoryjaxError(f"the model folder is not whole: '{file}' is missing")
    try:
        with safe_open(file, framework="numpy") as tensors:
            if expect is not None:
                _check(file, {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}, expect)  # noqa: SIM118
            return {key: tensors.get_tensor(key).astype(np.float32) for key in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StoryjaxError(f"'{file}' is cut off or damaged ({error}); copy or save it again") from None


def _check(file: Path, got: Mapping[str, tuple[int, ...]], expect: Mapping[str, tuple[int, ...]]) -> None:
    shared = sorted(set(got) & set(expect))
    problems = {
        "missing": sorted(set(expect) - set(got)),
        "not of this model": sorted(set(got) - set(expect)),
        "of another shape": [
            f"{k} {got[k]}, expected {tuple(expect[k])}" for k in shared if got[k] != tuple(expect[k])
        ],
    }
    lines = [f"{len(names)} {title}: {', '.join(names)}" for title, names in problems.items() if names]
    if lines:
        wrapped = [textwrap.fill(line, 118, initial_indent="  ", subsequent_indent="    ") for line in lines]
        raise StoryjaxError("\n".join([f"'{file}' does not fit the model its config describes:", *wrapped]))
