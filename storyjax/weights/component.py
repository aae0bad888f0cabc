"""A network of the outside world: how its original config and names become ours, and back; and the list of those that are known.

The base models' components live in this room (`unet.py`, `vae.py`, `clip.py`), a system's own in its `weights.py`. Importing such a
module registers what it holds; looking a component up imports them all once, so nothing has to be named twice.
"""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flax import nnx

from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.weights.rules import AnyRule

BASE = ("unet", "vae", "clip", "clip_whole", "owlvit")  # modules of this room that register components


@dataclasses.dataclass(frozen=True)
class Component:
    """One kind of network, as the original library spells it and as we do.

    classes: what its config.json calls it: `_class_name` (diffusers), `architectures` or `model_type` (transformers).
    read_config: the original config -> our frozen dataclass. Refuses, by name, what would change numbers and is not built here.
    write_config: the inverse, a config that the original library loads. `read_config(write_config(c)) == c`.
    make: (our config, rngs) -> module. rules: our config -> its table of tensor names.
    """

    name: str
    classes: tuple[str, ...]
    read_config: Callable[[Mapping[str, Any]], Any]
    write_config: Callable[[Any], dict[str, Any]]
    make: Callable[[Any, Any], nnx.Module]
    rules: Callable[[Any], list[AnyRule]]


_KNOWN: dict[str, Component] = {}


def register(new: Component) -> Component:
    """Make a component known by its name and its classes; returns it. Each may be taken once."""
    for other in _KNOWN.values():
        shared = set(new.classes) & set(other.classes)
        if new.name == other.name or shared:
            raise StoryjaxError(
                f"component '{new.name}' ({', '.join(new.classes)}) is registered already, as '{other.name}' "
                f"({', '.join(other.classes)}); give it a name and classes of its own"
            )
    _KNOWN[new.name] = new
    return new


def component(name: str) -> Component:
    """The component of that name: "unet", "vae", "clip_text", "clip_vision", or a system's. Error: unknown, naming the nearest."""
    discover()
    if name not in _KNOWN:
        raise StoryjaxError(f"no component '{name}'{nearest(name, sorted(_KNOWN))}")
    return _KNOWN[name]


def component_of(config: Mapping[str, Any]) -> Component:
    """The component that an original config.json describes, by the class it names.

    Error: it names no class, or one that is not known (listing the known ones).
    """
    discover()
    named = class_names(config)
    for name in named:
        for known in _KNOWN.values():
            if name in known.classes:
                return known
    if not named:
        raise StoryjaxError(
            "the config names no class: expected '_class_name' (diffusers), 'architectures' or 'model_type' (transformers)"
        )
    every = [name for known in _KNOWN.values() for name in known.classes]
    raise StoryjaxError(f"no component is a '{named[0]}'{nearest(named[0], every)}")


def class_names(config: Mapping[str, Any]) -> list[str]:
    """What an original config calls its network, the most telling name first."""
    names = [config.get("_class_name"), *(config.get("architectures") or ()), config.get("model_type")]
    return [name for name in names if isinstance(name, str)]


@functools.cache
def discover() -> None:
    """Import every module that registers components: those of this room, then `weights.py` of each system that has one."""
    package = __name__.split(".", 1)[0]
    for name in BASE:
        importlib.import_module(f"{__package__}.{name}")
    systems = Path(__file__).parents[1] / "systems"
    for system in pkgutil.iter_modules([str(systems)]):
        if (systems / system.name / "weights.py").is_file():
            importlib.import_module(f"{package}.systems.{system.name}.weights")
