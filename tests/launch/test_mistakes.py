"""What a launch refuses, and with which words; nothing is started then."""

import dataclasses

import pytest

from storyjax.cli import main
from storyjax.errors import StoryjaxError
from storyjax.launch.start import launch, plan
from storyjax.launch.training import Training
from tests.launch.examples import CONFIG, ON, TRAINING, XPK, on_path, program


@pytest.mark.parametrize(
    ("target", "on", "said"),
    [
        ("slrum", (), "no launch target 'slrum'; did you mean 'slurm'"),
        ("tpu_vm", (), "did you mean 'tpu-vm'"),
        ("slurm", ("node=2",), "--on of slurm: the configuration has no field 'node'; did you mean 'nodes'"),
        ("slurm", ("nodes=two",), "'nodes'"),
        ("slurm", ("nodes=0",), "nodes=0: expected 1 or more"),
        ("slurm", ("gpus-per-node=0",), "gpus_per_node=0: expected 1 or more"),
        ("slurm", ("time=soon",), "time='soon': expected minutes, or such as 24:00:00"),
        ("slurm", ("partition=gpu --exclusive",), "partition='gpu --exclusive': expected a name without spaces"),
        ("slurm", ("account=a'b",), "expected a name without spaces, quotes"),
        ("slurm", ("image=docker://storyjax",), "slurm with an image needs shared: --on shared=/home/you"),
        ("tpu-vm", (), "tpu-vm needs zone, project, image, nfs: --on zone=us-west4-a project=my-project"),
        ("tpu-vm", (*ON["tpu-vm"], "accelerator=v5lite-16"), "no TPU slice 'v5lite-16'; did you mean 'v5litepod-16'"),
        ("tpu-vm", (*ON["tpu-vm"], "accelerator=v5p-12"), "no TPU slice 'v5p-12'; did you mean 'v5p-"),
        ("tpu-vm", (*ON["tpu-vm"], "name=My_Run"), "name 'My_Run': expected at most 40 small letters"),
        ("tpu-vm", (*ON["tpu-vm"], "name=My_Run"), "such as 'my-run'"),
        ("gke", (), "gke by kubectl needs image, volume"),
        ("gke", (*ON["gke"], "via=xpk"), "gke by xpk needs cluster, zone, project"),
        ("gke", (*ON["gke"], "via=helm"), "'via': Input should be 'kubectl' or 'xpk', got 'helm'"),
        ("gke", (*ON["gke"], "name=9lives"), "name '9lives'"),
        ("gke", (*ON["gke"], f"name={'a' * 41}"), "at most 40"),
        ("gke", (*ON["gke"], "namespace=Team A"), "namespace 'Team A'"),
        ("gke", (*ON["gke"], "restarts=0"), "restarts=0: expected 1 or more"),
    ],
)
def test_a_wrong_setting_is_named(target, on, said):
    with pytest.raises(StoryjaxError) as error:
        plan(target, TRAINING, on)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("target", "on", "workdir", "said"),
    [
        ("slurm", ON["slurm"], "runs/first", "expected an absolute path"),
        ("slurm", ON["slurm"], "/tmp/first", "on a disk that each of the 2 hosts has for itself"),
        ("slurm", (*ON["slurm"], "shared=/lustre"), "/home/you/first", "not below '/lustre'"),
        ("tpu-vm", ON["tpu-vm"], "/home/you/first", "take /shared/runs/first"),
        ("tpu-vm", ON["tpu-vm"], "/shared", "not below '/shared'"),
        ("gke", ON["gke"], "/shared/../tmp/first", "expected an absolute path"),
        ("gke", ON["gke"], "gs://my-bucket/first", "mount the bucket"),
        ("gke", XPK, "/data/first", "not below '/shared'"),
    ],
)
def test_a_work_directory_that_the_hosts_do_not_share_is_refused(target, on, workdir, said):
    with pytest.raises(StoryjaxError) as error:
        plan(target, dataclasses.replace(TRAINING, workdir=workdir), on)
    assert said in str(error.value)


def test_one_host_may_train_on_its_own_disk():
    assert "/tmp/first" in plan("slurm", Training(CONFIG, "/tmp/first"), ("nodes=1",)).file


@pytest.mark.parametrize("target", list(ON))
def test_a_mesh_must_fit_the_devices(target):
    with pytest.raises(StoryjaxError, match="does not fit 16 devices; the nearest"):
        plan(target, dataclasses.replace(TRAINING, mesh="data=3"), ON[target])


def test_a_configuration_must_lie_in_the_checkout(tmp_path):
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(StoryjaxError, match="put it under configs/"):
        Training.of(tmp_path / "mine.py", "/shared/runs/first")


def test_the_command_looks_at_the_configuration_first(capsys):
    words = ["launch", "gke", CONFIG, "--workdir", "/shared/runs/first", "--dry-run", "--on", *ON["gke"]]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--set", "train.stpes=3"])
    assert stopped.value.code == 2
    assert "did you mean 'train.steps'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "on", "tool", "source"),
    [
        ("tpu-vm", ON["tpu-vm"], "gcloud", "cloud.google.com/sdk"),
        ("gke", ON["gke"], "kubectl", "gcloud components install kubectl"),
        ("gke", XPK, "xpk", "pip install xpk"),
        ("slurm", ON["slurm"], "sbatch", "login node"),
    ],
)
def test_a_missing_program_is_named_before_anything_is_started(target, on, tool, source, tmp_path, monkeypatch):
    for other in {"bash", "gcloud", "kubectl", "xpk", "sbatch"} - {tool}:
        program(tmp_path, other, 'echo "$0" >> "$NOTES"')
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NOTES", on_path(tmp_path)["NOTES"])
    with pytest.raises(StoryjaxError, match=f"no '{tool}' on the PATH: .*{source}"):
        launch(target, TRAINING, on)
    assert not (tmp_path / "notes").exists()
