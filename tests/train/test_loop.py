"""The loop as a whole: resume, signals, non-finite losses, what it writes, what it refuses."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from storyjax.checkpoints.manager import load_params
from storyjax.config import to_json
from storyjax.errors import StoryjaxError
from storyjax.nn.build import flatten
from storyjax.train.config import OptimizerConfig, TrainConfig
from storyjax.train.loop import train
from tests.train.tiny import TinyBatches, init, noisy_loss, tiny_task

ROOT = Path(__file__).parents[2]
CONFIG = TrainConfig(steps=12, batch_size=8, log_every=1, save_every=4)


def run(workdir: Path, config: TrainConfig = CONFIG, task=None, batches=None, **options):
    options = {"config_json": {}, "progress": False} | options
    return train(task or tiny_task(), config, batches or TinyBatches(), workdir, **options)


def curve(workdir: Path, name: str = "loss") -> dict[int, float]:
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row[name] for row in rows if name in row}


def saved(workdir: Path) -> list[int]:
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of twelve steps that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    run(workdir)
    return workdir


def test_resume_gives_the_losses_and_weights_of_an_uninterrupted_run(whole: Path, tmp_path: Path):
    first = run(tmp_path, dataclasses.replace(CONFIG, steps=5))
    second = run(tmp_path)
    assert (first.step, second.step, second.examples_seen) == (5, 12, 96)
    assert curve(tmp_path) == curve(whole)
    for which in ("ema", "raw"):
        one, two = flatten(load_params(tmp_path, which)[0]), flatten(load_params(whole, which)[0])
        assert all((one[path] == two[path]).all() for path in two)


def test_averages_over_a_log_window_survive_a_resume(tmp_path: Path):
    config = dataclasses.replace(CONFIG, log_every=6)
    run(tmp_path / "one", config)
    run(tmp_path / "two", dataclasses.replace(config, steps=4, log_every=100))
    (tmp_path / "two" / "metrics.jsonl").unlink()
    run(tmp_path / "two", config)
    assert list(curve(tmp_path / "one")) == [6, 12]
    ends = [curve(tmp_path / name)[12] for name in ("one", "two")]
    assert ends[0] == ends[1]


def test_loss_falls_and_the_log_says_everything(tmp_path: Path):
    config = TrainConfig(
        steps=60,
        batch_size=8,
        log_every=20,
        save_every=60,
        optimizer=OptimizerConfig(learning_rate=0.05, warmup_steps=10),
    )
    result = run(tmp_path, config)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert [row["examples_seen"] for row in rows] == [160, 320, 480]
    names = {"loss", "error/mean", "grad_norm", "update_norm", "param_norm", "learning_rate", "examples_per_second"}
    names |= {"tflop_per_step"}
    assert all(names <= row.keys() for row in rows)
    assert result.metrics["loss"] == rows[-1]["loss"]
    assert "encoder/kernel" in (tmp_path / "parameters.txt").read_text()


def test_a_finished_run_is_not_trained_further(whole: Path):
    before = (whole / "metrics.jsonl").read_text()
    result = run(whole, batches=TinyBatches(stop_after=0))
    assert (result.step, result.stopped_by) == (12, None)
    assert (whole / "metrics.jsonl").read_text() == before


def test_only_the_last_checkpoints_stay(tmp_path: Path):
    run(tmp_path, dataclasses.replace(CONFIG, save_every=2, keep_last=3))
    assert saved(tmp_path) == [8, 10, 12]


def test_sample_and_evaluate_get_the_averages_and_frozen_leaves(tmp_path: Path):
    seen: list[tuple[str, int]] = []

    def sample(params, folder, step):
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(folder / "strip.png")
        seen.append(("sample", step))
        assert set(flatten(params)) == set(flatten(init(jax.random.key(0))))

    def evaluate(params, step):
        seen.append(("evaluate", step))
        return {"accuracy": float(params["encoder"]["kernel"].sum())}

    task = tiny_task(sample=sample, evaluate=evaluate, frozen=("^layers",))
    result = run(tmp_path, dataclasses.replace(CONFIG, sample_every=5, evaluate_every=6), task=task)
    assert seen == [("sample", 5), ("evaluate", 6), ("sample", 10), ("sample", 12), ("evaluate", 12)]
    assert (tmp_path / "samples" / "step_00000010" / "strip.png").is_file()
    averages = load_params(tmp_path, "ema")[0]
    assert result.metrics["eval/accuracy"] == curve(tmp_path, "eval/accuracy")[12]
    np.testing.assert_allclose(result.metrics["eval/accuracy"], averages["encoder"]["kernel"].sum(), rtol=1e-6)


def test_given_parameters_are_the_start_but_the_work_directory_goes_first(tmp_path: Path):
    start = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.25), init(jax.random.key(0)))
    still = dataclasses.replace(CONFIG, steps=1, optimizer=OptimizerConfig(learning_rate=1e-9))
    run(tmp_path, still, init_params=start)
    np.testing.assert_allclose(load_params(tmp_path, "raw")[0]["encoder"]["kernel"], 0.25, rtol=1e-6)
    other = jax.tree.map(jnp.zeros_like, start)
    run(tmp_path, dataclasses.replace(still, steps=2), init_params=other)
    np.testing.assert_allclose(load_params(tmp_path, "raw")[0]["encoder"]["kernel"], 0.25, rtol=1e-6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_at_the_next_step_border_and_returns(whole: Path, tmp_path: Path, number: signal.Signals):
    class Signalling(TinyBatches):
        def __next__(self):
            if self.position == 6:  # while the loop is inside step 7
                os.kill(os.getpid(), number)
            return super().__next__()

    handler = signal.getsignal(number)
    result = run(tmp_path, batches=Signalling())
    assert (result.step, result.stopped_by) == (7, number.name)
    assert saved(tmp_path) == [4, 7]
    assert signal.getsignal(number) is handler
    assert run(tmp_path).stopped_by is None
    assert curve(tmp_path) == curve(whole)


def test_sigterm_ends_a_real_process_with_status_0(tmp_path: Path):
    code = (
        "from tests.train.test_loop import *\n"
        f"run(__import__('pathlib').Path({str(tmp_path / 'run')!r}), TrainConfig(steps=10**6, batch_size=8, log_every=1,"
        " save_every=10**6), batches=TinyBatches(pause=0.01))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "metrics.jsonl").is_file():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    last = max(curve(tmp_path / "run"))
    assert saved(tmp_path / "run") == [last]


@pytest.mark.parametrize("bad", [4, 6])
def test_a_loss_that_is_not_finite_stops_and_says_where(tmp_path: Path, bad: int):
    with pytest.raises(StoryjaxError) as caught:
        run(tmp_path, dataclasses.replace(CONFIG, log_every=100), batches=TinyBatches(bad=bad))
    message = str(caught.value)
    indices = list(range(8 * bad, 8 * bad + 8))
    for part in (
        f"stopped at step {bad + 1}",
        "loss is nan",
        f"batch indices {indices}",
        "last good checkpoint is step 4",
    ):
        assert part in message
    assert "\n" not in message
    assert saved(tmp_path) == [4]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(load_params(tmp_path)[0]))


def test_a_sick_step_is_never_saved(tmp_path: Path):
    with pytest.raises(
        StoryjaxError, match=r"stopped at step 8: loss is nan, grad_norm is nan.*last good checkpoint is step 4"
    ):
        run(tmp_path, batches=TinyBatches(bad=7))  # step 8 would be saved
    assert saved(tmp_path) == [4]


def test_parameters_that_become_infinite_under_a_finite_loss_stop_the_run(tmp_path: Path):
    explode = tiny_task(project=lambda params: jax.tree.map(lambda leaf: leaf / 0.0, params))
    with pytest.raises(StoryjaxError, match=r"stopped at step 1: param_norm is (nan|inf).*nothing was saved yet"):
        run(tmp_path, dataclasses.replace(CONFIG, save_every=1), task=explode)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"batch_size": 16}, "train.batch_size: there 8, here 16"),
        ({"optimizer": OptimizerConfig(learning_rate=0.5)}, "train.optimizer.learning_rate: there 0.0001, here 0.5"),
        ({"seed": 3}, "train.seed: there 0, here 3"),
    ],
)
def test_a_work_directory_of_another_configuration_is_refused_by_field(whole: Path, change: dict, field: str):
    with pytest.raises(StoryjaxError, match="belongs to another configuration") as caught:
        run(whole, dataclasses.replace(CONFIG, **change))
    assert field in str(caught.value)


def test_the_systems_own_fields_count_and_free_ones_do_not(tmp_path: Path):
    short, longer = (dataclasses.replace(CONFIG, steps=n, keep_last=n, save_every=n) for n in (2, 3))
    system = {"model": {"width": 8}, "data": {"folder": "a"}, "vae_train": to_json(short)}
    run(tmp_path, short, config_json=system)
    moved = system | {"data": {"folder": "b"}, "vae_train": to_json(longer)}
    with pytest.raises(StoryjaxError, match=r"data.folder: there 'a', here 'b'"):
        run(tmp_path, longer, config_json=moved)
    assert run(tmp_path, longer, config_json=moved, free=[r"data\..*"]).step == 3
    with pytest.raises(StoryjaxError, match=r"model.width: there 8, here 16"):
        run(tmp_path, longer, config_json=moved | {"model": {"width": 16}})


def test_batches_of_another_size_are_refused(tmp_path: Path):
    with pytest.raises(StoryjaxError, match=r"leading axis is batch_size 8, got \{'x': \(6, 4\)"):
        run(tmp_path, batches=TinyBatches(6))


def test_a_batch_that_changes_shape_is_refused_instead_of_compiled(tmp_path: Path):
    class Shrinking(TinyBatches):
        def __next__(self):
            batch = super().__next__()
            return batch if self.position < 3 else {name: value[:5] for name, value in batch.items()}

    with pytest.raises(StoryjaxError, match=r"batch 3 changed its shape"):
        run(tmp_path, batches=Shrinking())


def test_batches_that_end_are_an_error_that_says_so(tmp_path: Path):
    with pytest.raises(StoryjaxError, match=r"batches ended after step 5 of 12"):
        run(tmp_path, batches=TinyBatches(stop_after=5))
    assert saved(tmp_path) == [4]


def test_nothing_compiles_after_the_first_log_line(tmp_path: Path):
    compiled: list[int] = []
    traced: list[int] = []

    def counting_loss(params, batch, key):
        traced.append(1)
        return noisy_loss(params, batch, key)

    class Watching(TinyBatches):
        def __next__(self):
            compiled.append(len(traced))
            return super().__next__()

    run(tmp_path, task=tiny_task(loss_fn=counting_loss), batches=Watching())
    assert compiled[1:] == [compiled[1]] * 11


def test_a_truncated_line_and_lines_after_the_checkpoint_leave_the_curve(whole: Path, tmp_path: Path):
    run(tmp_path, dataclasses.replace(CONFIG, steps=4))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 123.0}\n{"step": 6, "lo')
    run(tmp_path)
    assert curve(tmp_path) == curve(whole)


def test_a_state_that_json_cannot_hold_is_refused(tmp_path: Path):
    class Odd(TinyBatches):
        def get_state(self):
            return {"position": np.arange(2)}

    with pytest.raises(StoryjaxError, match="not plain JSON"):
        run(tmp_path, batches=Odd())


def test_a_full_disk_outside_the_checkpoints_is_one_sentence(tmp_path: Path):
    def sample(params, folder, step):
        raise OSError(28, "No space left on device")

    with pytest.raises(StoryjaxError, match=r"the disk is full while writing to .*checkpoints there are intact"):
        run(tmp_path, dataclasses.replace(CONFIG, sample_every=4), task=tiny_task(sample=sample))
    assert saved(tmp_path) == [4]


@pytest.mark.parametrize("what", ["sample", "evaluate"])
def test_steps_since_the_last_save_survive_a_failing_sample_or_evaluation(tmp_path: Path, what: str):
    def fail(*arguments):
        raise RuntimeError("no such font")

    config = dataclasses.replace(CONFIG, **{f"{what}_every": 6})
    with pytest.raises(RuntimeError, match="no such font"):
        run(tmp_path, config, task=tiny_task(**{what: fail}))
    assert saved(tmp_path) == [4, 6]
