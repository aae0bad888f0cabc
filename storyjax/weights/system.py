"""What a published system's checkpoint consists of: each system describes its own, in its `weights.py`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.weights.component import discover

if TYPE_CHECKING:
    from storyjax.weights.checkpoint import Checkpoint


@dataclasses.dataclass(frozen=True)
class System:
    """name: that of its room in storyjax/systems/. pipelines: what diffusers folders of it name as `_class_name` in
    model_index.json, the one to write first.

    parts: folder -> component (`storyjax.weights.component`) that a model of this system cannot do without. files: further files
    that it needs, as relative paths.
    settings: what its pipeline wants to know beside weights, configs and schedule (picture size, defaults of sampling), as JSON
    values; they are written into the model_index.json of a storyjax folder.
    index: what the model_index.json of a diffusers folder says beside its parts, where a model has no original one; default: the
    first of the pipelines.
    """

    name: str
    pipelines: tuple[str, ...]
    parts: Mapping[str, str]
    settings: Callable[["Checkpoint"], dict[str, Any]]
    files: tuple[str, ...] = ()
    index: Callable[["Checkpoint"], dict[str, Any]] | None = None


_KNOWN: dict[str, System] = {}


def register_system(new: System) -> System:
    """Make a system known by its name and its pipelines; returns it."""
    for other in _KNOWN.values():
        shared = set(new.pipelines) & set(other.pipelines)
        if new.name == other.name or shared:
            raise StoryjaxError(f"system '{new.name}' ({', '.join(new.pipelines)}) is known already, as '{other.name}'")
    _KNOWN[new.name] = new
    return new


def system(name: str) -> System:
    """The system of that name. Error: unknown, naming the nearest."""
    discover()
    if name not in _KNOWN:
        raise StoryjaxError(f"no system '{name}'{nearest(name, sorted(_KNOWN))}")
    return _KNOWN[name]


def system_of(pipeline: str) -> System | None:
    """The system that a diffusers pipeline of this class belongs to, or None."""
    discover()
    return next((known for known in _KNOWN.values() if pipeline in known.pipelines), None)


def pipelines() -> list[str]:
    """Every pipeline class that can be read."""
    discover()
    return sorted(name for known in _KNOWN.values() for name in known.pipelines)
