"""Look at a user's copy of a published data set before a long build: what is missing or broken, in words."""

import collections
import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path

from storyjax.data.build import builder_class, builder_names, unknown
from storyjax.errors import StoryjaxError
from tfds_builders.layout import Finding, Layout, LayoutError

TOLD = 40  # findings of a kind that are listed


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found. stories: of each split, None where they cannot be told; published: as the papers count them."""

    name: str
    config: str
    folder: Path
    findings: tuple[Finding, ...]
    stories: Mapping[str, int] | None
    published: Mapping[str, int]

    @property
    def whole(self) -> bool:
        """Whether every story can be built."""
        return all(finding.kind == "note" for finding in self.findings)

    def text(self) -> str:
        """The findings, the stories of each split with the papers' numbers beside them, and what to do."""
        kinds = collections.Counter(finding.kind for finding in self.findings)
        lines = [f"{self.name}/{self.config} in '{self.folder}'"]
        for kind in ("missing", "broken", "note"):
            told = [finding.what for finding in self.findings if finding.kind == kind]
            lines += [f"  {kind:<8} {what}" for what in told[:TOLD]]
            lines += [f"  {kind:<8} ... and {len(told) - TOLD} more"] if len(told) > TOLD else []
        for split, count in (self.stories or {}).items():
            papers = f" (papers: {self.published[split]:,})" if split in self.published else ""
            lines.append(f"  {split:<12} {count:>7,} stories{papers}")
        if kinds["missing"]:
            lines.append("A build cannot start; get what is missing, or choose another --config.")
        elif kinds["broken"]:
            lines.append(
                f"{kinds['broken']} broken: a build stops there, or leaves these stories out with --skip-broken."
            )
        else:
            lines.append("Nothing is missing or broken.")
        return "\n".join(lines)


def layout_class(name: str) -> type[Layout] | None:
    """What data set `name` knows of its owners' tree; None for one that is drawn by code."""
    try:
        module = importlib.import_module(f"tfds_builders.{name}.layout")
    except ModuleNotFoundError as error:
        if error.name != f"tfds_builders.{name}.layout":
            raise
        return None
    found = (value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Layout))
    return next((value for value in found if value.__module__ == module.__name__), None)


def recognise(folder: Path) -> str:
    """The name of the data set whose tree lies at `folder`. Errors: none or several look like it."""
    layouts = {name: layout for name in builder_names() if (layout := layout_class(name)) is not None}
    found = [name for name, layout in layouts.items() if layout.recognises(folder)]
    if len(found) == 1:
        return found[0]
    like = f"looks like {' and '.join(found)}" if found else f"looks like none of {', '.join(layouts)}"
    raise StoryjaxError(f"'{folder}' {like}; say which it is with --name")


def check(folder: str | Path, name: str | None = None, config: str | None = None, *, pictures: bool = False) -> Report:
    """Look at the tree at `folder`; nothing is written.

    Args:
        folder: the user's copy of a data set.
        name: which data set; None recognises it by the names of its files.
        config: which configuration of its builder, since they read different files; None is the first.
        pictures: decode every picture, too; otherwise names and indices are looked at.

    Errors (StoryjaxError): no such folder, an unknown name or configuration, a tree that is not recognised.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise StoryjaxError(f"'{folder}' must be the folder of a data set's files, and is no folder; check the path")
    name = name or recognise(folder)
    configs = [entry.name for entry in builder_class(name).BUILDER_CONFIGS]
    config = config or configs[0]
    if config not in configs:
        raise unknown(f"configuration of {name}", config, configs)
    cls = layout_class(name)
    if cls is None:
        raise StoryjaxError(f"{name} is drawn by code and reads no files; nothing is there to check")
    layout = cls(folder, config)
    findings = tuple(layout.check(pictures=pictures))
    return Report(name, config, folder, findings, _stories(layout), cls.published)


def _stories(layout: Layout) -> dict[str, int] | None:
    try:
        return {split: len(keys) for split, keys in layout.splits().items()}
    except LayoutError:
        return None  # the findings say why
