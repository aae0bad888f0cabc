"""The rule engine: one PyTorch name, one place in our parameters, one change of layout; readable in both directions.

A rule pairs two templates over the same fields. `{i}` stands for a number, `{at:regex}` for what its regex matches; all else is
literal. `Rule("{at:.*}.conv1.weight", "{at}.conv1.kernel", "conv2d")` therefore maps names both ways, and the transform
maps the arrays. A table is a list of rules in which every name must match exactly one.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

Shape = tuple[int, ...]
Change = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Transform:
    """A change of layout and its inverse, with the number of axes each side has (None: any)."""

    rank: int | None
    native_rank: int | None
    to_native: Change
    to_pytorch: Change

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape | None:
        """What `shape` becomes, or None where the array has another number of axes than the transform wants."""
        wanted = self.native_rank if inverse else self.rank
        if wanted is not None and len(shape) != wanted:
            return None
        nothing = np.broadcast_to(np.zeros((), np.float32), shape)  # a view of one number: no memory at any size
        try:
            return (self.to_pytorch if inverse else self.to_native)(nothing).shape
        except ValueError:
            return None


def _transpose(*axes: int) -> Change:
    return lambda x: x.transpose(axes)


def _without_ones(shape: Shape) -> Shape:
    """(O, I) of (O, I) or (O, I, 1, 1)."""
    if len(shape) not in (2, 4) or any(size != 1 for size in shape[2:]):
        raise ValueError(f"neither (O, I) nor (O, I, 1, 1): {shape}")
    return shape[:2]


def _frames_last(x: np.ndarray) -> np.ndarray:
    return x.transpose(2, 1, 0)[..., None, None]


TRANSFORMS = {
    "copy": Transform(None, None, lambda x: x, lambda x: x),
    # (out, in) -> (in, out)
    "linear": Transform(2, 2, _transpose(1, 0), _transpose(1, 0)),
    # (O, I, H, W) -> (H, W, I, O)
    "conv2d": Transform(4, 4, _transpose(2, 3, 1, 0), _transpose(3, 2, 0, 1)),
    # (O, I, T, H, W) -> (T, H, W, I, O)
    "conv3d": Transform(5, 5, _transpose(2, 3, 4, 1, 0), _transpose(4, 3, 0, 1, 2)),
    # (O, I, 1, 1) -> (I, O): Stable Diffusion 1 spells its transformers' projections as convolutions
    "conv1x1_as_linear": Transform(4, 2, lambda x: x.squeeze((2, 3)).T, lambda x: x.T[:, :, None, None]),
    # The same where a file may hold either form; written back as (O, I)
    "linear_or_conv1x1": Transform(None, 2, lambda x: x.reshape(_without_ones(x.shape)).T, _transpose(1, 0)),
    # (O, I, 3, 1, 1) -> (3, I, O): a Conv3d that only looks along the frames
    "temporal_conv": Transform(5, 3, lambda x: x.squeeze((3, 4)).transpose(2, 1, 0), _frames_last),
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """`pattern` (PyTorch name) <-> `path` (native dotted path), values changed by TRANSFORMS[transform]."""

    pattern: str
    path: str
    transform: str = "copy"

    def native_path(self, key: str) -> str | None:
        """The native path of a PyTorch name, or None where the rule does not apply."""
        return _translate(self.pattern, self.path, key)

    def pytorch_key(self, path: str) -> str | None:
        """The PyTorch name of a native path, or None where the rule does not apply."""
        return _translate(self.path, self.pattern, path)


@dataclasses.dataclass(frozen=True)
class Alias:
    """Another spelling of a name that some files use. Read as a `Rule` is, but never written: there the `Rule` decides."""

    pattern: str
    path: str
    transform: str = "copy"

    def native_path(self, key: str) -> str | None:
        """The native path of a PyTorch name, or None where the spelling does not apply."""
        return _translate(self.pattern, self.path, key)


@dataclasses.dataclass(frozen=True)
class Stray:
    """Tensors that only some files hold and that no output depends on (a constant table saved as a buffer).

    Dropped on import where they are, never missed where they are not, never written.
    """

    pattern: str

    def native_path(self, key: str) -> str | None:
        """Not None (but no path) where `key` is one of these tensors."""
        return _translate(self.pattern, "", key)


@dataclasses.dataclass(frozen=True)
class Dead:
    """Tensors that never influence an output: dropped on import, written back as zeros on export.

    On export one is written for every native tensor that matches `beside`, with the shape `shape` makes of that tensor's.
    """

    pattern: str
    beside: str
    shape: Callable[[Shape], Shape]

    def native_path(self, key: str) -> str | None:
        """Not None where `key` is one of these tensors (the path is that of the tensor it stands beside)."""
        return _translate(self.pattern, self.beside, key)

    def pytorch_key(self, path: str) -> str | None:
        """The name to write beside the native tensor at `path`, or None."""
        return _translate(self.beside, self.pattern, path)


AnyRule = Rule | Alias | Stray | Dead

_FIELD = re.compile(r"\{(\w+)(?::((?:[^{}]|\{\d+(?:,\d*)?\})*))?\}")


@functools.cache
def _matcher(template: str, other: str) -> re.Pattern[str]:
    """A regex for a template; a field may be spelled out in either of the two templates, and repeat."""
    spelled = {name: regex for name, regex in _FIELD.findall(other) + _FIELD.findall(template) if regex}
    parts, seen, end = [], set(), 0
    for field in _FIELD.finditer(template):
        name = field[1]
        parts.append(re.escape(template[end : field.start()]))
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{spelled.get(name, '[0-9]+')})")
        seen.add(name)
        end = field.end()
    return re.compile("".join(parts) + re.escape(template[end:]))


def _translate(source: str, target: str, name: str) -> str | None:
    match = _matcher(source, target).fullmatch(name)
    return _FIELD.sub(lambda field: match[field[1]], target) if match else None


def applying(rules: Iterable[AnyRule], key: str) -> list[tuple[AnyRule, str]]:
    """Every rule that matches the PyTorch name, with the native path it gives."""
    return [(rule, path) for rule in rules if (path := rule.native_path(key)) is not None]


def key_of(rules: Iterable[AnyRule], path: str) -> list[tuple[Rule, str]]:
    """Every live rule that writes the native path, with the PyTorch name it gives."""
    live = (rule for rule in rules if isinstance(rule, Rule))
    return [(rule, key) for rule in live if (key := rule.pytorch_key(path)) is not None]


def linear(source: str, target: str, *, bias: bool = True, transform: str = "linear") -> list[AnyRule]:
    """Weight and bias of a Linear layer (or, by `transform`, of a convolution) at `source`; ours sits at `target`."""
    weight = Rule(f"{source}.weight", f"{target}.kernel", transform)
    return [weight, Rule(f"{source}.bias", f"{target}.bias")] if bias else [weight]


def conv2d(source: str, target: str) -> list[AnyRule]:
    """Weight and bias of a 2D convolution."""
    return linear(source, target, transform="conv2d")


def norm(source: str, target: str) -> list[AnyRule]:
    """Weight and bias of a LayerNorm or GroupNorm."""
    return [Rule(f"{source}.weight", f"{target}.scale"), Rule(f"{source}.bias", f"{target}.bias")]


def join(*groups: Sequence[AnyRule]) -> list[AnyRule]:
    """One table from several groups."""
    return [rule for group in groups for rule in group]
