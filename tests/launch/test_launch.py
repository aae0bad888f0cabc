"""A launch runs what its dry run printed, and nothing in a dry run."""

import subprocess

import pytest

from storyjax.cli import main
from storyjax.errors import StoryjaxError
from storyjax.launch.start import launch
from tests.launch.examples import CONFIG, ON, TRAINING, XPK, on_path, program

# The program at the outer end notes its words and what it reads.
NOTE = """{ printf '%s\\0' "$0" "$@"; cat; } >> "$NOTES\""""
CASES = [
    pytest.param("tpu-vm", ON["tpu-vm"], "gcloud", id="tpu-vm"),
    pytest.param("gke", ON["gke"], "kubectl", id="kubectl"),
    pytest.param("gke", XPK, "xpk", id="xpk"),
    pytest.param("slurm", ON["slurm"], "sbatch", id="slurm"),
]


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """All tools of all targets, none of them the real one."""
    for name in ("gcloud", "kubectl", "xpk", "sbatch"):
        program(tmp_path, name, NOTE)
    for name, value in on_path(tmp_path).items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.parametrize(("target", "on", "tool"), CASES)
def test_the_printed_script_does_what_the_launch_does(target, on, tool, programs, capsys):
    launch(target, TRAINING, on, dry_run=True)
    script = capsys.readouterr().out
    assert not (programs / "notes").exists()
    launch(target, TRAINING, on)
    run = (programs / "notes").read_bytes()
    (programs / "notes").unlink()
    subprocess.run(["bash", "-c", script], stdin=subprocess.DEVNULL, check=True)
    assert (programs / "notes").read_bytes() == run
    assert f"/{tool}\0".encode() in run


@pytest.mark.parametrize(("target", "on", "tool"), CASES)
def test_a_start_that_fails_is_told(target, on, tool, programs):
    program(programs, tool, "exit 3")
    with pytest.raises(StoryjaxError, match="ended with status 3"):
        launch(target, TRAINING, on)


def test_the_command_prints_and_starts_nothing(programs, capsys):
    words = ["launch", "slurm", CONFIG, "--workdir", "/home/you/runs/first", "--set", "train.steps=10", "--dry-run"]
    main([*words, "--on", *ON["slurm"]])
    said = capsys.readouterr().out
    assert said.startswith("sbatch << ")
    assert (
        "train configs/contextual_story/cartoon.py --workdir /home/you/runs/first --mesh data=-1 --distributed auto"
        in said
    )
    assert "--set train.steps=10" in said
    assert not (programs / "notes").exists()


@pytest.mark.parametrize(
    ("state", "verbs"),
    [
        ("READY", ["describe", "ssh"]),
        ("", ["describe", "create", "ssh"]),
        ("PREEMPTED", ["describe", "delete", "create", "ssh"]),
    ],
)
def test_a_tpu_vm_is_made_where_there_is_none(state, verbs, programs):
    answer = f"echo {state}" if state else "exit 1"
    program(programs, "gcloud", f"""printf '%s\\0' "$4" >> "$NOTES"; case "$4" in describe) {answer};; esac""")
    launch("tpu-vm", TRAINING, ON["tpu-vm"])
    assert (programs / "notes").read_text().split("\0")[:-1] == verbs


def test_a_container_that_runs_is_followed_and_its_status_handed_on(programs):
    ssh = 'for word; do case "$word" in --command=*) exec bash -c "${word#--command=}";; esac; done'
    program(programs, "gcloud", f'case "$4" in describe) echo READY;; ssh) {ssh};; esac')
    program(programs, "mountpoint", "exit 0")
    program(programs, "sudo", 'exec "$@"')
    program(programs, "docker", 'echo "$1" >> "$NOTES"; case "$1" in ps) echo 4f2a;; wait) echo 5;; esac')
    with pytest.raises(StoryjaxError, match="status 5"):
        launch("tpu-vm", TRAINING, ON["tpu-vm"])
    assert sorted((programs / "notes").read_text().split()) == ["logs", "ps", "wait"]
