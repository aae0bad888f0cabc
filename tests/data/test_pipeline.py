"""The stream of batches: what is in it, its order, its state, its shares, and one ordered pass."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from storyjax.data import TRUTH, BatchSpec, iterate_once, make_batches, story_tokens, tokenize, train_tokenizer
from storyjax.errors import StoryjaxError
from tests.data import worlds

LIGHT = BatchSpec(pictures=None, text=None)
ALONE = {"process_index": 0, "process_count": 1}


@pytest.fixture(scope="module")
def tokenizer(source, tmp_path_factory):
    return train_tokenizer(
        source.all_sentences(), tmp_path_factory.mktemp("t") / "tokenizer", vocab_size=700, max_length=16
    )


def indices(batches, count):
    return [next(batches)["index"].tolist() for _ in range(count)]


def stories(batches, count):
    return [index for batch in indices(batches, count) for index in batch]


def test_a_batch_holds_what_the_spec_names(source, tokenizer):
    with make_batches(source, BatchSpec(truth=TRUTH), 3, seed=0, tokenizer=tokenizer) as batches:
        batch = next(batches)
    expected = {
        "index": ((3,), np.int64),
        "images": ((3, 5, 32, 32, 3), np.uint8),
        "tokens": ((3, 5, 16), np.int32),
        "characters": ((3, 5, 4), np.uint8),
        "place": ((3, 5), np.int32),
        "weather": ((3, 5), np.int32),
        "action": ((3, 5), np.int32),
        "names_characters": ((3, 5), np.bool_),
        "names_place": ((3, 5), np.bool_),
    }
    assert {name: (value.shape, value.dtype) for name, value in batch.items()} == expected
    for row, index in enumerate(batch["index"]):
        np.testing.assert_array_equal(batch["images"][row], source[index]["images"])
        np.testing.assert_array_equal(batch["tokens"][row], tokenize(tokenizer, source.sentences(index)))
        for name in TRUTH:
            np.testing.assert_array_equal(batch[name][row], source[index][name])


def test_no_batch_calls_the_tokenizer_or_decodes_what_is_not_asked_for(source, tokenizer, monkeypatch):
    batches = make_batches(source, BatchSpec(pictures=None, truth=("place",)), 4, seed=0, tokenizer=tokenizer)
    monkeypatch.setattr("storyjax.data.pipeline.tokenize", lambda *a: pytest.fail("tokenized again"))
    monkeypatch.setattr("storyjax.data.records.read_picture", lambda *a: pytest.fail("a picture was decoded"))
    assert set(next(batches)) == {"tokens", "place", "index"}
    batches.close()


def test_ready_tokens_are_taken_and_their_shape_is_checked(source, tokenizer):
    tokens = story_tokens(source, tokenizer, 14)
    assert tokens.shape == (20, 5, 14)
    batch = next(make_batches(source, BatchSpec(pictures=None), 4, seed=0, tokens=tokens))
    np.testing.assert_array_equal(batch["tokens"], tokens[batch["index"]])
    with pytest.raises(StoryjaxError, match=r"expected tokens of shape \(20, 5, L\), got \(19, 5, 14\)"):
        make_batches(source, BatchSpec(), 4, seed=0, tokens=tokens[1:])
    with pytest.raises(StoryjaxError, match="needs tokenizer= or tokens="):
        make_batches(source, BatchSpec(), 4, seed=0)


def test_every_epoch_sees_every_story_in_a_new_order(source):
    order = stories(make_batches(source, LIGHT, 4, seed=1), 10)
    assert sorted(order[:20]) == sorted(order[20:]) == list(range(20))
    assert order[:20] != order[20:]
    assert order[:20] != list(range(20))
    assert order == stories(make_batches(source, LIGHT, 4, seed=1), 10)
    assert order != stories(make_batches(source, LIGHT, 4, seed=2), 10)
    assert stories(make_batches(source, LIGHT, 4, seed=1, shuffle=False), 6) == [*range(20), *range(4)]


def test_more_stories_a_batch_than_there_are(source):
    (batch,) = indices(make_batches(source, LIGHT, 32, seed=1), 1)
    assert len(batch) == 32
    assert sorted(batch[:20]) == list(range(20))


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_the_order_does_not_depend_on_threads(source, threads):
    assert indices(make_batches(source, LIGHT, 3, seed=5, threads=threads), 15) == indices(
        make_batches(source, LIGHT, 3, seed=5), 15
    )


def test_a_state_resumes_at_the_very_next_batch(source, tokenizer):
    def fresh():
        return make_batches(source, BatchSpec(), 3, seed=3, tokenizer=tokenizer)

    whole = fresh()
    before = [next(whole) for _ in range(9)]  # past the end of the first epoch
    state = json.loads(json.dumps(whole.get_state()))
    after = [next(whole) for _ in range(3)]
    again = fresh()
    again.set_state(state)
    assert again.stories == 27
    for expected in after:
        batch = next(again)
        for name in expected:
            np.testing.assert_array_equal(batch[name], expected[name])
    again.set_state({**state, "stories": 0})  # also backwards, on a running iterator
    np.testing.assert_array_equal(next(again)["images"], before[0]["images"])


def test_start_and_state_are_the_same_place(source):
    whole = indices(make_batches(source, LIGHT, 4, seed=3), 8)
    assert indices(make_batches(source, LIGHT, 4, seed=3, start=20), 3) == whole[5:]


def test_a_state_of_another_stream_is_refused(source):
    state = make_batches(source, LIGHT, 4, seed=3).get_state()
    with pytest.raises(StoryjaxError, match="belongs to another stream: seed 3, here 4; resume with the data and seed"):
        make_batches(source, LIGHT, 4, seed=4).set_state(state)
    with pytest.raises(StoryjaxError, match="length 19, here 20"):
        make_batches(source, LIGHT, 4, seed=3).set_state({**state, "length": 19})
    with pytest.raises(StoryjaxError, match=r"expected a data state with stories, .* got \{'next_index': 3\}"):
        make_batches(source, LIGHT, 4, seed=3).set_state({"next_index": 3})


def test_shares_of_processes_make_up_the_whole_batch(source):
    whole = indices(make_batches(source, LIGHT, 4, seed=3), 8)
    shares = [make_batches(source, LIGHT, 4, seed=3, rows=rows) for rows in ((0, 1), (1, 2, 3))]
    for batch in whole:
        first, second = (next(share)["index"].tolist() for share in shares)
        assert (first, second) == (batch[:2], batch[1:])
    assert shares[0].get_state() == shares[1].get_state()
    for rows in ((3, 4), ()):
        with pytest.raises(StoryjaxError, match="rows out of a batch of 4 stories, got"):
            make_batches(source, LIGHT, 4, seed=3, rows=rows)


def test_a_run_resumes_on_another_number_of_processes(source):
    whole = make_batches(source, LIGHT, 4, seed=3)
    indices(whole, 7)
    share = make_batches(source, LIGHT, 4, seed=3, rows=[1])
    share.set_state(whole.get_state())
    assert next(share)["index"].tolist() == next(whole)["index"].tolist()[1:2]


def test_closing_ends_the_threads(source):
    before = threading.active_count()
    batches = make_batches(source, LIGHT, 4, seed=3, threads=4)
    first = indices(batches, 2)
    batches.close()
    patience = time.monotonic() + 20  # grain's readers leave on their own, a moment after they are told
    while threading.active_count() > before and time.monotonic() < patience:
        time.sleep(0.05)
    assert threading.active_count() <= before
    assert indices(batches, 1) == indices(make_batches(source, LIGHT, 4, seed=3, start=8, threads=0), 1)
    assert first[0] != first[1]


def test_one_pass_in_order_keeps_the_tail(source, tokenizer):
    batches = list(iterate_once(source, BatchSpec(truth=("place",)), 8, tokenizer=tokenizer, **ALONE))
    assert [batch["index"].tolist() for batch in batches] == [[*range(8)], [*range(8, 16)], [*range(16, 20)]]
    np.testing.assert_array_equal(batches[2]["images"][3], source[19]["images"])


def test_one_pass_filled_up_to_one_shape(source):
    batches = list(iterate_once(source, BatchSpec(text=None), 8, pad=True, start=3, **ALONE))
    assert [batch["index"].tolist() for batch in batches] == [[*range(3, 11)], [*range(11, 19)], [19] + [-1] * 7]
    np.testing.assert_array_equal(batches[2]["images"][7], source[19]["images"])
    assert list(iterate_once(source, LIGHT, 8, pad=True, start=20, **ALONE)) == []


def test_one_pass_shared_between_processes(source):
    for pad in (False, True):
        passes = [list(iterate_once(source, LIGHT, 6, pad=pad, process_index=p, process_count=3)) for p in range(3)]
        seen = [index for batches in passes for batch in batches for index in batch["index"].tolist()]
        assert sorted(index for index in seen if index >= 0) == list(range(20))
        assert not pad or [len(batches) for batches in passes] == [4, 4, 4]


def test_mistakes_are_told_before_the_first_batch(source):
    with pytest.raises(StoryjaxError, match="needs tokenizer= or tokens="):
        iterate_once(source, BatchSpec(), 4)
    with pytest.raises(StoryjaxError, match="batch size that 1 processes can share evenly, got 0"):
        iterate_once(source, LIGHT, 0, **ALONE)


def test_an_error_in_a_thread_reaches_the_caller(tmp_path):
    from storyjax.data import FolderSource

    folder = worlds.write_folder(tmp_path)
    source = FolderSource(folder)
    (folder / "2" / "1.png").unlink()
    with pytest.raises(StoryjaxError, match=r"picture '2/1\.png' \(story 3 'Tale 2', frame 2\) does not exist"):
        next(make_batches(source, BatchSpec(text=None), 4, seed=0))


WORKER_SCRIPT = """
import sys
from storyjax.data import BatchSpec, make_batches, open_source

if __name__ == "__main__":
    source = open_source("tiny_stories", "train", data_dir=sys.argv[1])
    batches = make_batches(source, BatchSpec(text=None), 3, seed=5, start=6, workers=2, threads=2)
    for _ in range(9):
        batch = next(batches)
        print(*batch["index"], int(batch["images"].astype("int64").sum()))
"""


def test_worker_processes_keep_the_order_and_leave_quietly(source, data_dir, tmp_path):
    (tmp_path / "script.py").write_text(WORKER_SCRIPT)
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(data_dir)],
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    expected = make_batches(source, BatchSpec(text=None), 3, seed=5, start=6)
    for line in ran.stdout.splitlines():
        batch = next(expected)
        assert [int(n) for n in line.split()] == [*batch["index"], batch["images"].astype("int64").sum()]
    assert len(ran.stdout.splitlines()) == 9
    assert "Traceback" not in ran.stderr
