"""What a launch does: one command and the file it reads; shown as a shell script, or run."""

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from storyjax.errors import StoryjaxError
from storyjax.launch import shell

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / "launch"
SHARED = "/shared"  # where the hosts of TPU VMs and GKE have the shared folder
IN_IMAGE = "/storyjax"  # where the images have the checkout

# Where to get a program that is missing.
SOURCES = {
    "gcloud": "it is the Google Cloud CLI, https://cloud.google.com/sdk/docs/install; then: gcloud auth login",
    "kubectl": "with the Google Cloud CLI: gcloud components install kubectl gke-gcloud-auth-plugin",
    "xpk": "with Python: pip install xpk",
    "sbatch": "it is Slurm's; log in to a login node of the cluster and start from there",
    "bash": "install it with the system's package manager",
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """`words` are run with `file` as their standard input; `tools` are the programs that must be there."""

    words: tuple[str, ...]
    tools: tuple[str, ...]
    file: str = ""

    def script(self) -> str:
        """A shell script that does the same: the command, with the file as a here-document."""
        line = shell.join(self.words)
        if not self.file:
            return line + "\n"
        end = "END_OF_FILE"
        while end in self.file.splitlines():
            end += "_"
        return f"{line} << '{end}'\n{self.file}{end}\n"

    def run(self) -> int:
        """Run it and return the exit status. Error: a program that is not on the PATH; nothing has been started then."""
        missing = [tool for tool in self.tools if not shutil.which(tool)]
        if missing:
            raise StoryjaxError("; ".join(f"there is no '{tool}' on the PATH: {SOURCES[tool]}" for tool in missing))
        sys.stdout.flush()
        return subprocess.run(self.words, input=self.file.encode() or None, check=False).returncode


def render(template: str, values: Mapping[str, Any]) -> str:
    """A file of `launch/`, such as "slurm/train.sbatch.j2", filled in."""
    if not (FOLDER / template).is_file():
        raise StoryjaxError(
            f"there is no '{FOLDER / template}'; `storyjax launch` needs the checkout of storyjax, installed with "
            "pip install --editable"
        )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {"quote": shell.quote, "join_words": shell.join, "yaml": shell.yaml}
    return environment.get_template(template).render(values)
