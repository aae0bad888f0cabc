"""What the tests of builders that read the user's files share."""

import shutil
from pathlib import Path

from storyjax.data.build import build


def build_from(name: str, tree: Path, data_dir: Path, config: str, skip_broken: bool = False) -> Path:
    """The folder of data set `name`, built of `tree` in this process."""
    return build(name, data_dir, config, processes=1, manual_dir=tree, skip_broken=skip_broken)


def names(folder: Path) -> set[str]:
    """Files below `folder`, relative to it."""
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def copy_of(tree: Path, folder: Path) -> Path:
    """A copy of a tree, to be spoiled."""
    return Path(shutil.copytree(tree, folder))


def findings(layout, kind: str, **options) -> list[str]:
    """What `check` says of one kind."""
    return [finding.what for finding in layout.check(**options) if finding.kind == kind]


def cut_off(file: Path) -> None:
    """Leave the first half of a file."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
