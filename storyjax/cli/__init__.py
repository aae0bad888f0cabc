"""The command `storyjax`. Every verb is a thin shell around a public function; mistakes become one line."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import tyro

from storyjax.cli import data
from storyjax.cli.checkpoints import convert, export
from storyjax.cli.drawing import generate, image
from storyjax.cli.scoring import evaluate
from storyjax.cli.training import launch, train
from storyjax.errors import StoryjaxError

app = tyro.extras.SubcommandApp()
for verb in (generate, image, train, evaluate, convert, export, launch):
    app.command(verb)
data_app = tyro.extras.SubcommandApp()
for verb in (data.build, data.bench, data.check):
    data_app.command(verb)
app.command(
    data_app, name="data", help="Data sets: build one, check a copy of one before that, measure how fast it is read."
)


def main(args: list[str] | None = None) -> None:
    """Entry point: run the verb; a user's mistake is one line on stderr and exit status 2."""
    _use_compile_cache()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            app.cli(prog="storyjax", args=args)
        except StoryjaxError as error:
            sys.exit(_fail(error))


def _fail(error: StoryjaxError) -> int:
    print(f"storyjax: {error}", file=sys.stderr)
    return 2


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """What concerns the user's input as one line, without the place in the code; the rest as Python shows it."""
    if issubclass(category, UserWarning):
        print(f"storyjax: warning: {message}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _use_compile_cache() -> None:
    """Compiled programs are kept between runs, unless the environment says otherwise."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / "storyjax" / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1")
