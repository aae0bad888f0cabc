"""The mesh: all devices along four named axes, from a short text such as "data=2,fsdp=4".

    data    copies of the model, each with its share of the stories
    fsdp    the same, and parameters, optimizer state and averages are cut into as many pieces (ZeRO, Rajbhandari et al. 2020)
    frame   the frames of each story are divided
    tensor  heads and inner widths of attention and feed-forward are divided (Shoeybi et al. 2019)

Axes are Auto: the compiler places what no rule (`rules.py`) and no named layout (`layouts.py`) has placed.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from storyjax.config import nearest
from storyjax.errors import StoryjaxError

AXES = ("data", "fsdp", "frame", "tensor")  # outermost first: the innermost talks most and gets the nearest devices
STORIES = ("data", "fsdp")  # the axes that divide a batch
REST = -1


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """Devices along each axis; -1, at most once, takes all that are left."""

    data: int = 1
    fsdp: int = 1
    frame: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        for axis, size in self.sizes.items():
            if size < 1 and size != REST:
                raise StoryjaxError(f"mesh: axis {axis} must be 1 or more, or -1 for the rest, got {size}")
        if list(self.sizes.values()).count(REST) > 1:
            raise StoryjaxError(f"mesh: only one axis may be -1 (the rest), got {self}")

    @classmethod
    def parse(cls, text: str) -> "MeshShape":
        """From "data=2,fsdp=4"; axes that are not named have size 1."""
        sizes: dict[str, int] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            axis, _, size = (piece.strip() for piece in part.partition("="))
            if axis not in AXES:
                raise StoryjaxError(f"mesh '{text}': there is no axis '{axis}'{nearest(axis, list(AXES))}")
            if axis in sizes:
                raise StoryjaxError(f"mesh '{text}': axis {axis} stands there twice")
            try:
                sizes[axis] = int(size)
            except ValueError:
                raise StoryjaxError(f"mesh '{text}': expected {axis}=NUMBER, got '{part}'") from None
        return cls(**sizes)

    @property
    def sizes(self) -> dict[str, int]:
        """Axis -> size, -1 as it was given."""
        return {axis: getattr(self, axis) for axis in AXES}

    def over(self, devices: int) -> "MeshShape":
        """The same with -1 replaced. Error: the product is not the number of devices; names the nearest shape that fits."""
        fixed = math.prod(size for size in self.sizes.values() if size != REST)
        rest = devices // fixed
        filled = {axis: rest if size == REST else size for axis, size in self.sizes.items()}
        if math.prod(filled.values()) != devices or not rest:
            raise StoryjaxError(
                f"mesh '{self}' does not fit {devices} device{'s' if devices > 1 else ''}; "
                f"the nearest that does is '{self._nearest(devices)}'"
            )
        return MeshShape(**filled)

    def _nearest(self, devices: int) -> "MeshShape":
        """The factorisation of `devices` over the asked axes that is closest in ratio, axis by axis."""
        asked = {axis: size for axis, size in self.sizes.items() if size != 1} or {"data": 1}

        def distance(sizes: tuple[int, ...]) -> float:
            pairs = zip(sizes, asked.values())
            return sum(abs(math.log(size / wanted)) for size, wanted in pairs if wanted != REST)

        best = min(_factorisations(devices, len(asked)), key=distance)
        return MeshShape(**dict(zip(asked, best)))

    def __str__(self) -> str:
        """As it is written: only axes larger than 1, or "data=1"."""
        return ",".join(f"{axis}={size}" for axis, size in self.sizes.items() if size != 1) or "data=1"


def make_mesh(shape: MeshShape | str = "data=-1", devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of all devices of all processes (or of `devices`), neighbours by the machine's own topology.

    Errors: a text that is no mesh, a shape that does not fit the devices.
    """
    given = MeshShape.parse(shape) if isinstance(shape, str) else shape
    found = list(jax.devices() if devices is None else devices)
    sizes = given.over(len(found)).sizes
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes), devices=found)


def shape_of(mesh: Mesh) -> MeshShape:
    """The shape of a mesh made here."""
    return MeshShape(**{axis: mesh.shape[axis] for axis in AXES})


def check_batch(mesh: Mesh, batch_size: int, accumulation: int = 1) -> None:
    """Error unless every micro-batch divides over the axes that share stories."""
    shares = math.prod(mesh.shape[axis] for axis in STORIES)
    micro = batch_size // accumulation
    if micro % shares:
        fitting = max(1, round(micro / shares)) * shares * accumulation
        parts = f" in {accumulation} micro-batches" if accumulation > 1 else ""
        raise StoryjaxError(
            f"a batch of {batch_size} stories{parts} does not divide over the {shares} shares of mesh '{shape_of(mesh)}' "
            f"(data x fsdp); take train.batch_size={fitting}, or a mesh with fewer shares"
        )


def check_frames(mesh: Mesh, frames: int) -> None:
    """Error unless the frames of a story divide over the axis `frame`."""
    parts = mesh.shape["frame"]
    if frames % parts:
        fitting = max(divisor for divisor in range(1, frames + 1) if frames % divisor == 0 and divisor <= parts)
        raise StoryjaxError(
            f"stories of {frames} frames do not divide over frame={parts} of mesh '{shape_of(mesh)}'; "
            f"the largest that does is frame={fitting}"
        )


def _factorisations(number: int, axes: int) -> Iterator[tuple[int, ...]]:
    """All tuples of `axes` whole numbers whose product is `number`."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    for head in itertools.product(divisors, repeat=axes - 1):
        last, left = divmod(number, math.prod(head))
        if not left:
            yield (*head, last)
