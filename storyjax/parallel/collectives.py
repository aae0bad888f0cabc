"""What a compiled program says to its neighbours: the collective operations in its HLO, in bytes.

    payload   the whole array on one device: what an all-gather ends with, what a reduce-scatter begins with, else either
    sent      what a device must send in a ring of g devices: all-gather, reduce-scatter, all-to-all (g - 1)/g of the payload,
              all-reduce twice that (Patarasuk & Yuan 2009), a permute all of it

Shapes in the HLO of a partitioned program are one device's. The body of a loop counts as often as the loop runs, where XLA has
found that out; of a conditional the branch that sends most.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from storyjax.errors import StoryjaxError

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all", "collective-broadcast")
_BITS = {"pred": 8, "token": 0, "opaque": 0, "c64": 64, "c128": 128}  # the others have them in their name

_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,<=]*)\]")
_COLLECTIVE = re.compile(rf" ({'|'.join(KINDS)})(-start)?\(")
_NAME = r"%?([\w.\-]+)"
_COMPUTATION = re.compile(rf"^(ENTRY )?{_NAME} .*\{{$")
_CALLED = re.compile(rf"\b(body|condition|calls|to_apply|true_computation|false_computation)={_NAME}")
_CALLED_LIST = re.compile(r"\b(branch_computations|called_computations)=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"?(\d+)"?\}')
_GROUP_LISTS = re.compile(r"replica_groups=\{(\{[^}]*\})?")
_GROUP_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[")
_GROUP_AXES = re.compile(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}")  # mesh['x'=2,'y'=4] {'y'}
_PARTITIONS = re.compile(r"\bnum_partitions=(\d+)")
_REPLICAS = re.compile(r"\breplica_count=(\d+)")


@dataclasses.dataclass(frozen=True)
class Array:
    """What passes: dtype in HLO's words, and the shape on one device."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        digits = re.search(r"\d+", self.dtype)
        bits = _BITS[self.dtype] if self.dtype in _BITS else int(digits.group()) if digits else 0
        return math.prod(self.shape) * bits // 8


@dataclasses.dataclass(frozen=True)
class Collective:
    """One operation of the program. `results` are what each device ends with; `group`, how many devices take part in it."""

    kind: str
    results: tuple[Array, ...]
    group: int
    times: int = 1  # executions in one run of the program
    exact: bool = True  # False: inside a loop whose length XLA does not know, counted as one round

    @property
    def payload(self) -> int:
        """Bytes of all executions together."""
        whole = sum(array.bytes for array in self.results) * (self.group if self.kind == "reduce-scatter" else 1)
        return whole * self.times

    @property
    def sent(self) -> float:
        """Bytes that a device must send, of all executions together."""
        others = (self.group - 1) / self.group
        share = {"all-reduce": 2 * others, "collective-permute": 1.0, "collective-broadcast": 1.0}
        return self.payload * share.get(self.kind, others)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """All collectives of one kind: executions, and bytes of one device in one run of the program."""

    count: int = 0
    payload: int = 0
    sent: float = 0.0


def communication(program: Any) -> dict[str, Traffic]:
    """Kind -> traffic of a compiled program (`jax.jit(f).lower(...).compile()`) or its HLO text."""
    found: dict[str, Traffic] = {}
    for one in collectives(program):
        before = found.get(one.kind, Traffic())
        found[one.kind] = Traffic(before.count + one.times, before.payload + one.payload, before.sent + one.sent)
    return found


def collectives(program: Any) -> list[Collective]:
    """Every collective operation among two devices or more, in the order of the text."""
    text = program if isinstance(program, str) else program.as_text()
    devices = _devices(text)
    return [one for one in _Module.parse(text).walk(devices) if one.group > 1]


# ----- the text ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Module:
    computations: dict[str, list[str]]
    entry: str

    @classmethod
    def parse(cls, text: str) -> "_Module":
        computations: dict[str, list[str]] = {}
        entry, lines = "", None
        for line in text.splitlines():
            header = None if line[:1] in (" ", "}", "") or line.startswith("HloModule") else _COMPUTATION.match(line)
            if header:
                lines = computations.setdefault(header.group(2), [])
                entry = header.group(2) if header.group(1) else entry
            elif line.startswith("}"):
                lines = None
            elif lines is not None:
                lines.append(line)
        return cls(computations, entry)

    def walk(self, devices: int, name: str | None = None) -> Iterator[Collective]:
        """The collectives that one execution of a computation makes."""
        for line in self.computations.get(self.entry if name is None else name, []):
            if (found := _COLLECTIVE.search(line)) is not None:
                kind, start = found.groups()
                yield Collective(kind, _results(kind, line[: found.start()], bool(start)), _group(kind, line, devices))
                continue
            if " async-done(" in line or " async-update(" in line:
                continue  # they repeat the name of what their -start calls
            if " conditional(" in line:
                yield from self._largest(devices, _called(line))
                continue
            for called in _called(line):
                yield from _repeated(self.walk(devices, called), line)

    def _largest(self, devices: int, branches: Iterable[str]) -> list[Collective]:
        taken = [list(self.walk(devices, branch)) for branch in branches]
        return max(taken, key=lambda found: sum(one.payload for one in found), default=[])


def _called(line: str) -> list[str]:
    names = [name for _, name in _CALLED.findall(line)]
    for _, several in _CALLED_LIST.findall(line):
        names += re.findall(_NAME, several)
    return names


def _repeated(inner: Iterable[Collective], line: str) -> Iterator[Collective]:
    """As often as the loop of this line runs; other calls run once."""
    if " while(" not in line:
        yield from inner
        return
    trips = _TRIPS.search(line)
    for one in inner:
        times = one.times * int(trips.group(1)) if trips else one.times
        yield dataclasses.replace(one, times=times, exact=one.exact and trips is not None)


def _results(kind: str, before: str, start: bool) -> tuple[Array, ...]:
    """The arrays of a result's type. That of a -start holds operands first, then results, then contexts of one number.

    Only an all-reduce-start gives its results alone.
    """
    typed = re.sub(r"/\*.*?\*/", "", before.partition(" = ")[2])
    arrays = [Array(dtype, _shape(sizes)) for dtype, sizes in _ARRAY.findall(typed)]
    if start and kind != "all-reduce":
        while len(arrays) > 2 and arrays[-1].dtype in ("u32", "s32") and not arrays[-1].shape:
            arrays.pop()
        arrays = arrays[len(arrays) // 2 :]
    return tuple(arrays)


def _shape(sizes: str) -> tuple[int, ...]:
    return tuple(int(size.lstrip("<=")) for size in sizes.split(",") if size)


def _group(kind: str, line: str, devices: int) -> int:
    if kind == "collective-permute":
        return devices
    if iota := _GROUP_IOTA.search(line):  # [groups, size]<=[devices], as XLA shortens regular lists
        return int(iota.group(1).split(",")[-1])
    if axes := _GROUP_AXES.search(line):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", axes.group(1)))
        return math.prod(int(sizes[name]) for name in re.findall(r"'([^']+)'", axes.group(2)))
    first = _GROUP_LISTS.search(line)
    if first and first.group(1):
        return len(first.group(1).split(","))
    if "replica_groups=" in line and first is None:
        raise StoryjaxError(
            f"expected replica groups as lists, as [groups,size]<=[...] or as axes of a mesh, got '{line.strip()}'"
        )
    return devices  # none given: one group of all


def _devices(text: str) -> int:
    header = text.partition("\n")[0]
    counts = [int(found.group(1)) for pattern in (_PARTITIONS, _REPLICAS) if (found := pattern.search(header))]
    return math.prod(counts)
