"""Checkpoints on disk: complete or absent, and the last good one survives everything."""

import json
import logging
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from storyjax.checkpoints.manager import Checkpoints, load_params
from storyjax.errors import StoryjaxError


def state_at(step: int) -> dict:
    leaf = jnp.full((3, 4), float(step))
    return {
        "params": {"blocks": {"0": {"kernel": leaf}}},
        "frozen": {"text": {"table": jnp.full((5,), -1.0, jnp.bfloat16)}},
        "ema": {"blocks": {"0": {"kernel": leaf / 2}}},
        "train": {"opt": ({"mu": leaf},), "step": jnp.int32(step), "key": jnp.arange(2, dtype=jnp.uint32)},
    }


TARGET = jax.eval_shape(lambda: state_at(0))


def fill(workdir: Path, steps: tuple[int, ...] = (1, 2, 3), keep: int = 5) -> Path:
    with Checkpoints(workdir / "checkpoints", keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_at(step), {"step": step, "data": {"next_index": 8 * step}})
    return workdir / "checkpoints"


def test_restore_gives_back_every_leaf_its_type_and_the_info(tmp_path: Path):
    folder = fill(tmp_path)
    with Checkpoints(folder) as checkpoints:
        state, info = checkpoints.restore(TARGET)
    assert info == {"step": 3, "data": {"next_index": 24}}
    expected = state_at(3)
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(expected)):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_an_empty_folder_restores_nothing(tmp_path: Path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.restore(TARGET) is None


def test_a_state_without_frozen_leaves_is_saved_and_restored(tmp_path: Path):
    bare = state_at(1) | {"frozen": {}}
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, bare, {})
        checkpoints.wait()
        state, _ = checkpoints.restore(jax.eval_shape(lambda: bare))
    assert state["frozen"] == {}
    assert set(load_params(tmp_path)[0]) == {"blocks"}


def test_buffers_may_be_donated_right_after_save(tmp_path: Path):
    spoil = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0 - 7, tree), donate_argnums=0)
    big = state_at(1) | {"params": {"kernel": jnp.arange(2_000_000, dtype=jnp.float32)}}
    target = jax.eval_shape(lambda: big)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, big, {})
        for _ in range(5):
            big = spoil(big)
        jax.block_until_ready(big)
        checkpoints.wait()
        state, _ = checkpoints.restore(target)
    np.testing.assert_array_equal(state["params"]["kernel"], np.arange(2_000_000, dtype=np.float32))


@pytest.mark.parametrize("lost", ["_CHECKPOINT_METADATA", "params/commit_success.txt", "info/metadata"])
def test_a_checkpoint_that_lost_its_marks_is_set_aside_and_the_one_before_taken(tmp_path: Path, lost: str, caplog):
    folder = fill(tmp_path)
    (folder / "3" / lost).unlink()
    with caplog.at_level(logging.WARNING, "storyjax"), Checkpoints(folder) as checkpoints:
        assert checkpoints.steps() == [1, 2]
        _, info = checkpoints.restore(TARGET)
        checkpoints.save(3, state_at(3), {"step": 3})  # the same step can be written again
    assert info["step"] == 2
    assert "checkpoint of step 3 moved to" in caplog.text
    assert (tmp_path / "checkpoints-broken" / "3").is_dir()
    assert load_params(tmp_path)[1] == {"step": 3}


def test_a_half_written_folder_of_a_killed_save_is_ignored(tmp_path: Path):
    folder = fill(tmp_path, (1, 2))
    shutil.copytree(folder / "2", folder / "3.orbax-checkpoint-tmp")
    (folder / "4").mkdir()
    (folder / "4" / "params").mkdir()
    with Checkpoints(folder, keep_last=5) as checkpoints:
        assert checkpoints.restore(TARGET)[1]["step"] == 2
        checkpoints.save(4, state_at(4), {"step": 4})
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "4"]


def test_damaged_contents_fall_back_with_a_message(tmp_path: Path, caplog):
    folder = fill(tmp_path)
    for path in (folder / "3" / "params" / "d").iterdir():
        path.write_bytes(path.read_bytes()[:10])
    with caplog.at_level(logging.WARNING, "storyjax"), Checkpoints(folder) as checkpoints:
        state, info = checkpoints.restore(TARGET)
        checkpoints.save(3, state_at(3), {"step": 3})
    assert info["step"] == 2
    assert float(state["params"]["blocks"]["0"]["kernel"][0, 0]) == 2
    assert "continuing from step 2" in caplog.text
    assert load_params(tmp_path)[1] == {"step": 3}


def test_no_readable_checkpoint_is_an_error_and_touches_nothing(tmp_path: Path):
    folder = fill(tmp_path, (1, 2))
    target = jax.eval_shape(lambda: state_at(0) | {"params": {"blocks": {"0": {"kernel": jnp.zeros((9, 9))}}}})
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(StoryjaxError, match=r"no checkpoint in .* can be read \(step 2: .*\(9, 9\).*step 1:"):
            checkpoints.restore(target)
        assert checkpoints.steps() == [1, 2]


class FullDisk:
    """Lets a number of items be finished, then fails as tensorstore does when the disk is full."""

    text = (
        "RESOURCE_EXHAUSTED: Error writing local file \"manifest.ocdbt\": No space left on device [os_error_code='28']"
    )

    def __init__(self, monkeypatch):
        self.full, finalize = False, ocp.StandardCheckpointHandler.finalize

        def failing(handler, directory):
            if self.full:
                raise ValueError(self.text)
            finalize(handler, directory)

        monkeypatch.setattr(ocp.StandardCheckpointHandler, "finalize", failing)


def test_a_full_disk_is_reported_and_earlier_checkpoints_stay(tmp_path: Path, monkeypatch):
    disk = FullDisk(monkeypatch)
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder, keep_last=1) as checkpoints:
        checkpoints.save(1, state_at(1), {"step": 1})
        checkpoints.wait()
        disk.full = True
        checkpoints.save(2, state_at(2), {"step": 2})
        with pytest.raises(
            StoryjaxError, match=r"saving step 2 .*the disk is full; complete checkpoints: step 1\. Make room"
        ):
            checkpoints.wait()
        disk.full = False
    assert [path.name for path in folder.iterdir()] == ["1"]
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.restore(TARGET)[1] == {"step": 1}


def test_an_error_of_the_last_save_is_not_swallowed_on_leaving(tmp_path: Path, monkeypatch):
    disk = FullDisk(monkeypatch)
    disk.full = True
    with (
        pytest.raises(StoryjaxError, match="the disk is full; complete checkpoints: none"),
        Checkpoints(tmp_path / "c") as c,
    ):
        c.save(1, state_at(1), {})


@pytest.mark.parametrize(("which", "value"), [("raw", 3.0), ("ema", 1.5)])
def test_load_params_reads_weights_without_the_optimizer(tmp_path: Path, which: str, value: float):
    folder = fill(tmp_path)
    shutil.rmtree(folder / "3" / "train")
    params, info = load_params(tmp_path, which)
    assert params["blocks"]["0"]["kernel"].tolist() == [[value] * 4] * 3
    assert params["text"]["table"].dtype == jnp.bfloat16
    assert info["step"] == 3


def test_load_params_takes_a_named_step(tmp_path: Path):
    fill(tmp_path)
    params, info = load_params(tmp_path, "raw", step=2)
    assert (float(params["blocks"]["0"]["kernel"][0, 0]), info["step"]) == (2.0, 2)


def test_load_params_changes_nothing_beside_a_running_training(tmp_path: Path):
    folder = fill(tmp_path, (1,))
    (folder / "2.orbax-checkpoint-tmp").mkdir()
    (folder / "3").mkdir()
    assert load_params(tmp_path)[1]["step"] == 1
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2.orbax-checkpoint-tmp", "3"]


def test_load_params_says_what_is_missing(tmp_path: Path):
    with pytest.raises(
        StoryjaxError, match=r"no complete checkpoint under .*expected the work directory of a training run"
    ):
        load_params(tmp_path)
    fill(tmp_path, (1, 2))
    with pytest.raises(StoryjaxError, match=r"no complete checkpoint of step 7 under .*there are \[1, 2\]"):
        load_params(tmp_path, step=7)
    with pytest.raises(StoryjaxError, match="which must be 'ema' or 'raw', got 'best'"):
        load_params(tmp_path, which="best")


def test_info_is_json_on_disk(tmp_path: Path):
    folder = fill(tmp_path, (1,))
    assert json.loads((folder / "1" / "info" / "metadata").read_text()) == {"step": 1, "data": {"next_index": 8}}
