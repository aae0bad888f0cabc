"""Every network of the parity table at a tiny size: random weights saved by the original library, read and run by storyjax."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("accelerate")

from benchmarks.parity import jax_side, torch_side
from benchmarks.parity.cases import CASES
from benchmarks.parity.table import DTYPES, Result, too_large

pytestmark = pytest.mark.usefixtures("quick_compiles")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_outputs_are_those_of_the_original_library(case, tmp_path):
    torch_side.main(case, tmp_path, full=False)
    for dtype in DTYPES:
        jax_side.main(case, tmp_path, dtype, full=False)
    result = Result.collect(tmp_path)
    assert not too_large(case, result)
    single = result.jax["float32"]
    assert 0 < single["native_parameters"] <= result.parameters
    assert (single["native_parameters"] == result.parameters) == (single["dead"] == 0)
