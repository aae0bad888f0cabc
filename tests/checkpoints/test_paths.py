"""Paths on disks, and addresses as far as they can be judged without a storage."""

import importlib.util
from pathlib import Path

import pytest

from storyjax.checkpoints import paths
from storyjax.checkpoints.paths import absolute, append_line, at, check_storage, is_local, kept_here, local, move_folder
from storyjax.cli import main
from storyjax.errors import StoryjaxError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("address", ["s3://bucket/run", "https://storage.googleapis.com/bucket/run", "hf://a/b"])
def test_addresses_of_other_kinds_are_refused(address: str):
    with pytest.raises(StoryjaxError, match=r"expected a folder, or gs://bucket/folder; \w+:// is not known"):
        at(address)


@pytest.mark.parametrize("address", ["gs://", "gs://bucket", "gs://bucket/", "gs:///run"])
def test_a_whole_bucket_is_no_work_directory(address: str):
    with pytest.raises(StoryjaxError, match="expected a folder in a bucket"):
        at(address)


@pytest.mark.parametrize("function", [at, is_local, check_storage])
def test_an_address_that_lost_a_slash_in_pathlib_is_not_taken_for_a_folder(function):
    with pytest.raises(StoryjaxError, match="give it as text"):
        function(Path("gs://bucket/run"))


def test_without_gcsfs_one_line_says_what_to_install(monkeypatch, capsys):
    missing = {"gcsfs", "google.cloud.storage"}
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else real(name))
    paths._prepare.cache_clear()
    config = ROOT / "configs/contextual_story/cartoon.py"
    with pytest.raises(SystemExit) as ended:
        main(["train", str(config), "--workdir", "gs://bucket/run"])
    paths._prepare.cache_clear()
    assert ended.value.code == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "'gs://bucket/run' needs gcsfs and google.cloud.storage, not installed here" in told[0]
    assert "pip install 'storyjax[gcs]'" in told[0]


def test_lines_are_added_to_a_local_file(tmp_path: Path):
    for line in ("one", "zwölf"):
        append_line(tmp_path / "lines", line)
    assert (tmp_path / "lines").read_text(encoding="utf-8") == "one\nzwölf\n"


def test_a_local_folder_is_moved_with_what_is_in_it(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("text")
    move_folder(tmp_path / "a", tmp_path / "d")
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "d" / "b" / "c").read_text() == "text"


def test_addresses_are_absolute(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "_prepare", lambda address: None)
    assert str(absolute("gs://bucket/run")) == "gs://bucket/run"
    assert absolute("run") == tmp_path / "run"


def test_what_must_lie_on_a_disk_is_in_the_work_directory_or_in_the_cache(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kept_here(tmp_path / "run") == tmp_path / "run"
    one, two = kept_here("gs://bucket/one/run"), kept_here("gs://bucket/two/run/")
    assert one.parent == two.parent == tmp_path / "storyjax" / "runs"
    assert one != two
    assert one.name.startswith("run-")
    assert kept_here("gs://bucket/two/run") == two


@pytest.mark.parametrize("address", ["gs://bucket/evaluation", "s3://bucket/evaluation"])
def test_what_works_on_disks_only_says_so(address: str):
    with pytest.raises(StoryjaxError, match="the readings must be on this machine; copy it first"):
        local(address, "the readings")
