"""A whole model as it lies on the disk, however it is spelled there: nothing of its weights is read yet."""

import contextlib
import dataclasses
import hashlib
import json
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from storyjax.checkpoints.folder import model_hash
from storyjax.config import from_json
from storyjax.diffusion.diffusers_format import sampler_from_diffusers
from storyjax.diffusion.samplers import Sampler
from storyjax.diffusion.schedule import ScheduleConfig
from storyjax.errors import StoryjaxError
from storyjax.nn.build import Params
from storyjax.weights.component import Component
from storyjax.weights.load import Sharding, load_params
from storyjax.weights.report import Report
from storyjax.weights.rules import Rule
from storyjax.weights.system import System

SCHEDULER = "scheduler/scheduler_config.json"
TOKENIZER_FILES = ("vocab.json", "merges.txt")
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
    scratch: Any = None  # a temporary folder that lives as long as the checkpoint

    @property
    def sampler(self) -> Sampler:
        """The sampler that its scheduler names (where that is not here, a warning says which was taken), or for a model of ours
        the one that it is sampled with by default."""
        if self.scheduler is not None:
            return sampler_from_diffusers(self.scheduler)
        said = (self.stored_settings or {}).get("defaults", {}).get("sampler", {})
        return from_json(Sampler, said, f"{self.path}: sampler")

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the system's pipeline wants to know beside weights, configs and schedule; see `System.settings`."""
        return self.system.settings(self) if self.stored_settings is None else self.stored_settings

    def load(
        self,
        *,
        dtype: Any = None,
        sharding: Sharding | None = None,
        allow_unused: Sequence[str] = (),
        exact: Sequence[str] = (),
    ) -> dict[str, Params]:
        """Parameters of every part, as `Part.load`; `sharding` sees paths that begin with the part's name.

        exact: parts that are float32 whatever `dtype` says.
        """

        def placed(name: str) -> Sharding | None:
            whole = sharding
            return None if whole is None else lambda path, shape: whole(f"{name}.{path}", shape)

        return {
            name: part.load(
                dtype=np.float32 if name in exact else dtype, sharding=placed(name), allow_unused=allow_unused
            )[0]
            for name, part in self.parts.items()
        }

    def read(self, name: str) -> Any:
        """A JSON file of it by relative path, such as "cumulative_motion.json"."""
        if name not in self.files:
            raise StoryjaxError(f"'{self.path}' has no {name}; copy or download the model again")
        return read_json(self.files[name])


def config_class(kind: Component) -> type:
    """The dataclass that a component's configurations are of: what its `read_config` says it returns."""
    return typing.get_type_hints(kind.read_config)["return"]


@contextlib.contextmanager
def told_of(file: Path) -> Iterator[None]:
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
    except (ValueError, RecursionError) as error:
        raise StoryjaxError(f"'{file}' is no valid JSON ({error}); copy or download it again") from None


def read_object(file: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object. Errors: as `read_json`, and any other value."""
    found = read_json(file)
    if not isinstance(found, dict):
        raise StoryjaxError(f"'{file}' is no JSON object; copy or download it again")
    return found


def require_inside(file: Path, names: Iterable[str]) -> None:
    """Raise where a name in `file` leads out of its folder: what has that name is copied to a place of that name."""
    for name in names:
        place = PurePosixPath(name)
        if place.is_absolute() or not place.parts or ".." in place.parts:
            raise StoryjaxError(
                f"'{file}' names '{name}', which is no place in its folder; take another copy of the model"
            )


def weights_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 (hex) of a checkpoint's weights: of a single file itself, else over the files of its parts by their names."""
    if checkpoint.kind == "storyjax":
        return model_hash(checkpoint.path)
    digest = hashlib.sha256()
    if checkpoint.path.is_file():
        with checkpoint.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    for name, part in sorted(checkpoint.parts.items()):
        digest.update(f"{name}\0".encode())
        for file in part.tensors.files:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
