"""`storyjax convert`: a checkpoint of the outside world as a storyjax folder, written tensor by tensor.

First everything is planned from names and shapes: each tensor has exactly one place, or nothing is written. Then each network's
file is written in the order of the source. Beside the native weights the folder keeps what gives the source back, byte for
byte (`storyjax.weights.export`):

    <part>/original_config.json         the original config.json
    <part>/original_tensors.json        the original names in their order, each with its place, or none
    <part>/original_extra.safetensors   tensors without a place: dead ones, and those that were allowed to be left over
    scheduler/original_config.json      the original scheduler_config.json
"""

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from storyjax.checkpoints.beside import INDEX, check_room, may_write, require_apart, written_beside
from storyjax.checkpoints.folder import CONFIG, WEIGHTS, write_json
from storyjax.config import to_json
from storyjax.errors import StoryjaxError
from storyjax.nn.build import abstract
from storyjax.weights.checkpoint import SCHEDULER, Checkpoint, Part
from storyjax.weights.convert import plan, shapes_of
from storyjax.weights.finite import cast, dtype_named, is_float
from storyjax.weights.hub import locate
from storyjax.weights.layouts import recognise
from storyjax.weights.report import Report
from storyjax.weights.rules import TRANSFORMS
from storyjax.weights.stream import Planned, write_safetensors
from storyjax.weights.transpose import contiguous

ORIGINAL_CONFIG, ORIGINAL_TENSORS, ORIGINAL_EXTRA = (
    "original_config.json",
    "original_tensors.json",
    "original_extra.safetensors",
)


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What a conversion did: the fate of every tensor, part by part, and what was not read."""

    folder: Path
    system: str
    reports: Mapping[str, Report]
    parameters: Mapping[str, int]
    left_out: tuple[str, ...]
    nbytes: int
    seconds: float

    def text(self) -> str:
        """One line for each network, one for what was left out, one for the result."""
        width = max(map(len, self.reports))
        lines = [
            f"{name:<{width}}  {self.parameters[name] / 1e6:9.1f} M parameters  {_fates(report)}"
            for name, report in self.reports.items()
        ]
        if self.left_out:
            lines.append(f"not read, as no pipeline here uses it: {', '.join(self.left_out)}")
        gigabytes = self.nbytes / 1e9
        lines.append(f"{self.folder}: system {self.system}, {gigabytes:.2f} GB in {self.seconds:.0f} s")
        return "\n".join(lines)


def _fates(report: Report) -> str:
    kept = [f"{len(report.dead)} that no output depends on"] if report.dead else []
    kept += [f"{len(report.allowed)} unused as allowed"] if report.allowed else []
    return f"{len(report.placed)} tensors placed" + (f"; kept aside: {', '.join(kept)}" if kept else "")


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Where the tensors of one network go. places: original name -> (native path, transform, native shape)."""

    part: Part
    report: Report
    places: Mapping[str, tuple[str, str, tuple[int, ...]]]
    dtype: np.dtype | None

    def stored_dtype(self, key: str) -> np.dtype:
        """What the tensor is stored as: whole numbers stay what they are."""
        own = self.part.tensors.dtype_of(key)
        return own if self.dtype is None or not is_float(own) else self.dtype

    @property
    def entries(self) -> list[Planned]:
        """The native file, in the order of the source."""
        return [
            Planned(path, self.stored_dtype(key), shape, label=key) for key, (path, _, shape) in self.places.items()
        ]

    @property
    def extra(self) -> list[Planned]:
        """The tensors without a place, as they are."""
        tensors, without = self.part.tensors, {*self.report.dead, *self.report.allowed}
        return [Planned(key, tensors.dtype_of(key), tensors.shape_of(key)) for key in tensors if key in without]

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in (*self.entries, *self.extra))


def convert(
    source: str | Path,
    dest: str | Path,
    *,
    variant: str | None = None,
    revision: str | None = None,
    ema: bool = False,
    prediction: str | None = None,
    tokenizer: str | Path | None = None,
    dtype: str | None = None,
    allow_unused: Sequence[str] = (),
    overwrite: bool = False,
    progress: bool = True,
) -> Conversion:
    """Write the checkpoint at `source` (a folder, a file, or a Hugging Face Hub name) as a storyjax folder at `dest`.

    variant, ema, prediction, tokenizer: as `storyjax.weights.layouts.recognise`. revision: branch, tag or commit on the hub.
    dtype: "float32", "float16" or "bfloat16"; default: what the source has. allow_unused: full-match
    regexes over original names that may be left over.

    Errors, before anything is written: not everything recognised or placed, `dest` in use, no space. While writing: NaN or infinity
    (the tensor named), a number that `dtype` cannot hold, a full disk; nothing is left at `dest` then, or what stood there.
    """
    began = time.monotonic()
    dest = Path(dest)
    stored = None if dtype is None else dtype_named(dtype)
    require_apart(source, dest)
    may_write(dest, overwrite)
    path = locate(source, revision=revision, variant=variant)
    checkpoint = recognise(path, variant=variant, ema=ema, prediction=prediction, tokenizer=tokenizer)
    if checkpoint.kind == "storyjax":
        raise StoryjaxError(
            f"'{source}' is a storyjax folder already; `storyjax export` turns it into a diffusers folder"
        )
    plans = {name: _planned(part, allow_unused, stored) for name, part in checkpoint.parts.items()}
    _require_complete([one.report for one in plans.values()])
    nbytes = sum(one.nbytes for one in plans.values())
    check_room(dest, nbytes)
    with (
        written_beside(dest, overwrite=overwrite) as beside,
        tqdm(total=nbytes, unit="B", unit_scale=True, desc="converting", disable=not progress) as bar,
    ):
        for name, one in plans.items():
            _write_part(beside / name, one, bar)
        _write_rest(beside, checkpoint, plans)
    return Conversion(
        dest,
        checkpoint.system.name,
        {name: one.report for name, one in plans.items()},
        {name: sum(int(np.prod(shape)) for _, _, shape in one.places.values()) for name, one in plans.items()},
        checkpoint.left_out,
        nbytes,
        time.monotonic() - began,
    )


def _planned(part: Part, allow_unused: Sequence[str], dtype: np.dtype | None) -> _Plan:
    """The place of every tensor of a network, from names and shapes alone."""
    _, shapes = abstract(lambda rngs: part.component.make(part.config, rngs))
    expected, tensors = shapes_of(shapes), part.tensors
    places, report = plan(
        {key: tensors.shape_of(key) for key in tensors},
        part.component.rules(part.config),
        expected,
        allow_unused,
        part.source,
    )
    found = {key: (path, transform, tuple(expected[path])) for path, (key, transform) in places.items()}
    return _Plan(part, report, {key: found[key] for key in tensors if key in found}, dtype)


def _require_complete(reports: Sequence[Report]) -> None:
    """One error for all networks: whoever mends the first should know of the second."""
    wrong = [report.text() for report in reports if not report.complete]
    if wrong:
        raise StoryjaxError("\n".join(wrong))


def _write_part(folder: Path, one: _Plan, bar: Any) -> None:
    write_json(folder / CONFIG, to_json(one.part.config))
    write_json(folder / ORIGINAL_CONFIG, one.part.original)
    write_json(folder / ORIGINAL_TENSORS, _names(one))
    tensors, keys = one.part.tensors, {path: key for key, (path, _, _) in one.places.items()}

    def native(entry: Planned) -> np.ndarray:
        key = keys[entry.name]
        _, transform, shape = one.places[key]
        value = cast(tensors[key], entry.dtype, key)
        return contiguous(TRANSFORMS[transform].to_native(value)).reshape(shape)

    write_safetensors(
        folder / WEIGHTS,
        one.entries,
        native,
        metadata={"dtype": _stored_as(one)},
        progress=bar.update,
        source=one.part.source,
    )
    if one.extra:
        # As they are, NaN included: they influence nothing.
        write_safetensors(
            folder / ORIGINAL_EXTRA, one.extra, lambda entry: tensors[entry.name], progress=bar.update, check=False
        )


def _names(one: _Plan) -> list[dict[str, Any]]:
    """Every original tensor in its order: name and shape, and its native path where it has a place."""
    tensors = one.part.tensors
    names = []
    for key in tensors:
        said = {"name": key, "shape": list(tensors.shape_of(key))}
        names.append(said | ({"path": one.places[key][0]} if key in one.places else {}))
    return names


def _stored_as(one: _Plan) -> str:
    """The one dtype of a network's weights, or "mixed"."""
    dtypes = {entry.dtype.name for entry in one.entries}
    return dtypes.pop() if len(dtypes) == 1 else "mixed"


def _write_rest(beside: Path, checkpoint: Checkpoint, plans: Mapping[str, _Plan]) -> None:
    """Tokenizers, scheduler, further files, and the index that says what all of it is."""
    for name, place in checkpoint.tokenizers.items():
        shutil.copytree(place, beside / name)
    for name, file in checkpoint.files.items():
        (beside / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, beside / name)
    write_json(beside / SCHEDULER, to_json(checkpoint.schedule))
    write_json(beside / "scheduler" / ORIGINAL_CONFIG, checkpoint.scheduler)
    components = {
        name: {
            "component": one.part.component.name,
            "dtype": _stored_as(one),
            "parameters": sum(int(np.prod(entry.shape)) for entry in one.entries),
            "tensors": len(one.entries),
        }
        for name, one in plans.items()
    }
    index = {"system": checkpoint.system.name, **checkpoint.settings, "components": components}
    known = {*checkpoint.system.files}
    further = sorted(name for name in checkpoint.files if name not in known)
    write_json(beside / INDEX, index | {"files": further, "original": dict(checkpoint.index)})
