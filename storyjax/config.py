"""Configuration: frozen dataclasses built by Python files, written to and read from JSON, changed by overrides.

A configuration file is a Python module with `get_config()` that returns one frozen dataclass. There is no global and no
YAML; every field is typed, and a name that does not exist is an error that names the nearest field.
"""

import ast
import dataclasses
import difflib
import importlib.util
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from storyjax.errors import StoryjaxError

T = TypeVar("T")


def to_json(config: Any) -> dict[str, Any]:
    """The configuration as a dictionary of plain JSON values (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(cls: type[T], mapping: Any, where: str = "") -> T:
    """Build `cls` from a mapping of JSON values; every value must have the type of its annotation, nothing is converted.

    Errors: a field that does not exist (naming the nearest one), a missing field, a value of another type.
    """
    where = where or cls.__name__
    _check_names(cls, mapping, where)
    # Strictly, but as JSON: a list is a tuple there, and a whole number a float.
    return _validated(where, lambda: pydantic.TypeAdapter(cls).validate_json(json.dumps(mapping), strict=True))


def _validated(where: str, validate: typing.Callable[[], T]) -> T:
    try:
        return validate()
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "value_error":  # raised by a configuration itself: its own words
            raise StoryjaxError(
                f"{where}: {path + ': ' if path else ''}{first['msg'].removeprefix('Value error, ')}"
            ) from None
        got = "" if first["type"] == "missing" else f", got {first['input']!r}"
        raise StoryjaxError(f"{where}: field '{path}': {first['msg']}{got}") from None


def _check_names(cls: Any, mapping: Any, where: str) -> None:
    if not isinstance(mapping, dict):
        raise StoryjaxError(f"{where}: expected a mapping of fields, got {type(mapping).__name__} {mapping!r}")
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
    """Run `get_config()` of the Python file at `path`, then apply overrides such as `["optimizer.learning_rate=1e-3"]`."""
    path = Path(path)
    if not path.is_file():
        raise StoryjaxError(f"no configuration file at '{path}'; expected a Python file with get_config()")
    spec = importlib.util.spec_from_file_location(f"storyjax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise StoryjaxError(f"'{path}' is no Python file; expected a name ending in .py, with get_config() in it")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise StoryjaxError(f"'{path}' defines no get_config(); a configuration file must return one dataclass from it")
    return override(module.get_config(), overrides)


def override(config: T, changes: typing.Sequence[str]) -> T:
    """`config` with changes such as `unet.layers_per_block=2`, `unet.heads=[4, 8]`, `train.remat=true`, `loss.gamma=none`.

    A value is read as the type of its field. Errors: a change without "=", a field that does not exist (naming the nearest one),
    a value that the field cannot take.
    """
    if not changes:
        return config
    mapping = to_json(config)
    for change in changes:
        name, equals, text = change.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not equals:
            raise StoryjaxError(f"expected a change as name=value, got '{change}'")
        *parents, last = name.split(".")
        inner = mapping
        for parent in parents:
            inner = inner.get(parent) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or last not in inner:
            raise StoryjaxError(f"the configuration has no field '{name}'{_nearest_path(name, _paths(config))}")
        inner[last] = _value(text.strip())
    # Not strictly: values come as text, and the annotation says what the text means.
    cls = type(config)
    return _validated("the changed configuration", lambda: pydantic.TypeAdapter(cls).validate_python(mapping))


def _value(text: str) -> Any:
    """None and lists by their notation; everything else stays text for the field's type to read."""
    if text.lower() in ("none", "null"):
        return None
    if text[:1] in ("[", "("):
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError):
            return text
    return text


def _paths(config: Any, prefix: str = "") -> list[str]:
    paths: list[str] = []
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        paths += _paths(value, f"{name}.") if dataclasses.is_dataclass(value) else [name]
    return paths


def _nearest_path(name: str, paths: list[str]) -> str:
    """As `nearest`, for dotted paths; a field named without the ones around it is looked for at every depth."""
    last = {path.rsplit(".", 1)[-1]: path for path in sorted(paths, key=lambda path: -path.count("."))}
    short = difflib.get_close_matches(name.rsplit(".", 1)[-1], [*last, *paths], n=1, cutoff=0.6)
    close = [] if "." not in name else difflib.get_close_matches(name, paths, n=1, cutoff=0.6)
    found = next((last.get(path, path) for path in [*close, *short]), None)
    top = dict.fromkeys(path.split(".")[0] for path in paths)
    return f"; did you mean '{found}'?" if found else f"; it has: {', '.join(top)}"
