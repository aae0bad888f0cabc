"""A table of rules applied to a whole checkpoint, from PyTorch's names and layouts to ours and back."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from storyjax.errors import StoryjaxError
from storyjax.nn.build import Params, flatten, unflatten
from storyjax.weights.report import Report, listing
from storyjax.weights.rules import TRANSFORMS, AnyRule, Dead, Shape, Stray, applying, key_of

Rules = Sequence[AnyRule]


def to_native(
    tensors: Mapping[str, np.ndarray],
    rules: Rules,
    expected: Mapping[str, Shape],
    *,
    allow_unused: Sequence[str] = (),
    source: str = "the checkpoint",
) -> tuple[Params, Report]:
    """Every tensor put where its rule says, as float32; a pure nested dictionary with exactly the paths of `expected`.

    tensors: PyTorch name -> array; may be lazy, each is read once. expected: native path -> shape, from the abstract model.
    allow_unused: full-match regexes over PyTorch names that may be left over. Anything else than full placement (missing,
    unused, mis-shaped, ambiguous, doubled) is one StoryjaxError that lists everything; a mapping with `shape_of(name)`, as the
    readers here have, is then not read at all.
    """
    shape_of = getattr(tensors, "shape_of", lambda key: tuple(np.shape(tensors[key])))
    places, report = plan({key: shape_of(key) for key in tensors}, rules, expected, allow_unused, source)
    report.require_complete()
    flat = {}
    for path, (key, transform) in places.items():
        value = TRANSFORMS[transform].to_native(np.asarray(tensors[key], np.float32))
        flat[path] = np.ascontiguousarray(value).reshape(expected[path])
    return unflatten(flat), report


def to_pytorch(params: Params, rules: Rules) -> dict[str, np.ndarray]:
    """The inverse of `to_native`: PyTorch names and layouts; dead tensors are written as zeros beside the live ones."""
    tensors: dict[str, np.ndarray] = {}
    wrong: list[str] = []
    for path, value in flatten(params).items():
        found = key_of(rules, path)
        if len(found) != 1:
            wrong.append(f"{path}: {' and '.join(rule.path for rule, _ in found) or 'no rule'}")
            continue
        rule, key = found[0]
        written = TRANSFORMS[rule.transform].to_pytorch(np.asarray(value))
        tensors[key] = np.ascontiguousarray(written).reshape(written.shape)  # NumPy would give a single number an axis
        for dead in rules:
            if isinstance(dead, Dead) and (dead_key := dead.pytorch_key(path)) is not None:
                tensors[dead_key] = np.zeros(dead.shape(np.shape(value)), np.asarray(value).dtype)
    if wrong:
        raise StoryjaxError("cannot export:\n" + listing("paths without exactly one rule", wrong, wrap=False))
    return tensors


def shapes_of(params: Params) -> dict[str, Shape]:
    """Native path -> shape, of arrays or of an abstract model: the `expected` of `to_native`."""
    return {path: tuple(leaf.shape) for path, leaf in flatten(params).items()}


def plan(
    shapes: Mapping[str, Shape],
    rules: Rules,
    expected: Mapping[str, Shape],
    allow_unused: Sequence[str] = (),
    source: str = "the checkpoint",
) -> tuple[dict[str, tuple[str, str]], Report]:
    """Where every tensor would go, from names and shapes alone: native path -> (PyTorch name, transform); and the report."""
    places: dict[str, tuple[str, str]] = {}
    report = Report(source)
    for key, shape in shapes.items():
        found = applying(rules, key)
        rule, path = found[0] if found else (None, "")
        if len(found) > 1:
            report.ambiguous.append(f"{key}: {' and '.join(rule.pattern for rule, _ in found)}")
        elif isinstance(rule, Dead | Stray):
            report.dead.append(key)
        elif rule is None or path not in expected:
            allowed = any(re.fullmatch(pattern, key) for pattern in allow_unused)
            (report.allowed if allowed else report.unused).append(key)
        elif path in places:
            report.duplicates.append(f"{path}: {places[path][0]} and {key}")
        else:
            places[path] = (key, rule.transform)
            _compare(key, path, rule.transform, shape, expected[path], report)
    for path in expected:
        if path not in places:
            names = [key for _, key in key_of(rules, path)]
            report.missing.append(f"{names[0]} ({path})" if names else f"({path}: no rule writes it)")
    return places, report


def _compare(key: str, path: str, name: str, shape: Shape, expected: Shape, report: Report) -> None:
    transform = TRANSFORMS[name]
    if transform.shape(shape) == tuple(expected):
        report.placed[key] = path
    else:
        wanted = transform.shape(tuple(expected), inverse=True)
        report.wrong_shape.append(f"{key}: expected {wanted or f'native {tuple(expected)}'}, got {tuple(shape)}")
