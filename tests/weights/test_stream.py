import errno
import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from storyjax.checkpoints.beside import check_room, written_beside
from storyjax.errors import StoryjaxError
from storyjax.weights import stream
from storyjax.weights.stream import Planned, write_safetensors
from tests.disk import no_file_grows_past

TENSORS = {
    "b.kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a": np.array(0.5, ml_dtypes.bfloat16),
    "ä.positions": np.arange(5),
    "empty": np.zeros((0, 3), np.float16),
    "half": np.linspace(-1, 1, 7, dtype=np.float16),
}


def planned(tensors=TENSORS, **labels):
    return [Planned(name, value.dtype, value.shape, labels.get(name, "")) for name, value in tensors.items()]


def write(file, tensors=TENSORS, **settings):
    write_safetensors(file, planned(tensors), lambda entry: tensors[entry.name], **settings)


def test_what_is_written_is_what_the_official_library_reads(tmp_path):
    write(tmp_path / "x.safetensors", metadata={"dtype": "mixed"})
    loaded = load_file(tmp_path / "x.safetensors")
    assert set(loaded) == set(TENSORS)
    for name, value in TENSORS.items():
        assert loaded[name].dtype == value.dtype
        assert loaded[name].shape == value.shape
        assert loaded[name].tobytes() == value.tobytes()
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        assert file.metadata() == {"dtype": "mixed"}


def test_tensors_stand_in_the_order_given_at_aligned_places(tmp_path):
    write(tmp_path / "x.safetensors")
    content = (tmp_path / "x.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert list(header) == list(TENSORS)
    assert length % 8 == 0
    assert len(content) == 8 + length + sum(value.nbytes for value in TENSORS.values())


def test_large_files_are_brought_to_the_disk_on_the_way(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(stream, "FLUSH", 20)
    monkeypatch.setattr(stream.os, "fsync", lambda descriptor: synced.append(descriptor))
    write(tmp_path / "x.safetensors")
    assert len(synced) >= 2
    assert load_file(tmp_path / "x.safetensors").keys() == TENSORS.keys()


def test_each_tensor_is_made_once_and_told_when_written(tmp_path):
    made, told = [], []

    def value_of(entry):
        made.append(entry.name)
        return TENSORS[entry.name]

    write_safetensors(tmp_path / "x.safetensors", planned(), value_of, progress=told.append)
    assert sorted(made) == sorted(TENSORS)
    assert told == [value.nbytes for value in TENSORS.values()]


def test_no_more_than_the_next_tensors_are_made_ahead(tmp_path):
    """The memory needed is that of a few tensors, not of the file."""
    alive, most = 0, 0

    class Counted(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= self.size == 1000

    def value_of(entry):
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return np.zeros(1000, np.float32).view(Counted)

    entries = [Planned(str(i), np.dtype(np.float32), (1000,)) for i in range(50)]
    write_safetensors(tmp_path / "x.safetensors", entries, value_of)
    assert most <= 2 + stream.MAKERS


def test_broken_number_is_named_by_its_tensor_and_file(tmp_path):
    broken = np.ones(600_000, np.float16)
    broken[-1] = np.nan
    entries = planned({"fine": np.ones(3, np.float32), "conv.kernel": broken}, **{"conv.kernel": "conv.weight"})
    tensors = {"fine": np.ones(3, np.float32), "conv.kernel": broken}
    with pytest.raises(StoryjaxError, match=r"'m\.ckpt': tensor 'conv\.weight' holds 1 NaN of 600000 numbers"):
        write_safetensors(tmp_path / "x", entries, lambda entry: tensors[entry.name], source="m.ckpt")
    write_safetensors(tmp_path / "x", entries, lambda entry: tensors[entry.name], check=False)


def test_value_of_another_shape_or_type_than_planned(tmp_path):
    entries = planned({"a": np.zeros((2, 3), np.float32)})
    for value in (np.zeros((3, 2), np.float32), np.zeros((2, 3), np.float16)):
        with pytest.raises(StoryjaxError, match=r"tensor 'a': expected float32 \(2, 3\), got"):
            write_safetensors(tmp_path / "x", entries, lambda _, value=value: value)


def test_name_twice_and_numbers_without_a_code(tmp_path):
    with pytest.raises(StoryjaxError, match="'a' would stand in the file twice"):
        write_safetensors(tmp_path / "x", planned({"a": np.zeros(1)}) * 2, lambda _: np.zeros(1))
    with pytest.raises(StoryjaxError, match="'a': numbers of type complex128 have no place"):
        write(tmp_path / "x", {"a": np.zeros(1, complex)})


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    big = {str(i): np.zeros(5000, np.float32) for i in range(4)}
    refused = pytest.raises(StoryjaxError, match=r"^could not write the model folder .*; nothing was changed there.*$")
    with refused as error, no_file_grows_past(30_000), written_beside(tmp_path / "model") as beside:
        write(beside / "x.safetensors", big)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mistake", [KeyboardInterrupt, RuntimeError, StoryjaxError])
def test_whatever_goes_wrong_leaves_the_old_folder_and_nothing_beside(tmp_path, mistake):
    with written_beside(tmp_path / "model") as beside:
        (beside / "model_index.json").write_text("old")
    stopped = pytest.raises(mistake, match="stop")
    with stopped, written_beside(tmp_path / "model", overwrite=True) as beside:
        (beside / "model_index.json").write_text("new")
        raise mistake("stop")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "model_index.json").read_text() == "old"


def test_missing_room_is_told_before_anything_is_written(tmp_path):
    check_room(tmp_path / "not" / "there", 1)
    with pytest.raises(StoryjaxError, match=r"no space for .*: it needs 1000000000\.00 GB, the disk has .* GB left"):
        check_room(tmp_path / "not" / "there", 10**18)


def test_disk_that_is_full_is_called_so(tmp_path):
    with pytest.raises(StoryjaxError, match="No space left on device"), written_beside(tmp_path / "model"):
        raise OSError(errno.ENOSPC, "No space left on device")
