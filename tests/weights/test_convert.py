import ml_dtypes
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.nn.build import flatten
from storyjax.weights import Alias, Dead, Rule, Stray, plan, shapes_of, to_native, to_pytorch

RULES = [
    Rule("layers.{i}.weight", "blocks.{i}.kernel", "linear"),
    Rule("layers.{i}.bias", "blocks.{i}.bias"),
    Dead("layers.{i}.position_ids", "blocks.{i}.bias", lambda shape: (*shape, 7)),
]
EXPECTED = {"blocks.0.kernel": (2, 3), "blocks.0.bias": (3,), "blocks.1.kernel": (3, 4), "blocks.1.bias": (4,)}


def tensors(**changes):
    rng = np.random.default_rng(1)
    all_of_them = {
        "layers.0.weight": rng.standard_normal((3, 2)),
        "layers.0.bias": rng.standard_normal(3),
        "layers.0.position_ids": np.zeros((3, 7)),
        "layers.1.weight": rng.standard_normal((4, 3)),
        "layers.1.bias": rng.standard_normal(4),
    }
    all_of_them |= {key.replace("_", "."): value for key, value in changes.items()}
    return {key: value for key, value in all_of_them.items() if value is not None}


def test_every_tensor_is_placed_as_float32_in_our_layout():
    given = tensors()
    params, report = to_native(given, RULES, EXPECTED)
    assert shapes_of(params) == EXPECTED
    kernel = params["blocks"]["0"]["kernel"]
    assert kernel.dtype == np.float32
    assert kernel.flags.c_contiguous
    np.testing.assert_array_equal(kernel, given["layers.0.weight"].T.astype(np.float32))
    assert report.complete
    assert report.placed["layers.1.bias"] == "blocks.1.bias"
    assert report.dead == ["layers.0.position_ids"]


def test_half_precision_is_widened():
    given = {key: value.astype(ml_dtypes.bfloat16) for key, value in tensors().items()}
    params, _ = to_native(given, RULES, EXPECTED)
    assert params["blocks"]["1"]["bias"].dtype == np.float32
    np.testing.assert_array_equal(params["blocks"]["1"]["bias"], given["layers.1.bias"].astype(np.float32))


def test_export_gives_back_every_tensor_and_zeros_for_the_dead():
    given = {key: value.astype(np.float32) for key, value in tensors().items()}
    params, _ = to_native(given, RULES, EXPECTED)
    exported = to_pytorch(params, RULES)
    assert set(exported) == {*given, "layers.1.position_ids"}
    for key, value in given.items():
        np.testing.assert_array_equal(exported[key], value)
    assert exported["layers.1.position_ids"].shape == (4, 7)


def test_one_error_lists_everything_that_went_wrong():
    given = tensors(
        layers_0_weight=np.zeros((2, 3)), layers_1_bias=None, head_weight=np.zeros(2), ema_step=np.zeros(())
    )
    given["layers.1.weight"] = np.zeros((4, 3, 1, 1))
    with pytest.raises(StoryjaxError) as error:
        to_native(given, RULES, EXPECTED, source="model.safetensors")
    text = str(error.value)
    assert text.splitlines()[0] == (
        "model.safetensors: 1 tensors placed, 1 dead tensors dropped, but 1 missing, 2 unused, 2 wrong shape"
    )
    assert "layers.1.bias (blocks.1.bias)" in text
    assert "ema.step, head.weight" in text
    assert "layers.0.weight: expected (3, 2), got (2, 3)" in text
    assert "layers.1.weight: expected (4, 3), got (4, 3, 1, 1)" in text


def test_tensor_of_a_larger_model_is_unused():
    given = tensors() | {"layers.2.bias": np.zeros(4)}
    with pytest.raises(StoryjaxError, match=r"(?s)1 unused.*layers\.2\.bias"):
        to_native(given, RULES, EXPECTED)


def test_only_named_patterns_may_be_left_over():
    given = tensors() | {"ema.step": np.zeros(()), "ema.decay": np.zeros(())}
    with pytest.raises(StoryjaxError, match=r"(?s)1 unused.*ema\.decay"):
        to_native(given, RULES, EXPECTED, allow_unused=[r"ema\.step"])
    _, report = to_native(given, RULES, EXPECTED, allow_unused=[r"ema\..*"])
    assert sorted(report.allowed) == ["ema.decay", "ema.step"]
    assert "2 unused as allowed" in report.text()


def test_name_that_two_rules_match_is_an_error_naming_both():
    rules = [*RULES, Rule("layers.0.{name:.*}", "extra.{name}")]
    with pytest.raises(StoryjaxError) as error:
        to_native(tensors(), rules, EXPECTED)
    assert "layers.0.weight: layers.{i}.weight and layers.0.{name:.*}" in str(error.value)


def test_two_tensors_for_one_place_are_an_error_naming_both():
    rules = [*RULES, Rule("old_layers.{i}.bias", "blocks.{i}.bias")]
    given = tensors() | {"old_layers.1.bias": np.zeros(4)}
    with pytest.raises(StoryjaxError, match=r"blocks\.1\.bias: layers\.1\.bias and old_layers\.1\.bias"):
        to_native(given, rules, EXPECTED)


def test_other_spellings_and_strays_are_read_but_not_written():
    rules = [*RULES, Alias("old.{i}.bias", "blocks.{i}.bias"), Stray("steps")]
    given = tensors(layers_1_bias=None) | {"old.1.bias": np.arange(4.0), "steps": np.zeros(())}
    params, report = to_native(given, rules, EXPECTED)
    assert report.dead == ["layers.0.position_ids", "steps"]
    np.testing.assert_array_equal(params["blocks"]["1"]["bias"], np.arange(4.0))
    exported = to_pytorch(params, rules)
    assert set(exported) == {*tensors(), "layers.1.position_ids"}
    _, report = plan({"layers.1.bias": (4,), "old.1.bias": (4,)}, rules, {"blocks.1.bias": (4,)})
    assert report.duplicates == ["blocks.1.bias: layers.1.bias and old.1.bias"]


def test_parameter_that_no_rule_writes_is_named():
    with pytest.raises(StoryjaxError, match=r"\(adapter\.scale: no rule writes it\)"):
        to_native(tensors(), RULES, EXPECTED | {"adapter.scale": (1,)})


def test_export_of_a_parameter_without_a_rule_is_an_error():
    params, _ = to_native(tensors(), RULES, EXPECTED)
    with pytest.raises(StoryjaxError, match=r"adapter\.scale: no rule"):
        to_pytorch(params | {"adapter": {"scale": np.ones(1)}}, RULES)


def test_nothing_is_read_when_shapes_are_wrong():
    class Unreadable(dict):
        def __getitem__(self, key):
            raise AssertionError(f"read {key}")

        def shape_of(self, key):
            return (1,)

    with pytest.raises(StoryjaxError, match="4 wrong shape"):
        to_native(Unreadable(tensors()), RULES, EXPECTED)


def test_plan_needs_no_values():
    shapes = {key: value.shape for key, value in tensors().items()}
    places, report = plan(shapes, RULES, EXPECTED)
    assert report.complete
    assert places["blocks.1.kernel"] == ("layers.1.weight", "linear")


def test_long_lists_are_sorted_and_wrapped():
    expected = {f"blocks.{i}.kernel": (2, 3) for i in range(60)}
    with pytest.raises(StoryjaxError) as error:
        to_native({}, RULES, expected)
    lines = str(error.value).splitlines()
    assert "60 missing" in lines[0]
    assert len(lines) > 10
    assert max(map(len, lines[1:])) <= 120
    names = [f"layers.{i}.weight (blocks.{i}.kernel)" for i in range(60)]
    assert ", ".join(sorted(names)) in " ".join(str(error.value).split())


def test_flat_and_nested_parameters_name_the_same_paths():
    params, _ = to_native(tensors(), RULES, EXPECTED)
    assert set(flatten(params)) == set(EXPECTED)
