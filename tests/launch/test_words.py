"""The words of a configuration override arrive on the hosts as they were given, whatever they hold and however they travel."""

import re
import subprocess

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storyjax.errors import StoryjaxError
from storyjax.launch import shell
from storyjax.launch.start import plan
from storyjax.launch.training import Training
from tests.launch.examples import CONFIG, ON, XPK, noted, on_path, program

AWKWARD = [
    "$HOME",
    "$$",
    "$(id)",
    "`id`",
    "'",
    '"',
    "\\",
    "\n",
    "\r\n",
    "!",
    "#",
    "{{ x }}",
    "%j",
    "é",
    "🪁",
    "\x7f",
    "\x85",
    " ",
]
WORDS = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
        st.lists(st.sampled_from(AWKWARD), max_size=6).map("".join),
    ),
    min_size=1,
    max_size=6,
)
NOTE = """printf '%s\\0' "$@" > "$NOTES\""""
SHELLS = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def training(changes):
    return Training(CONFIG, "/shared/a folder/$runs", tuple(changes))


def expanded_by_kubernetes(text, variables):
    """What a container gets: $(NAME) replaced where NAME is a variable, $$ read as $."""
    return re.sub(
        r"\$(\$|\((\w+)\))", lambda found: "$" if found[1] == "$" else variables.get(found[2], found[0]), text
    )


@pytest.fixture
def programs(tmp_path):
    return tmp_path


@SHELLS
@given(WORDS)
def test_bash_splits_a_line_into_its_words(programs, words):
    line = shell.join(words)
    assert len(line.splitlines()) == 1
    printed = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout
    assert printed.decode().split("\0")[:-1] == words


@SHELLS
@given(WORDS)
def test_words_arrive_through_slurm(programs, changes):
    program(programs, "sbatch", 'exec bash -s "$@"')  # as slurmd runs the script it was given
    program(programs, "srun", NOTE)
    chosen = plan("slurm", training(changes), (*ON["slurm"], "image=docker://storyjax", "shared=/shared"))
    subprocess.run(["bash", "-c", chosen.script()], env=on_path(programs), check=True)
    start = noted(programs).index("bash")
    assert noted(programs)[start:] == [
        *("bash", "launch/host.sh", "gpu"),
        *training(changes).words(distributed=True),
    ]


@SHELLS
@given(WORDS)
def test_words_arrive_on_a_tpu_vm(programs, changes):
    ssh = (
        'for word; do case "$word" in --command=*) exec bash -c "${word#--command=}";; esac; done'  # as ssh hands it on
    )
    program(programs, "gcloud", f'case "$*" in *describe*) echo READY;; *ssh*) {ssh};; esac')
    program(programs, "mountpoint", "exit 0")
    program(programs, "sudo", 'exec "$@"')
    program(programs, "docker", f"""case "$1" in run) {NOTE};; wait) echo 0;; esac""")
    chosen = plan("tpu-vm", training(changes), ON["tpu-vm"])
    subprocess.run(["bash", "-c", chosen.script()], env=on_path(programs), check=True)
    assert noted(programs)[noted(programs).index("train") :] == training(changes).words(distributed=True)


@SHELLS
@given(WORDS)
def test_words_arrive_through_a_jobset(changes):
    chosen = plan("gke", training(changes), ON["gke"])
    manifest = yaml.safe_load(chosen.file)
    container = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]
    arrived = [expanded_by_kubernetes(word, {"HOME": "/root", "id": "0"}) for word in container["args"]]
    assert arrived == training(changes).words(distributed=True)


@SHELLS
@given(WORDS)
def test_words_arrive_through_xpk(programs, changes):
    program(programs, "xpk", NOTE)
    chosen = plan("gke", training(changes), XPK)
    subprocess.run(["/bin/bash", "-c", chosen.script()], env=on_path(programs), check=True)
    (command,) = [word.removeprefix("--command=") for word in noted(programs) if word.startswith("--command=")]
    program(programs, "bash", NOTE)
    line = expanded_by_kubernetes(f"({command}) & wait $!", {"HOME": "/root", "id": "0"})  # as XPK writes it
    subprocess.run(["/bin/bash", "-c", line], env=on_path(programs), check=True)
    assert noted(programs) == ["/storyjax/launch/host.sh", "tpu", *training(changes).words(distributed=True)]


@given(WORDS)
def test_yaml_reads_what_was_written(words):
    line = shell.yaml(words)
    assert len(line.splitlines()) == 1
    assert yaml.safe_load(line) == words


@pytest.mark.parametrize("word", ["a=\0", "a=\udcff"])
def test_what_no_program_can_be_given_is_refused(word):
    with pytest.raises(StoryjaxError, match="UTF-8 text without a zero byte"):
        training([word])
