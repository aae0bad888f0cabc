"""TPU slices by the names that gcloud and XPK share: how many chips and hosts they have, what GKE calls them.

Generations that the Cloud TPU documentation and XPK (`system_characteristics.py`) list and JAX trains on; the older v2 and v3
are left out. The number in a name counts TensorCores for v4 and v5p, which have two a chip, and chips for the others.
"""

import dataclasses
import math

from storyjax.config import nearest
from storyjax.errors import StoryjaxError


@dataclasses.dataclass(frozen=True)
class Generation:
    """One kind of TPU. `cores` a chip count in the name; `whole` are numbers of chips that one TPU VM can have."""

    cores: int
    kind: str  # GKE's node label
    version: str  # the system of a TPU VM
    topologies: tuple[str, ...]
    whole: tuple[int, ...] = (4,)


_PLANE = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBE = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")

GENERATIONS = {
    "v4": Generation(2, "tpu-v4-podslice", "tpu-ubuntu2204-base", _CUBE),
    "v5p": Generation(2, "tpu-v5p-slice", "v2-alpha-tpuv5", _CUBE),
    "v5litepod": Generation(1, "tpu-v5-lite-podslice", "v2-alpha-tpuv5-lite", _PLANE, (1, 4, 8)),
    "v6e": Generation(1, "tpu-v6e-slice", "v2-alpha-tpuv6e", _PLANE, (1, 4, 8)),
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that are wired to each other. JAX sees one device a chip; there is one process a host."""

    name: str
    chips: int
    topology: str
    generation: Generation

    @property
    def kind(self) -> str:
        """GKE's node label for the generation."""
        return self.generation.kind

    @property
    def hosts(self) -> int:
        """Hosts on GKE, with node pools of machines that have four chips (or the only one)."""
        return self.chips // self.chips_per_host

    @property
    def chips_per_host(self) -> int:
        """Chips of a GKE node."""
        return min(self.chips, 4)

    @property
    def workers(self) -> int:
        """Hosts as a TPU VM: a slice of eight v5e or v6e chips is one machine there."""
        return 1 if self.chips in self.generation.whole else self.chips // 4


def _slices() -> dict[str, Slice]:
    found = {}
    for prefix, generation in GENERATIONS.items():
        for topology in generation.topologies:
            chips = math.prod(map(int, topology.split("x")))
            name = f"{prefix}-{chips * generation.cores}"
            found[name] = Slice(name, chips, topology, generation)
    return found


SLICES = _slices()


def tpu_slice(name: str) -> Slice:
    """The slice of that name. Error: there is none; names the nearest."""
    if name not in SLICES:
        raise StoryjaxError(f"there is no TPU slice '{name}'{nearest(name, list(SLICES))}")
    return SLICES[name]
