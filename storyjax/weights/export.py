"""`storyjax export`: a storyjax folder as a diffusers folder that diffusers loads.

What `storyjax convert` made of a checkpoint goes back as it came: the same names, dtypes and bytes of every tensor, the same
configs. A model that was trained here has no original; its names and configs come from the components' tables.
"""

import dataclasses
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from storyjax.checkpoints.beside import INDEX, check_room, may_write, require_apart, written_beside
from storyjax.checkpoints.folder import CONFIG, write_json
from storyjax.diffusion.diffusers_format import to_diffusers
from storyjax.errors import StoryjaxError
from storyjax.weights.checkpoint import SCHEDULER, Checkpoint, Part, read_json
from storyjax.weights.conversion import ORIGINAL_EXTRA, ORIGINAL_TENSORS
from storyjax.weights.finite import cast, dtype_named, is_float
from storyjax.weights.layouts import recognise
from storyjax.weights.readers import open_tensors
from storyjax.weights.report import listing
from storyjax.weights.rules import TRANSFORMS, Alias, Dead, Rule, applying, key_of
from storyjax.weights.stream import Planned, write_safetensors
from storyjax.weights.transpose import contiguous

Stored = Callable[[str], np.dtype]  # native path -> the dtype to write its tensor in


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written: tensors by part, and where."""

    folder: Path
    pipeline: str
    tensors: Mapping[str, int]
    nbytes: int
    seconds: float

    def text(self) -> str:
        """One line for each network, one for the folder."""
        width = max(map(len, self.tensors))
        lines = [f"{name:<{width}}  {count:5} tensors" for name, count in self.tensors.items()]
        lines.append(f"{self.folder}: {self.pipeline}, {self.nbytes / 1e9:.2f} GB in {self.seconds:.0f} s")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """One tensor to write. path: the native one it comes from; None where it is kept aside, or a zero."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    path: str | None
    transform: str = "copy"
    kept: bool = False

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def export(
    folder: str | Path,
    dest: str | Path,
    *,
    dtype: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Exported:
    """Write the storyjax folder `folder` as a diffusers folder at `dest`.

    dtype: "float32", "float16" or "bfloat16"; default: what the folder has.

    Errors: `folder` is no storyjax folder or not whole, a config that the original library has no words for, `dest` in use, no
    space, a number that `dtype` cannot hold; nothing is left at `dest` then, or what stood there.
    """
    began = time.monotonic()
    dest = Path(dest)
    stored = None if dtype is None else dtype_named(dtype)
    require_apart(folder, dest)
    may_write(dest, overwrite)
    checkpoint = recognise(folder)
    if checkpoint.kind != "storyjax":
        raise StoryjaxError(
            f"'{folder}' is no storyjax folder but has the layout '{checkpoint.kind}'; export has nothing to do"
        )
    configs = {name: _config(part) for name, part in checkpoint.parts.items()}
    plans = {name: _tensors(part, checkpoint.path / name, stored) for name, part in checkpoint.parts.items()}
    nbytes = sum(tensor.nbytes for tensors in plans.values() for tensor in tensors)
    check_room(dest, nbytes)
    with (
        written_beside(dest, overwrite=overwrite, what="diffusers folder") as beside,
        tqdm(total=nbytes, unit="B", unit_scale=True, desc="exporting", disable=not progress) as bar,
    ):
        for name, part in checkpoint.parts.items():
            write_json(beside / name / CONFIG, configs[name])
            file = beside / name / _weights_name(configs[name])
            _write_part(file, part, plans[name], checkpoint.path / name / ORIGINAL_EXTRA, bar)
        index = _write_rest(beside, checkpoint, configs)
    tensors = {name: len(found) for name, found in plans.items()}
    return Exported(dest, index["_class_name"], tensors, nbytes, time.monotonic() - began)


def _config(part: Part) -> dict[str, Any]:
    return dict(part.original) if part.original is not None else part.component.write_config(part.config)


def _weights_name(config: Mapping[str, Any]) -> str:
    """Weights are called otherwise by diffusers than by transformers, whose configs name no `_class_name`."""
    return "diffusion_pytorch_model.safetensors" if "_class_name" in config else "model.safetensors"


def _tensors(part: Part, folder: Path, dtype: np.dtype | None) -> list[_Tensor]:
    """Every tensor of a network's original file, in its order; by the tables where there never was one."""

    def stored(path: str) -> np.dtype:
        own = part.tensors.dtype_of(path)
        return own if dtype is None or not is_float(own) else dtype

    names = folder / ORIGINAL_TENSORS
    if not names.is_file():
        return _by_the_table(part, stored)
    try:
        return _as_converted(part, folder, read_json(names), stored)
    except StoryjaxError:
        raise
    except (TypeError, KeyError, ValueError, AttributeError):  # its entries are others than `convert` writes
        raise StoryjaxError(f"'{names}' is damaged; convert the original again") from None


def _as_converted(part: Part, folder: Path, names: Sequence[Mapping[str, Any]], stored: Stored) -> list[_Tensor]:
    rules, found = part.component.rules(part.config), []
    if odd := sorted({said["path"] for said in names if "path" in said} ^ set(part.tensors)):
        raise StoryjaxError(
            f"'{folder}' is not as it was converted: its weights and {ORIGINAL_TENSORS} disagree about {len(odd)} tensors, the "
            f"first is '{odd[0]}'; convert the original again"
        )
    kept: Any = open_tensors(folder / ORIGINAL_EXTRA) if any("path" not in said for said in names) else {}
    for said in names:
        name, shape, path = said["name"], tuple(said["shape"]), said.get("path")
        if path is None:
            found.append(_Tensor(name, kept.shape_of(name), kept.dtype_of(name), None, kept=True))
            continue
        rule = next(
            (rule for rule, its in applying(rules, name) if its == path and isinstance(rule, Rule | Alias)), None
        )
        if rule is None or TRANSFORMS[rule.transform].shape(shape) != part.tensors.shape_of(path):
            raise StoryjaxError(
                f"'{folder}': no rule leads from '{name}' {shape} to '{path}' {part.tensors.shape_of(path)}; convert the "
                "original again"
            )
        found.append(_Tensor(name, shape, stored(path), path, rule.transform))
    return found


def _by_the_table(part: Part, stored: Stored) -> list[_Tensor]:
    """Live tensors under the names of the table, and zeros where the original library keeps dead ones."""
    rules, found, wrong = part.component.rules(part.config), [], []
    for path in part.tensors:
        shape, live = part.tensors.shape_of(path), key_of(rules, path)
        if len(live) != 1:
            wrong.append(f"{path}: {' and '.join(rule.path for rule, _ in live) or 'no rule'}")
            continue
        rule, key = live[0]
        original = TRANSFORMS[rule.transform].shape(shape, inverse=True)
        if original is None:
            wrong.append(f"{path}: {shape} does not suit '{rule.transform}'")
            continue
        found.append(_Tensor(key, original, stored(path), path, rule.transform))
        dead = [(rule, rule.pytorch_key(path)) for rule in rules if isinstance(rule, Dead)]
        found += [_Tensor(key, rule.shape(shape), stored(path), None) for rule, key in dead if key is not None]
    if wrong:
        raise StoryjaxError("cannot export:\n" + listing("paths without exactly one rule", wrong, wrap=False))
    return found


def _write_part(file: Path, part: Part, tensors: Sequence[_Tensor], extra: Path, bar: Any) -> None:
    kept: Any = open_tensors(extra) if any(tensor.kept for tensor in tensors) else {}
    by_name = {tensor.name: tensor for tensor in tensors}

    def original(entry: Planned) -> np.ndarray:
        tensor = by_name[entry.name]
        if tensor.kept:
            return kept[tensor.name]
        if tensor.path is None:
            return np.zeros(entry.shape, entry.dtype)
        value = cast(part.tensors[tensor.path], entry.dtype, tensor.path)
        return contiguous(TRANSFORMS[tensor.transform].to_pytorch(value)).reshape(entry.shape)

    entries = [Planned(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]
    # "pt": what the original libraries expect to find there.
    write_safetensors(file, entries, original, metadata={"format": "pt"}, progress=bar.update, check=False)


def _write_rest(beside: Path, checkpoint: Checkpoint, configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Tokenizers, scheduler, further files and the index; returns the index."""
    for name, place in checkpoint.tokenizers.items():
        shutil.copytree(place, beside / name)
    for name, file in checkpoint.files.items():
        (beside / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, beside / name)
    scheduler = checkpoint.scheduler or to_diffusers(checkpoint.schedule, checkpoint.sampler)
    write_json(beside / SCHEDULER, scheduler)
    index = _index(checkpoint, configs, scheduler)
    write_json(beside / INDEX, index)
    return index


def _index(
    checkpoint: Checkpoint, configs: Mapping[str, Mapping[str, Any]], scheduler: Mapping[str, Any]
) -> dict[str, Any]:
    """model_index.json: the original one without the parts that were not carried along, or a new one."""
    if checkpoint.index:
        there = {*configs, *checkpoint.tokenizers, "scheduler", *(name.split("/")[0] for name in checkpoint.files)}
        index = {
            name: [None, None] if isinstance(value, list) and len(value) == 2 and name not in there else value
            for name, value in checkpoint.index.items()
        }
        # A pipeline whose safety checker is gone must not ask for it.
        return index | ({"requires_safety_checker": False} if "safety_checker" in index else {})
    said = checkpoint.system.index
    index: dict[str, Any] = said(checkpoint) if said else {"_class_name": checkpoint.system.pipelines[0]}
    for name, config in configs.items():
        diffusers = "_class_name" in config
        index[name] = (
            ["diffusers", config["_class_name"]] if diffusers else ["transformers", config["architectures"][0]]
        )
    index |= {name: ["transformers", "CLIPTokenizer"] for name in checkpoint.tokenizers}
    return index | {"scheduler": ["diffusers", scheduler["_class_name"]]}
