"""The Dockerfiles: known instructions, sources that exist, pinned bases, an entry point that is in the image."""

import json
import re
import subprocess
from pathlib import PurePosixPath

import pytest

from storyjax.launch.plan import CHECKOUT, FOLDER, IN_IMAGE

DOCKERFILES = sorted(FOLDER.glob("docker/*.Dockerfile"))
KNOWN = {
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "RUN",
    "USER",
    "WORKDIR",
}


def instructions(text):
    """(instruction, arguments) line by line, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def of(path, name):
    return [arguments for instruction, arguments in instructions(path.read_text()) if instruction == name]


def copies(path):
    """(source in the checkout, place in the image)"""
    for arguments in of(path, "COPY"):
        *sources, place = arguments.split()
        for source in sources:
            inside = PurePosixPath(IN_IMAGE) / place
            yield source, inside / source if place.endswith("/") else inside


def test_there_is_one_for_each_accelerator():
    assert [path.name for path in DOCKERFILES] == ["gpu.Dockerfile", "tpu.Dockerfile"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_docker_knows_every_instruction(path):
    names = [name for name, _ in instructions(path.read_text())]
    assert set(names) <= KNOWN
    assert names[0] == "FROM"
    assert (names.count("ENTRYPOINT"), names.count("CMD")) == (1, 1)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_the_base_is_pinned_to_the_python_of_the_lock(path):
    (base,) = of(path, "FROM")
    version = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-\w+", base)
    assert version, f"{base} is not pinned to a release"
    assert f"for Python {version[1]} on Linux" in (CHECKOUT / "requirements.lock").read_text()


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_what_is_copied_exists_and_is_everything_that_is_installed(path):
    copied = dict(copies(path))
    assert not [source for source in copied if not (CHECKOUT / source).exists()]
    packages = re.findall(r"^    (\w+)\*$", (CHECKOUT / "setup.cfg").read_text(), re.MULTILINE)
    assert {*packages, "launch", "setup.cfg", "pyproject.toml", "requirements.lock"} <= set(copied)
    assert all(place.is_relative_to(IN_IMAGE) and place.name == source for source, place in copied.items())


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_the_entry_point_is_what_every_host_runs(path):
    (entry,) = of(path, "ENTRYPOINT")
    words = json.loads(entry)
    assert words == ["bash", f"{IN_IMAGE}/launch/host.sh", path.stem]
    assert of(path, "WORKDIR") == [IN_IMAGE]
    assert json.loads(of(path, "CMD")[0])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_bash_can_read_every_command(path):
    for command in of(path, "RUN"):
        assert subprocess.run(["bash", "-n"], input=command.encode(), check=False).returncode == 0


@pytest.mark.parametrize(("path", "extra"), list(zip(DOCKERFILES, ["cuda12", "tpu"])))
def test_the_lock_and_the_accelerator_are_installed_together(path, extra):
    """So that the extra is that of the version in the lock."""
    assert f'pip install --no-cache-dir -r requirements.lock "jax[{extra}]"' in of(path, "RUN")
