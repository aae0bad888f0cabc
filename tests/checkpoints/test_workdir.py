"""A work directory belongs to one configuration."""

import json
from pathlib import Path

import pytest

from storyjax.checkpoints.paths import write_whole
from storyjax.checkpoints.workdir import claim, differences, locked
from storyjax.errors import StoryjaxError

CONFIG = {"model": {"width": 8, "scales": [1, 2]}, "steps": 10}


def test_the_same_configuration_may_claim_again(tmp_path: Path):
    claim(tmp_path / "new", CONFIG)
    claim(tmp_path / "new", CONFIG)
    assert json.loads((tmp_path / "new" / "config.json").read_text()) == CONFIG


def test_all_differing_fields_are_named(tmp_path: Path):
    claim(tmp_path, CONFIG)
    with pytest.raises(StoryjaxError) as caught:
        claim(tmp_path, {"model": {"scales": [1, 3], "depth": 2}, "steps": 10})
    for part in (
        "model.width: there 8, here '(absent)'",
        "model.scales: there [1, 2], here [1, 3]",
        "model.depth: there",
    ):
        assert part in str(caught.value)
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG


def test_free_fields_may_change_and_the_newest_is_kept(tmp_path: Path):
    claim(tmp_path, CONFIG)
    claim(tmp_path, CONFIG | {"steps": 20}, free=["steps"])
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 20


def test_a_free_pattern_must_match_the_whole_path(tmp_path: Path):
    claim(tmp_path, CONFIG)
    with pytest.raises(StoryjaxError, match=r"model.width"):
        claim(tmp_path, CONFIG | {"model": {"width": 9, "scales": [1, 2]}}, free=["model", "width"])


def test_a_damaged_config_file_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"steps": ')
    with pytest.raises(StoryjaxError, match=r"config.json' is not JSON"):
        claim(tmp_path, CONFIG)


def test_differences_of_equal_trees_are_none():
    assert differences(CONFIG, json.loads(json.dumps(CONFIG))) == []


def test_write_whole_leaves_no_other_file(tmp_path: Path):
    (tmp_path / "a.txt").write_text("old")
    write_whole(tmp_path / "a.txt", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "new")]


def test_a_second_training_is_kept_out_until_the_first_has_ended(tmp_path: Path):
    with locked(tmp_path / "run"), pytest.raises(StoryjaxError, match="another training is running in"):
        locked(tmp_path / "run").__enter__()
    with locked(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
