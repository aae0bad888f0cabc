"""Build a data set of `tfds_builders/` into `array_record` files, without TensorFlow."""

import contextlib
import difflib
import functools
import importlib
import inspect
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tfds_builders
from storyjax.errors import StoryjaxError
from tfds_builders.layout import BrokenStory, LayoutError


def default_data_dir() -> Path:
    """Where data sets live: `$STORYJAX_DATA`, or `~/.cache/storyjax/data`."""
    return Path(os.environ.get("STORYJAX_DATA") or "~/.cache/storyjax/data").expanduser()


def builder_names() -> list[str]:
    """Names of the data sets that can be built: folders with a `<name>_dataset_builder.py`."""
    folders = (folder for root in tfds_builders.__path__ for folder in Path(root).iterdir())
    return sorted(folder.name for folder in folders if (folder / f"{folder.name}_dataset_builder.py").is_file())


def unknown(kind: str, name: str, known: list[str]) -> StoryjaxError:
    """The error for a name that is none of `known`; it names the nearest."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}"
    return StoryjaxError(f"{kind} must be one of {', '.join(known) or 'none'}, got {name!r}; {hint}")


def builder_class(name: str) -> type:
    """The TFDS builder class of data set `name`; an unknown name is an error that names the nearest."""
    if name not in builder_names():
        raise unknown("data set", name, builder_names())
    import tensorflow_datasets as tfds  # 1.5 s; an error above should not wait for it

    module = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder")
    for value in vars(module).values():
        if (
            inspect.isclass(value)
            and issubclass(value, tfds.core.DatasetBuilder)
            and value.__module__ == module.__name__
        ):
            return value
    raise StoryjaxError(
        f"{module.__name__} must define a tfds.core.DatasetBuilder, found none; add its builder class there"
    )


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Hide TFDS's own progress bars, which know no totals; builders show one bar per split."""
    from tensorflow_datasets.core.utils import tqdm_utils

    tqdm_utils.disable_progress_bar()
    try:
        yield
    finally:
        tqdm_utils.enable_progress_bar()


@contextlib.contextmanager
def _set_aside(folder: Path) -> Iterator[None]:
    """Keep an existing `folder` beside while a new one is made; drop it on success, put it back on any error."""
    kept = folder.with_name(f"{folder.name}.before")
    if folder.is_dir():
        folder.rename(kept)
    try:
        yield
    except BaseException:
        if kept.is_dir():
            kept.rename(folder)
        raise
    if kept.is_dir():
        shutil.rmtree(kept)


def build(
    name: str,
    data_dir: str | Path | None = None,
    config: str | None = None,
    processes: int | None = None,
    overwrite: bool = False,
    manual_dir: str | Path | None = None,
    skip_broken: bool = False,
) -> Path:
    """Build data set `name` and return the folder that `tfds.builder_from_directory` reads.

    A finished data set is left as it is. One that was broken off is never taken for finished: TFDS writes beside
    (`...incomplete...`) and renames when everything is written.

    Args:
        name: a folder of `tfds_builders/`.
        data_dir: root of all data sets; None is `default_data_dir()`.
        config: name of one of the builder's configurations; None is its first.
        processes: drawing or reading processes, for builders that use several; None lets the builder choose.
        overwrite: build again, and replace the old data set once the new one is complete.
        manual_dir: the user's copy of a published data set, for builders that read one.
        skip_broken: leave out stories that cannot be built and list them at the end; otherwise the first is an error.
    """
    cls = builder_class(name)
    configs = [entry.name for entry in cls.BUILDER_CONFIGS]
    if config is not None and config not in configs:
        raise unknown(f"configuration of {name}", config, configs)
    if processes is not None and processes < 1:
        raise StoryjaxError(f"processes must be at least 1, got {processes}; leave it out to use every core")
    options = _options(cls, processes, manual_dir, skip_broken)
    root = Path(data_dir).expanduser() if data_dir else default_data_dir()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoryjaxError(
            f"data_dir must be a folder that can be written, got {root}: {error.strerror}; choose another"
        ) from error
    make = functools.partial(cls, data_dir=root, config=config, file_format="array_record", **options)
    folder = Path(make().data_dir)
    for leftover in sorted(folder.parent.glob(f"{folder.name}.incomplete*")):
        print(
            f"{leftover} is left over from a build that was broken off, or of one still running; delete it if none runs"
        )
    if folder.is_dir() and not overwrite:
        return folder
    import tensorflow_datasets as tfds

    files = tfds.download.DownloadConfig(manual_dir=Path(manual_dir).expanduser() if manual_dir else None)
    try:
        with _set_aside(folder), _quiet_tfds():
            make().download_and_prepare(download_config=files)
    except (BrokenStory, LayoutError) as error:
        raise StoryjaxError(f"{name} is not built: {error}") from error
    return folder


def _options(cls: type, processes: int | None, manual_dir: str | Path | None, skip_broken: bool) -> dict[str, Any]:
    """What the builder's own arguments become. Errors: it reads no files of the user's, or they are not there."""
    known = inspect.signature(cls.__init__).parameters
    if (manual_dir or skip_broken) and "skip_broken" not in known:
        raise StoryjaxError(f"{cls.__name__} reads no files of yours; leave out --manual-dir and --skip-broken")
    if manual_dir and not Path(manual_dir).expanduser().is_dir():
        raise StoryjaxError(
            f"manual_dir must be the folder of your copy, and '{manual_dir}' is no folder; check the path"
        )
    options: dict[str, Any] = {"processes": processes} if "processes" in known else {}
    return options | ({"skip_broken": True} if skip_broken else {})
