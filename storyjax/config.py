"""Configuration: frozen dataclasses built by Python files, written to and read from JSON, changed by overrides.

A configuration file is a Python module with `get_config()` that returns one frozen dataclass. There is no global and no
YAML; every field is typed, and a name that does not exist is an error that names the nearest field.
"""

import dataclasses
import difflib
import importlib.util
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import tyro

from storyjax.errors import StoryjaxError

T = TypeVar("T")


def to_json(config: Any) -> dict[str, Any]:
    """The configuration as a dictionary of plain JSON values (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(cls: type[T], mapping: dict[str, Any], where: str = "") -> T:
    """Build `cls` from `mapping`; every value is checked against its annotation.

    Errors: a field that does not exist (naming the nearest one), a missing field, a value of another type.
    """
    _check_names(cls, mapping, where or cls.__name__)
    try:
        return pydantic.TypeAdapter(cls).validate_python(mapping)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise StoryjaxError(
            f"{where or cls.__name__}: field '{path}': {first['msg']}, got {first['input']!r}"
        ) from None


def _check_names(cls: Any, mapping: dict[str, Any], where: str) -> None:
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    for name, value in mapping.items():
        if name not in names:
            raise StoryjaxError(f"{where} has no field '{name}'{nearest(name, names)}")
        inner = _dataclass_in(hints[name])
        if inner and isinstance(value, dict):
            _check_names(inner, value, f"{where}.{name}")


def _dataclass_in(annotation: Any) -> Any:
    """The dataclass named by an annotation, also through `X | None`."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        found = [a for a in typing.get_args(annotation) if dataclasses.is_dataclass(a)]
        return found[0] if len(found) == 1 else None
    return annotation if dataclasses.is_dataclass(annotation) else None


def nearest(name: str, names: list[str]) -> str:
    """The end of an error sentence: the nearest known name, or all of them."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; it has: {', '.join(names)}"


def load_config(path: str | Path, overrides: typing.Sequence[str] = ()) -> Any:
    """Run `get_config()` of the Python file at `path`, then apply overrides such as `["--optimizer.learning-rate", "1e-3"]`."""
    path = Path(path)
    if not path.is_file():
        raise StoryjaxError(f"no configuration file at '{path}'; expected a Python file with get_config()")
    spec = importlib.util.spec_from_file_location(f"storyjax_config_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise StoryjaxError(f"'{path}' defines no get_config(); a configuration file must return one dataclass from it")
    return override(module.get_config(), overrides)


def override(config: T, overrides: typing.Sequence[str]) -> T:
    """`config` with command-line overrides applied, dotted and dashed as tyro spells them (`--unet.layers-per-block 2`)."""
    if not overrides:
        return config
    names = _flag_names(config)
    for word in overrides:
        flag = word.split("=")[0]
        if flag.startswith("--"):
            name = (
                flag[2:].replace("-", "_").replace("no_", "", 1)
                if flag.startswith("--no-")
                else flag[2:].replace("-", "_")
            )
            if not any(known == name or known.startswith(f"{name}:") for known in names) and f"{flag[2:]}" not in names:
                last = {known.rsplit(".", 1)[-1]: known for known in names}
                raise StoryjaxError(f"the configuration has no field '{flag[2:]}'{_nearest_flag(name, names, last)}")
    return tyro.cli(type(config), default=config, args=list(overrides))


def _flag_names(config: Any, prefix: str = "") -> list[str]:
    names: list[str] = []
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        names += _flag_names(value, f"{name}.") if dataclasses.is_dataclass(value) else [name]
    return names


def _nearest_flag(name: str, names: list[str], last: dict[str, str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    short = difflib.get_close_matches(name.rsplit(".", 1)[-1], list(last), n=1, cutoff=0.6)
    found = close[0] if close else last[short[0]] if short else None
    return f"; did you mean '--{found.replace('_', '-')}'?" if found else f"; it has: {', '.join(names)}"
