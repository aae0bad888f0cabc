"""Worker processes and shares of processes on records of a builder that reads the user's files: one order, one state."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from storyjax.data import BatchSpec, make_batches
from storyjax.data.records import RecordSource
from storyjax.errors import StoryjaxError
from tests.tfds_builders import tiny_manual

ROOT = Path(__file__).parents[2]
SPEC = BatchSpec(text=None)

# Every line of the plan is a stream: its arguments, how many batches to leave, and from then on how many to print.
SCRIPT = """
import hashlib, json, sys

from storyjax.data import BatchSpec, make_batches
from storyjax.data.records import RecordSource

if __name__ == "__main__":
    source = RecordSource(sys.argv[1], "train", size=json.loads(sys.argv[3]))
    for part in json.loads(sys.argv[2]):
        with make_batches(source, BatchSpec(text=None), 4, seed=5, **part["arguments"]) as batches:
            if "state" in part:
                batches.set_state(part["state"])
            rows = []
            for _ in range(part["batches"]):
                batch = next(batches)
                pictures = [hashlib.sha256(pictures.tobytes()).hexdigest() for pictures in batch["images"]]
                rows.append([batch["index"].tolist(), pictures])
            print(json.dumps({"rows": rows, "state": batches.get_state()}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny data set that is read from files, 30 stories to train on."""
    root = tmp_path_factory.mktemp("manual")
    builder = tiny_manual.TinyManual(data_dir=str(root / "data"))
    tree = tiny_manual.write_tree(root / "tree", size=20)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(tree)))
    return builder.data_path


@pytest.fixture(scope="module")
def source(folder):
    return RecordSource(folder, "train", size=16)


def run_script(folder, tmp_path, plan, size=16):
    (tmp_path / "script.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(folder), json.dumps(plan), json.dumps(size)],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def in_a_script(folder, tmp_path, plan):
    """What each stream of `plan` gives in a process of its own, whose workers are started anew."""
    ran = run_script(folder, tmp_path, plan)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def here(source, count, **arguments):
    """The same as a stream of the script, read by one thread here; and the state after it."""
    with make_batches(source, SPEC, 4, seed=5, **{"threads": 1, **arguments}) as batches:
        rows = []
        for _ in range(count):
            batch = next(batches)
            pictures = [hashlib.sha256(pictures.tobytes()).hexdigest() for pictures in batch["images"]]
            rows.append([batch["index"].tolist(), pictures])
        return {"rows": rows, "state": batches.get_state()}


def test_a_stream_reads_what_the_records_hold(source):
    with make_batches(source, SPEC, 4, seed=5) as batches:
        batch = next(batches)
    assert batch["images"].shape == (4, tiny_manual.FRAMES, 16, 16, 3)
    for row, index in enumerate(batch["index"]):
        np.testing.assert_array_equal(batch["images"][row], source[int(index)]["images"])


def test_workers_give_the_same_stories_and_resume_bit_for_bit(folder, source, tmp_path):
    """18 batches of 4 are more than two epochs of 30 stories; the state is taken in the middle of the second."""
    whole = here(source, 18)
    state = here(source, 11)["state"]
    assert state["stories"] == 44
    resumed = {"rows": whole["rows"][11:], "state": whole["state"]}
    two, three = {"workers": 2, "threads": 2}, {"workers": 3, "threads": 1}
    plan = [
        {"arguments": two, "batches": 18},
        {"arguments": two, "batches": 7, "state": state},
        {"arguments": three, "batches": 7, "state": state},
        {"arguments": {"threads": 4}, "batches": 7, "state": state},
    ]
    found = in_a_script(folder, tmp_path, plan)
    assert found[0] == whole
    assert found[1:] == [resumed] * 3
    assert here(source, 7, start=44)["rows"] == resumed["rows"]


def test_shares_read_by_workers_make_up_the_whole_batch(folder, source, tmp_path):
    whole = here(source, 9)
    shares = [{"arguments": {"workers": 2, "threads": 1, "rows": rows}, "batches": 9} for rows in ([0, 1], [2, 3])]
    first, second = in_a_script(folder, tmp_path, shares)
    for row, one, other in zip(whole["rows"], first["rows"], second["rows"], strict=True):
        assert [a + b for a, b in zip(one, other)] == row
    assert first["state"] == second["state"] == whole["state"]


@pytest.mark.parametrize("rows", [[0, 1], [3], [0, 2]])
def test_a_share_resumes_where_the_whole_stood(source, rows):
    with make_batches(source, SPEC, 4, seed=5) as whole, make_batches(source, SPEC, 4, seed=5, rows=rows) as share:
        for _ in range(9):  # into the second epoch
            next(whole)
        share.set_state(whole.get_state())
        for _ in range(8):
            expected, got = next(whole), next(share)
            for name in expected:
                np.testing.assert_array_equal(got[name], expected[name][rows])


def test_an_error_in_a_worker_reaches_the_caller(tmp_path):
    """A picture of another size: named in the error, not a stream that stands still."""
    tree = tiny_manual.write_tree(tmp_path / "tree", size=20)
    (tree / "train" / "0009" / "1.png").write_bytes(tiny_manual.png(28))
    builder = tiny_manual.TinyManual(data_dir=str(tmp_path / "data"))
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(tree)))
    ran = run_script(
        builder.data_path, tmp_path, [{"arguments": {"workers": 2, "threads": 1}, "batches": 8}], size=None
    )
    assert ran.returncode != 0
    assert "the picture of story 'train/0009', frame 2" in ran.stderr
    assert "is 28x28, the first one 20x20" in ran.stderr


@pytest.mark.parametrize(("name", "value"), [("threads", -1), ("workers", -2)])
def test_numbers_of_readers_are_checked(source, name, value):
    with pytest.raises(StoryjaxError, match=f"expected {name} of 0 or more, got {value}"):
        make_batches(source, SPEC, 4, seed=0, **{name: value})
