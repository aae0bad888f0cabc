"""Low-rank adapters are added to exactly the tensors they adapt, or refused in words."""

import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.weights.lora import Merged, scale_of

RANDOM = np.random.default_rng(0)
PEFT = {
    "r": 4,
    "lora_alpha": 2,
    "bias": "none",
    "target_modules": ["qkv"],
    "peft_type": "LORA",
    "fan_in_fan_out": False,
}


def base():
    return {"at.qkv.weight": RANDOM.standard_normal((6, 3)).astype(np.float16), "at.qkv.bias": np.ones(6, np.float32)}


def adapter(rank=4, prefix="x."):
    shapes = {"A": (rank, 3), "B": (6, rank)}
    return {f"{prefix}at.qkv.lora_{n}.weight": RANDOM.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


def test_the_product_is_added_and_the_rest_is_left():
    given, low = base(), adapter()
    merged = Merged(given, low, scale_of(PEFT, "it"), prefix="x.")
    expected = (
        given["at.qkv.weight"].astype(np.float64)
        + 0.5 * low["x.at.qkv.lora_B.weight"].astype(np.float64) @ low["x.at.qkv.lora_A.weight"]
    )
    np.testing.assert_allclose(merged["at.qkv.weight"], expected, rtol=1e-6)
    np.testing.assert_array_equal(merged["at.qkv.bias"], given["at.qkv.bias"])
    assert list(merged) == list(given)
    assert len(merged) == 2
    assert merged.shape_of("at.qkv.weight") == (6, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda low: low.pop("x.at.qkv.lora_A.weight"), "half a pair x.at.qkv"),
        (
            lambda low: low.update({"x.other.lora_A.weight": 0, "x.other.lora_B.weight": 0}),
            "no such tensor other.weight",
        ),
        (lambda low: low.update({"x.at.qkv.weight": 0}), "other tensors x.at.qkv.weight"),
        (lambda low: low.clear(), "got none"),
        (lambda low: low.update({"x.at.qkv.lora_A.weight": np.zeros((5, 3))}), r"\(5, 3\) and \(6, 4\) do not adapt"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    low = adapter()
    change(low)
    with pytest.raises(StoryjaxError, match=message):
        Merged(base(), low, 0.5, prefix="x.", what="it")


@pytest.mark.parametrize(("name", "value"), [("bias", "all"), ("use_rslora", True), ("rank_pattern", {"qkv": 3})])
def test_other_kinds_of_adapters_are_refused(name, value):
    with pytest.raises(StoryjaxError, match=f"it: {name} is"):
        scale_of(PEFT | {name: value}, "it")
    with pytest.raises(StoryjaxError, match="expected numbers as lora_alpha and r, got None and 4"):
        scale_of({"r": 4}, "it")
