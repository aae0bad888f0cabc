"""What lies at a path: a checkpoint's layout recognised and its parts found, before any weight is read.

    diffusers           a folder whose model_index.json names a pipeline class (Stable Diffusion's, ContextualStory's)
    latent-diffusion    one file in the layout of the original Stable Diffusion code
    storyjax            a folder as `storyjax convert` or a training run wrote it

However it was spelled, the result is the same: networks with their configurations in our form, tokenizers, a schedule.
"""

import contextlib
import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from storyjax.checkpoints.beside import INDEX
from storyjax.checkpoints.folder import CONFIG, WEIGHTS, model_index, read_extra
from storyjax.config import from_json
from storyjax.diffusion.diffusers_format import from_diffusers, sampler_from_diffusers
from storyjax.diffusion.samplers import Sampler
from storyjax.diffusion.schedule import ScheduleConfig
from storyjax.errors import StoryjaxError
from storyjax.nn.build import Params
from storyjax.weights.component import Component, component, component_of
from storyjax.weights.load import Sharding, load_params
from storyjax.weights.looks import looks_like
from storyjax.weights.readers import open_tensors
from storyjax.weights.report import Report
from storyjax.weights.rules import Rule
from storyjax.weights.system import System, pipelines, system, system_of

SCHEDULER = "scheduler/scheduler_config.json"
AS_IT_IS = [Rule("{path:.*}", "{path}")]  # the table of a file that is written in our names already


@dataclasses.dataclass(frozen=True)
class Part:
    """One network of a checkpoint.

    config: in our form. original: its config.json as the original library wrote it, None where there was none. tensors: lazy;
    under original names, or under native paths in our layout where `native`. source: how errors call it.
    """

    component: Component
    config: Any
    original: Mapping[str, Any] | None
    tensors: Any
    source: str
    native: bool = False

    def load(
        self, *, dtype: Any = None, sharding: Sharding | None = None, allow_unused: Sequence[str] = ()
    ) -> tuple[Params, Report]:
        """Its parameters, each created once in `dtype` (None: the file's) where `sharding` says; errors as `load_params`."""
        return load_params(
            self.placing,
            self.config,
            self.tensors,
            dtype=dtype,
            sharding=sharding,
            allow_unused=allow_unused,
            source=self.source,
        )

    @property
    def placing(self) -> Component:
        """The component with the table of names that its file is written in."""
        return dataclasses.replace(self.component, rules=lambda _: AS_IT_IS) if self.native else self.component


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A whole model as it lies on the disk, nothing of its weights read.

    parts: folder name in diffusers' layout ("unet", "text_encoder_2") -> network. tokenizers: "tokenizer", "tokenizer_2" -> folder.
    scheduler: the scheduler_config.json as diffusers wrote it, None where a model of ours never had one. index: the
    original model_index.json. files: other files that belong to it, relative path -> where it lies. left_out: what stands in
    the folder and no pipeline here uses.
    """

    path: Path
    kind: Literal["diffusers", "latent-diffusion", "storyjax"]
    system: System
    parts: Mapping[str, Part]
    tokenizers: Mapping[str, Path]
    schedule: ScheduleConfig
    scheduler: Mapping[str, Any] | None
    index: Mapping[str, Any]
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    stored_settings: Mapping[str, Any] | None = None

    @property
    def sampler(self) -> Sampler:
        """The sampler that its scheduler names; where that is not here, a warning says which was taken."""
        return Sampler() if self.scheduler is None else sampler_from_diffusers(self.scheduler)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the system's pipeline wants to know beside weights, configs and schedule; see `System.settings`."""
        return self.system.settings(self) if self.stored_settings is None else self.stored_settings

    def load(
        self, *, dtype: Any = None, sharding: Sharding | None = None, allow_unused: Sequence[str] = ()
    ) -> dict[str, Params]:
        """Parameters of every part, as `Part.load`; `sharding` sees paths that begin with the part's name."""

        def placed(name: str) -> Sharding | None:
            whole = sharding
            return None if whole is None else lambda path, shape: whole(f"{name}.{path}", shape)

        return {
            name: part.load(dtype=dtype, sharding=placed(name), allow_unused=allow_unused)[0]
            for name, part in self.parts.items()
        }

    def read(self, name: str) -> Any:
        """A JSON file of it by relative path, such as "cumulative_motion.json"."""
        if name not in self.files:
            raise StoryjaxError(f"'{self.path}' has no {name}; copy or download the model again")
        return read_json(self.files[name])


def recognise(path: str | Path, *, variant: str | None = None, ema: bool = False) -> Checkpoint:
    """The checkpoint at a path. variant: which of several weight files, such as "fp16". ema: the averaged weights of a
    single file that has both.

    Errors, one line each: nothing there; a folder of something else (saying what it looks like); a folder of a known system with
    missing parts (naming all of them); a config that asks for what is not built here.
    """
    path = Path(path)
    if path.is_file():
        raise StoryjaxError(f"'{path}' is a file; expected the folder of a model")
    if not path.is_dir():
        raise StoryjaxError(f"there is no checkpoint at '{path}'")
    if not (path / INDEX).is_file():
        raise StoryjaxError(f"'{path}' looks like {looks_like(path)}")
    index = read_json(path / INDEX)
    if not isinstance(index, dict):
        raise StoryjaxError(f"'{path / INDEX}' is no JSON object; copy or download it again")
    if ema:
        raise StoryjaxError(f"'{path}' is a folder with one set of weights; ema chooses within a single file")
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
            files |= {f"{folder}/{file.name}": file for file in (path / folder).glob("*.json")}
            missing += [f"{folder}/{CONFIG}"] if folder in known.parts else []
        elif folder in known.parts or _is_known(path / folder / CONFIG):
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
    scheduler = read_json(path / SCHEDULER)
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
    original = read_json(folder / CONFIG)
    with _told_of(folder / CONFIG):
        found = component_of(original)
        if wanted is not None and found.name != wanted:
            raise StoryjaxError(f"expected a network of kind '{wanted}', found '{found.name}'")
        config = found.read_config(original)
    return Part(found, config, original, open_tensors(folder, variant=variant), str(folder))


def _missing_of_tokenizer(path: Path, folder: str) -> list[str]:
    if (path / folder / "tokenizer.json").is_file():
        return []
    return [f"{folder}/{file}" for file in ("vocab.json", "merges.txt") if not (path / folder / file).is_file()]


def _names_a_class(value: Any) -> bool:
    """Whether an entry of model_index.json is a part: ["library", "Class"], where [null, null] means none."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], str)


def _is_known(config: Path) -> bool:
    try:
        component_of(read_json(config))
    except StoryjaxError:
        return False
    return True


# ----- our own -----------------------------------------------------------------------------------------------------------


def _storyjax(path: Path) -> Checkpoint:
    index = dict(model_index(path))
    if "system" not in index:
        raise StoryjaxError(f"'{path / INDEX}' names neither a '_class_name' nor a 'system'; is it a model's folder?")
    with _told_of(path / INDEX):
        known, components = system(index["system"]), index["components"]
    tokenizers = {place.name: place for place in sorted(path.glob("tokenizer*")) if place.is_dir()}
    missing = [f"{folder}/" for folder in known.parts if folder not in components]
    missing += [file for file in (SCHEDULER, *known.files) if not (path / file).is_file()]
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
        original = path / folder / "original_config.json"
        parts[folder] = Part(
            kind,
            config,
            read_json(original) if original.is_file() else None,
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
        read_json(scheduler) if scheduler.is_file() else None,
        index.get("original", {}),
        {file: path / file for file in (*known.files, *index.get("files", ()))},
        stored_settings=settings,
    )


def config_class(kind: Component) -> type:
    """The dataclass that a component's configurations are of: what its `read_config` says it returns."""
    return typing.get_type_hints(kind.read_config)["return"]


@contextlib.contextmanager
def _told_of(file: Path) -> Iterator[None]:
    """Errors within begin with the file they are about."""
    try:
        yield
    except StoryjaxError as error:
        raise StoryjaxError(f"'{file}': {error}") from None


def read_json(file: Path) -> Any:
    """The content of a JSON file. Errors: not there, no JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoryjaxError(f"cannot read '{file}': {error.strerror or error}") from None
    except ValueError as error:
        raise StoryjaxError(f"'{file}' is no valid JSON ({error}); copy or download it again") from None
