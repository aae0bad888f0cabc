"""Evidence on disk: nothing is lost or half-read, whoever wrote it and however it ended."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from storyjax.errors import StoryjaxError
from storyjax.evals.evidence import EvidenceFolder, filled, joined, other_half, real_half

ABOUT = {"metric": "toy", "data": {"content": "x"}}
ANY = arrays.arrays(
    st.sampled_from([np.float64, np.float32, np.int64, np.bool_]),
    arrays.array_shapes(min_dims=1, max_dims=3, max_side=3),
)


@settings(max_examples=25)
@given(st.dictionaries(st.integers(0, 10**6), st.dictionaries(st.sampled_from("abc/d"), ANY), max_size=5))
def test_what_was_added_comes_back_to_the_bit(tmp_path_factory, stories):
    root = tmp_path_factory.mktemp("evidence")
    EvidenceFolder(root, "toy", ABOUT).add({n: ("digest", evidence) for n, evidence in stories.items()})
    again = EvidenceFolder(root, "toy", ABOUT)
    for number, evidence in stories.items():
        found = again.get(number, "digest")
        assert found is not None
        assert set(found) == set(evidence)
        for name, value in evidence.items():
            assert found[name].dtype == value.dtype
            assert found[name].tobytes() == value.tobytes()
        assert again.get(number, "other pictures") is None


def test_what_another_writes_is_found_when_looked_for(tmp_path):
    one, other = (EvidenceFolder(tmp_path, "toy", ABOUT) for _ in range(2))
    one.add({3: ("d", {"values": np.arange(2.0)})})
    assert other.get(3, "d") is None
    other.refresh()
    assert other.get(3, "d")["values"].tolist() == [0, 1]


def test_replaced_pictures_are_kept_beside_the_old_ones(tmp_path):
    folder = EvidenceFolder(tmp_path, "toy", ABOUT)
    folder.add({0: ("old", {"values": np.zeros(1)})})
    folder.add({0: ("new", {"values": np.ones(1)})})
    again = EvidenceFolder(tmp_path, "toy", ABOUT)
    assert [again.get(0, digest)["values"][0] for digest in ("old", "new")] == [0, 1]


def test_another_metric_or_data_has_another_folder(tmp_path):
    folders = {EvidenceFolder(tmp_path, "toy", about).folder for about in (ABOUT, ABOUT | {"data": {"content": "y"}})}
    assert len(folders) == 2
    assert all((folder / "about.json").is_file() for folder in folders)


def test_a_file_that_was_cut_off_counts_as_missing_and_is_written_again(tmp_path):
    folder = EvidenceFolder(tmp_path, "toy", ABOUT)
    folder.add({0: ("d", {"values": np.zeros(9)})})
    (path,) = folder.folder.glob("*.npz")
    path.write_bytes(path.read_bytes()[:-30])
    (path.parent / f".{path.name}.12345678.partial").write_bytes(b"PK")  # left by a process that was killed
    with pytest.warns(UserWarning, match="is damaged .* measured again"):
        again = EvidenceFolder(tmp_path, "toy", ABOUT)
    assert again.get(0, "d") is None
    again.add({0: ("d", {"values": np.ones(9)})})
    assert EvidenceFolder(tmp_path, "toy", ABOUT).get(0, "d")["values"].sum() == 9


def test_a_disk_that_refuses_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoryjaxError, match="cannot be written"):
        EvidenceFolder(tmp_path / "file", "toy", ABOUT)


def test_halves_go_together_and_a_missing_one_is_empty():
    whole = {"generated": np.ones((2, 4)), "real": np.zeros((3, 4), np.float32)}
    assert joined(other_half(whole), real_half(whole)).keys() == whole.keys()
    first, second = filled([whole, real_half(whole)])
    assert first is whole
    assert second["generated"].shape == (0, 4)
