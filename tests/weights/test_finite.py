import ml_dtypes
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.weights.finite import all_finite, cast, dtype_named, require_finite

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_finite_numbers_pass(dtype):
    largest = ml_dtypes.finfo(dtype).max
    for values in ([[largest, largest], [-largest, 0]], [largest, largest], np.zeros((0, 3))):
        array = np.array(values, dtype)
        assert all_finite(array)
        require_finite("x", array)  # raises nothing


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("odd", "counts"),
    [
        ([np.nan], "1 NaN of 5"),
        ([np.inf, -np.inf], "2 infinite of 6"),
        ([np.nan, np.nan, -np.inf], "2 NaN and 1 infinite of 7"),
    ],
)
def test_what_is_not_finite_is_named(dtype, odd, counts):
    values = np.array([1, 2, *odd, 3, 4]).astype(dtype)
    with pytest.raises(StoryjaxError, match=f"'file': tensor 'conv.weight' holds {counts} numbers"):
        require_finite("conv.weight", values, "file")


def test_whole_numbers_are_finite():
    for array in (np.array([2**62]), np.array([True])):
        assert all_finite(array)
        require_finite("x", array)  # raises nothing


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_whole_numbers_of_all_bits_are_finite(dtype):
    assert all_finite(np.array([-1 if dtype == np.int64 else 255 if dtype == np.uint8 else True], dtype))


def test_type_without_infinity():
    values = np.array([448, -448, 0], ml_dtypes.float8_e4m3fn)
    assert all_finite(values)
    values[1] = np.nan
    with pytest.raises(StoryjaxError, match="'x' holds 1 NaN of 3"):
        require_finite("x", values)


@pytest.mark.parametrize("place", [0, 300_000, 599_999])
def test_one_odd_number_is_found_anywhere(place):
    values = np.ones((2, 300_000), np.float32)
    values.reshape(-1)[place] = -np.inf
    assert not all_finite(values)


def test_number_that_does_not_fit_the_new_type_is_named():
    values = np.array([1.0, -1e5], np.float32)
    assert cast(values, np.dtype(np.float32), "x") is values
    assert cast(values, np.dtype(ml_dtypes.bfloat16), "x").dtype == ml_dtypes.bfloat16
    with pytest.raises(
        StoryjaxError, match=r"tensor 'conv\.weight' holds 100000\.0, beyond float16; choose another dtype"
    ):
        cast(values, np.dtype(np.float16), "conv.weight")


def test_odd_numbers_stay_odd_when_cast():
    """Whoever casts them may not be told that the type is too small."""
    assert np.isnan(cast(np.array([np.nan], np.float32), np.dtype(np.float16), "x")).all()


def test_unknown_dtype_names_the_nearest():
    assert dtype_named("bfloat16") == ml_dtypes.bfloat16
    with pytest.raises(StoryjaxError, match=r"no dtype 'fp16' for weights.*float16"):
        dtype_named("fp16")
