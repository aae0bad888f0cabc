"""Results of a comparison, kept as JSON, and the table made of them."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.parity.cases import CASES, Case
from storyjax.errors import StoryjaxError

BOUNDS = {"float32": 1e-4, "bfloat16": 2e-2}
DTYPES = tuple(BOUNDS)
BEGIN, END = "<!-- parity table: begin -->", "<!-- parity table: end -->"
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Result:
    """What both sides said about one network. `jax`: by dtype."""

    torch: dict[str, Any]
    jax: dict[str, dict[str, Any]]
    file_bytes: int

    @classmethod
    def collect(cls, folder: Path) -> "Result":
        """From the files that the two sides left beside the weights."""
        told = {dtype: json.loads((folder / f"jax_{dtype}.json").read_text()) for dtype in DTYPES}
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        return cls(json.loads((folder / "torch.json").read_text()), told, weights)

    def as_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    @property
    def parameters(self) -> int:
        """As the original library counts them, tensors that never count included."""
        return self.torch["parameters"]

    def error(self, dtype: str) -> float:
        """The largest of all outputs."""
        return max(self.jax[dtype]["errors"].values())


def read(folder: Path, case: Case) -> Result | None:
    """The result of a case, or None where there is none yet."""
    file = folder / f"{case.name}.json"
    return Result(**json.loads(file.read_text())) if file.is_file() else None


def too_large(case: Case, result: Result) -> list[str]:
    """A line for every output whose error is above its bound; NaN is."""
    return [
        f"{case.title}: {output} in {dtype} is {error:.2e} off, allowed {BOUNDS[dtype]:.0e}"
        for dtype in DTYPES
        for output, error in result.jax[dtype]["errors"].items()
        if not error <= BOUNDS[dtype]
    ]


def table(results: Mapping[str, Result]) -> str:
    """Markdown: one row for each network that has a result, then what was run on what, then the networks without one."""
    if not results:
        return "Nothing has been measured yet: `make parity` fills this table."
    lines = [
        "| network | parameters (M) | error float32 | error bfloat16 | file (GiB) | load (s) | run (s) | PyTorch's run (s) "
        "| memory while loading (GiB) | largest memory (GiB) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_row(case, results[case.name]) for case in CASES if case.name in results]
    lines += ["", *_conditions(results)]
    missing = [case.title for case in CASES if case.name not in results]
    return "\n".join(lines + ([f"Not measured yet: {'; '.join(missing)}."] if missing else []))


def _row(case: Case, result: Result) -> str:
    single = result.jax["float32"]
    cells = [
        case.title,
        f"{result.parameters / 1e6:,.1f}",
        *(f"{result.error(dtype):.1e}" for dtype in DTYPES),
        f"{result.file_bytes / GIB:.2f}",
        *(f"{seconds:.1f}" for seconds in (single["load_seconds"], single["run_seconds"], result.torch["run_seconds"])),
        f"{single['bytes_loaded'] / GIB:.2f}",
        f"{single['peak_bytes'] / GIB:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _conditions(results: Mapping[str, Result]) -> list[str]:
    """The machines and versions, each combination once."""
    found = []
    for result in results.values():
        single = result.jax["float32"]
        versions = ", ".join(
            f"{name} {version}" for name, version in (single["versions"] | result.torch["versions"]).items()
        )
        line = f"Measured on {single['device']}, with {versions}."
        if line not in found:
            found.append(line)
    return found


def region(page: Path) -> tuple[str, str]:
    """What stands before and after the marked region of a page. Error: no page, or one without the marks."""
    if not page.is_file():
        raise StoryjaxError(f"no page '{page}'; name one that has a place for the table")
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise StoryjaxError(f"'{page}' has no place for the table; expected one line '{BEGIN}' and, below, one '{END}'")
    return text.split(BEGIN)[0], text.split(END)[1]


def write_into(page: Path, content: str) -> None:
    """Replace what stands between the two marks of a page."""
    before, after = region(page)
    page.write_text(f"{before}{BEGIN}\n{content}\n{END}{after}", encoding="utf-8")
