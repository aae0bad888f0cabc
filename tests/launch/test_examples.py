"""The finished files in launch/ are what a dry run prints today. `python -m tests.launch.test_examples` writes them again."""

import contextlib
import io
import shlex

import pytest

from storyjax.cli import main
from storyjax.launch.plan import FOLDER

EXAMPLES = sorted(FOLDER.glob("*/example.*"))


def printed_by_its_own_command(text):
    """The file in the dry run of the command that the head of the example names."""
    (command,) = [line for line in text.splitlines() if line.startswith("# storyjax launch ")]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        main([*shlex.split(command)[2:], "--dry-run"])
    return "".join(said.getvalue().splitlines(keepends=True)[1:-1])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_is_what_its_command_prints(path):
    assert path.read_text() == printed_by_its_own_command(path.read_text())


def test_every_target_has_an_example():
    assert [path.parent.name for path in EXAMPLES] == ["gke", "slurm", "tpu_vm"]


if __name__ == "__main__":
    for example in EXAMPLES:
        example.write_text(printed_by_its_own_command(example.read_text()))
