"""What a build on Apache Beam is asked for, in the words of TFDS and Beam. Imported only then: it needs apache_beam."""

import argparse
import contextlib
import io
from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions  # pyright: ignore[reportMissingImports]
from apache_beam.options.pipeline_options_validator import (  # pyright: ignore[reportMissingImports]
    PipelineOptionsValidator,
)
from apache_beam.runners import create_runner  # pyright: ignore[reportMissingImports]

from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from tfds_builders.ordered import SHARD_BYTES

NAMES = {"direct": "DirectRunner", "dataflow": "DataflowRunner", "flink": "FlinkRunner"}
PROCESSES = {"dataflow": "max_num_workers", "flink": "parallelism"}  # what clusters call it


def download_options(runner: str, options: Sequence[str] = (), processes: int | None = None) -> dict[str, Any]:
    """The arguments of `tfds.download.DownloadConfig` for a build by `runner`, one of `NAMES`.

    `options` are Beam's own, as "key=value" or, for a switch, "key"; they are passed through. `processes` are those of the
    direct runner (None: one); the others have options of their own for that.

    Errors: an option that Beam does not know or cannot read, or one that the runner needs and that is not given.
    """
    flags = [_flag(option) for option in options]
    if runner == "direct":
        defaults = ["--default_sdk_harness_log_level=WARNING"]
        if processes and processes > 1:
            defaults += [f"--direct_num_workers={processes}", "--direct_running_mode=multi_processing"]
        flags = defaults + flags
    elif processes is not None:
        raise StoryjaxError(
            f"processes are those of this machine; for {runner} give its own option, such as {PROCESSES[runner]}={processes}"
        )
    return {
        "beam_runner": NAMES[runner],
        "beam_options": _read(runner, flags),
        "max_shard_size": SHARD_BYTES,
    }


def _flag(option: str) -> str:
    """The option as Beam's command line has it. Errors: it is none, or Beam does not know it."""
    name, _, _ = option.removeprefix("--").partition("=")
    if not name.isidentifier():
        raise StoryjaxError(f"a Beam option is key=value, such as direct_num_workers=4, got {option!r}")
    known = _known()
    if name not in known:
        raise StoryjaxError(f"Apache Beam has no option '{name}'{nearest(name, sorted(known))}")
    return f"--{option.removeprefix('--')}"


def _read(runner: str, flags: Sequence[str]) -> PipelineOptions:
    options = PipelineOptions([f"--runner={NAMES[runner]}", *flags])
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            options.get_all_options()
    except SystemExit:  # argparse says which value it is in the last line, after hundreds of others
        said = printed.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise StoryjaxError(f"Apache Beam cannot read its options: {said}") from None
    wrong = PipelineOptionsValidator(options, create_runner(NAMES[runner])).validate()
    if wrong:
        raise StoryjaxError(f"{runner} does not run with these options: {'; '.join(wrong)}")
    return options


def _known() -> set[str]:
    """The names of all options that this version of Beam knows, collected as Beam itself does."""
    parser: Any = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    return {flag.lstrip("-") for action in parser._actions for flag in action.option_strings}
