import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyjax.weights import transpose
from storyjax.weights.transpose import contiguous


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_copy_is_the_view_in_c_order(data):
    small, transpose.SMALL = transpose.SMALL, 0
    try:
        view = _view(data)
        got = contiguous(view)
    finally:
        transpose.SMALL = small
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, view)


def _view(data):
    """Some array with its axes in some order."""
    shape = data.draw(
        st.lists(st.sampled_from([1, 2, 3, 5, 40, 300]), min_size=1, max_size=4).filter(lambda s: np.prod(s) < 500_000)
    )
    axes = data.draw(st.permutations(range(len(shape))))
    value = (
        np.random.default_rng(0).integers(0, 2**16, shape).astype(data.draw(st.sampled_from([np.uint16, np.float32])))
    )
    return value.transpose(axes)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((700, 550), (1, 0)),
        ((290, 300, 3, 3), (2, 3, 1, 0)),
        ((3, 3, 290, 300), (3, 2, 0, 1)),
        ((300, 280, 3), (2, 1, 0)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_tensors_larger_than_a_block(shape, axes, dtype, monkeypatch):
    monkeypatch.setattr(transpose, "SMALL", 0)
    value = np.random.default_rng(0).standard_normal(shape, np.float32).astype(dtype)
    got = contiguous(value.transpose(axes))
    assert got.dtype == dtype
    assert got.tobytes() == np.ascontiguousarray(value.transpose(axes)).tobytes()


def test_contiguous_arrays_are_not_copied():
    value = np.zeros((300, 300))
    assert contiguous(value) is value
