"""Low-rank adapters (Hu et al. 2022) as the library peft writes them, merged into the weights they adapt: W + alpha / r B A."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from storyjax.errors import StoryjaxError

# Settings of adapter_config.json that would make another sum of the same files, and what they may be.
PLAIN: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "peft_type": ("LORA",),
    "fan_in_fan_out": (False, None),
    "use_rslora": (False, None),
    "use_dora": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "enable_lora": (None,),
}
A, B = ".lora_A.weight", ".lora_B.weight"


def scale_of(config: Mapping[str, Any], what: str) -> float:
    """alpha / r of an adapter_config.json. Error: a kind of adapter that is not the plain one, or no numbers."""
    for name, allowed in PLAIN.items():
        value = config.get(name, allowed[0])
        if value not in allowed:
            raise StoryjaxError(f"{what}: {name} is {value!r}, here only {allowed[0]!r}; take the plain LoRA files")
    alpha, rank = config.get("lora_alpha"), config.get("r")
    if not isinstance(alpha, int | float) or not isinstance(rank, int) or rank < 1:
        raise StoryjaxError(f"{what}: expected numbers as lora_alpha and r, got {alpha!r} and {rank!r}")
    return alpha / rank


class Merged(Mapping[str, np.ndarray]):
    """The tensors of `base` with an adapter added, as lazy as they are.

    base: name -> array, names ending in ".weight" where adapted, (out, in). adapter: name -> array; of these the pairs whose names
    begin with `prefix`, followed by the adapted name. Errors: half a pair, a pair for a tensor that is not there, shapes that
    do not fit, no pair at all.
    """

    def __init__(
        self,
        base: Mapping[str, np.ndarray],
        adapter: Mapping[str, np.ndarray],
        scale: float,
        *,
        prefix: str = "",
        what: str = "the adapter",
    ):
        self._base, self._adapter, self._scale = base, adapter, scale
        names = {name for name in adapter if name.startswith(prefix)}
        stems = {name.removesuffix(end) for name in names for end in (A, B) if name.endswith(end)}
        odd = sorted(names - {stem + end for stem in stems for end in (A, B)})
        halves = sorted(stem for stem in stems if stem + A not in names or stem + B not in names)
        self._pairs = {f"{stem.removeprefix(prefix)}.weight": stem for stem in stems}
        lost = sorted(name for name in self._pairs if name not in base)
        if odd or halves or lost or not stems:
            raise StoryjaxError(
                f"{what}: expected pairs '{prefix}<name>{A}' and '...{B}' for tensors of the network, got "
                + "; ".join(
                    f"{said} {', '.join(found[:3])}"
                    for said, found in {"other tensors": odd, "half a pair": halves, "no such tensor": lost}.items()
                    if found
                )
                + ("" if stems else "none")
            )
        for name, stem in self._pairs.items():
            a, b = np.shape(adapter[stem + A]), np.shape(adapter[stem + B])
            if len(a) != 2 or len(b) != 2 or a[0] != b[1] or (b[0], a[1]) != self.shape_of(name):
                raise StoryjaxError(f"{what}: {a} and {b} do not adapt '{name}' of shape {self.shape_of(name)}")

    def __getitem__(self, key: str) -> np.ndarray:
        value = self._base[key]
        if key not in self._pairs:
            return value
        stem = self._pairs[key]
        down, up = (np.asarray(self._adapter[stem + end], np.float32) for end in (A, B))
        return np.asarray(value, np.float32) + np.float32(self._scale) * (up @ down)

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)

    def shape_of(self, key: str) -> tuple[int, ...]:
        """The shape as the base's file states it."""
        known = getattr(self._base, "shape_of", None)
        return tuple(np.shape(self._base[key])) if known is None else known(key)
