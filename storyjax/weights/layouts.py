"""What lies at a path: a checkpoint's layout recognised and its parts found, before any weight is read.

    diffusers           a folder whose model_index.json names a pipeline class (Stable Diffusion's, ContextualStory's)
    latent-diffusion    one file in the layout of the original Stable Diffusion code
    storyjax            a folder as `storyjax convert` or a training run wrote it

However it was spelled, the result is the same: networks with their configurations in our form, tokenizers, a schedule.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storyjax.checkpoints.beside import INDEX
from storyjax.checkpoints.folder import CONFIG, WEIGHTS, model_index, read_extra
from storyjax.config import from_json
from storyjax.diffusion.diffusers_format import from_diffusers
from storyjax.diffusion.schedule import ScheduleConfig
from storyjax.errors import StoryjaxError
from storyjax.weights.checkpoint import (
    SCHEDULER,
    TOKENIZER_FILES,
    Checkpoint,
    Part,
    config_class,
    read_object,
    require_inside,
    told_of,
)
from storyjax.weights.component import component, component_of
from storyjax.weights.looks import looks_like
from storyjax.weights.readers import open_tensors
from storyjax.weights.single_file import single_file
from storyjax.weights.system import pipelines, system, system_of


def recognise(
    path: str | Path,
    *,
    variant: str | None = None,
    ema: bool = False,
    prediction: str | None = None,
    tokenizer: str | Path | None = None,
) -> Checkpoint:
    """The checkpoint at a path. variant: which of a folder's weight files, such as "fp16".

    For a single file only: ema, the averaged weights of one that has both; prediction, what its UNet predicts ("epsilon" or
    "v_prediction") where the file does not say; tokenizer, a folder with CLIP's (default: from the Hugging Face Hub, since such a
    file has none).

    Errors, one line each: nothing there; something else (saying what it looks like); a folder of a known system with missing parts
    (naming all of them); a config that asks for what is not built here.
    """
    path = Path(path)
    if path.is_file():
        if variant is not None:
            raise StoryjaxError(f"'{path}' is a single file, which has no variants; leave variant out")
        return single_file(path, ema, prediction, tokenizer)
    if not path.is_dir():
        raise StoryjaxError(f"there is no checkpoint at '{path}'")
    if not (path / INDEX).is_file():
        raise StoryjaxError(f"'{path}' looks like {looks_like(path)}")
    index = read_object(path / INDEX)
    for name, given in {"ema": ema, "prediction": prediction, "tokenizer": tokenizer}.items():
        if given:
            raise StoryjaxError(f"'{path}' is a folder, and {name} is for single files; leave it out")
    if "_class_name" in index:
        return _diffusers(path, index, variant)
    if variant is not None:
        raise StoryjaxError(f"'{path}' is a storyjax folder, which has no variants; leave variant out")
    return _storyjax(path)


# ----- diffusers ---------------------------------------------------------------------------------------------------------


def _diffusers(path: Path, index: Mapping[str, Any], variant: str | None) -> Checkpoint:
    name = str(index["_class_name"])
    known = system_of(name)
    if known is None:
        raise StoryjaxError(
            f"'{path}' looks like a diffusers folder of {name}; this storyjax reads {', '.join(pipelines())}"
        )
    present = {key: value[1] for key, value in index.items() if _names_a_class(value)}
    require_inside(path / INDEX, present)
    parts, tokenizers, files, left_out = {}, {}, {}, []
    missing = [f"{folder}/" for folder in known.parts if folder not in present]
    missing += [file for file in known.files if not (path / file).is_file()]
    for folder, class_name in present.items():
        if "Tokenizer" in class_name:
            tokenizers[folder] = path / folder
            missing += _missing_of_tokenizer(path, folder)
        elif folder == "scheduler":
            missing += [] if (path / SCHEDULER).is_file() else [SCHEDULER]
        elif not (path / folder / CONFIG).is_file():
            # Preprocessors have no config.json and no weights: they are carried along.
            settings = {f"{folder}/{file.name}": file for file in (path / folder).glob("*.json")}
            files |= settings
            network = folder in known.parts or _is_known({"_class_name": class_name})
            missing += [f"{folder}/{CONFIG}"] if network else []
            left_out += [] if settings else [f"{folder} ({class_name})"]
        elif folder in known.parts or _is_known(read_object(path / folder / CONFIG)):
            parts[folder] = path / folder
        else:
            left_out.append(f"{folder} ({class_name})")
    missing += [] if "scheduler" in present else [SCHEDULER]
    missing += [] if tokenizers else ["tokenizer/"]
    if missing:
        raise StoryjaxError(
            f"'{path}' looks like a diffusers folder of {name}, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing; copy or download the whole folder again"
        )
    scheduler = read_object(path / SCHEDULER)
    return Checkpoint(
        path,
        "diffusers",
        known,
        {folder: _part(place, known.parts.get(folder), variant) for folder, place in parts.items()},
        tokenizers,
        from_diffusers(scheduler),
        scheduler,
        index,
        files | {file: path / file for file in known.files},
        tuple(left_out),
    )


def _part(folder: Path, wanted: str | None, variant: str | None) -> Part:
    original = read_object(folder / CONFIG)
    with told_of(folder / CONFIG):
        found = component_of(original)
        if wanted is not None and found.name != wanted:
            raise StoryjaxError(f"expected a network of kind '{wanted}', found '{found.name}'")
        config = found.read_config(original)
    return Part(found, config, original, open_tensors(folder, variant=variant), str(folder))


def _missing_of_tokenizer(path: Path, folder: str) -> list[str]:
    if (path / folder / "tokenizer.json").is_file():
        return []
    return [f"{folder}/{file}" for file in TOKENIZER_FILES if not (path / folder / file).is_file()]


def _names_a_class(value: Any) -> bool:
    """Whether an entry of model_index.json is a part: ["library", "Class"], where [null, null] means none."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], str)


def _is_known(config: Mapping[str, Any]) -> bool:
    try:
        component_of(config)
    except StoryjaxError:
        return False
    return True


# ----- our own -----------------------------------------------------------------------------------------------------------


def _storyjax(path: Path) -> Checkpoint:
    index = dict(model_index(path))
    if "system" not in index:
        raise StoryjaxError(f"'{path / INDEX}' names neither a '_class_name' nor a 'system'; is it a model's folder?")
    with told_of(path / INDEX):
        known, components = system(str(index["system"])), index["components"]
    further, original = index.get("files", []), index.get("original", {})
    objects = (original, *components.values())
    if not isinstance(further, list) or not all(isinstance(said, dict) for said in objects):
        raise StoryjaxError(
            f"'{path / INDEX}' is damaged: expected a list 'files', and an object as 'original' and for each of 'components'"
        )
    require_inside(path / INDEX, (*components, *map(str, further)))
    tokenizers = {place.name: place for place in sorted(path.glob("tokenizer*")) if place.is_dir()}
    missing = [f"{folder}/" for folder in known.parts if folder not in components]
    missing += [file for file in (SCHEDULER, *known.files, *further) if not (path / file).is_file()]
    missing += [file for name in tokenizers for file in _missing_of_tokenizer(path, name)]
    missing += [] if tokenizers else ["tokenizer/"]
    if missing:
        raise StoryjaxError(
            f"'{path}' is a storyjax folder of system '{known.name}' that is not whole: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing; save or copy the model folder again"
        )
    parts = {}
    for folder, said in components.items():
        kind = component(said.get("component") or known.parts.get(folder, folder))
        where = f"{path}/{folder}/{CONFIG}"
        config = from_json(config_class(kind), read_extra(path, f"{folder}/{CONFIG}"), where)
        their_config = path / folder / "original_config.json"
        parts[folder] = Part(
            kind,
            config,
            read_object(their_config) if their_config.is_file() else None,
            open_tensors(path / folder / WEIGHTS),
            str(path / folder),
            native=True,
        )
    scheduler = path / "scheduler" / "original_config.json"
    settings = {key: value for key, value in index.items() if key not in ("system", "components", "original", "files")}
    return Checkpoint(
        path,
        "storyjax",
        known,
        parts,
        tokenizers,
        from_json(ScheduleConfig, read_extra(path, SCHEDULER), f"{path}/{SCHEDULER}"),
        read_object(scheduler) if scheduler.is_file() else None,
        original,
        {file: path / file for file in (*known.files, *further)},
        stored_settings=settings,
    )
