import numpy as np
import pytest

from storyjax.weights.rules import TRANSFORMS, Alias, Dead, Rule, Stray, applying, key_of
from storyjax.weights.unet import unet

SHAPES = {
    "copy": ((3, 4), (3, 4)),
    "linear": ((8, 3), (3, 8)),
    "conv2d": ((8, 3, 5, 7), (5, 7, 3, 8)),
    "conv3d": ((8, 3, 2, 5, 7), (2, 5, 7, 3, 8)),
    "conv1x1_as_linear": ((8, 3, 1, 1), (3, 8)),
    "linear_or_conv1x1": ((8, 3), (3, 8)),
    "temporal_conv": ((8, 4, 3, 1, 1), (3, 4, 8)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transform_gives_the_native_layout_and_its_inverse_gives_it_back(name):
    transform, (shape, native_shape) = TRANSFORMS[name], SHAPES[name]
    value = np.random.default_rng(0).standard_normal(shape)
    native = transform.to_native(value)
    assert native.shape == native_shape == transform.shape(shape)
    np.testing.assert_array_equal(transform.to_pytorch(native), value)
    assert transform.shape(native_shape, inverse=True) == shape


def test_linear_kernel_multiplies_from_the_right():
    weight, x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([1.0, 0.5, 2.0])
    np.testing.assert_allclose(x @ TRANSFORMS["linear"].to_native(weight), weight @ x)


def test_temporal_convolution_keeps_the_taps_in_order():
    weight = np.arange(2 * 4 * 3).reshape(2, 4, 3, 1, 1)
    native = TRANSFORMS["temporal_conv"].to_native(weight)
    for tap in range(3):
        np.testing.assert_array_equal(native[tap], weight[:, :, tap, 0, 0].T)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("linear", (3, 4, 1, 1)),
        ("conv2d", (3, 4)),
        ("conv1x1_as_linear", (3, 4, 3, 3)),
        ("linear_or_conv1x1", (3, 4, 3, 3)),
        ("linear_or_conv1x1", (3, 4, 1)),
    ],
)
def test_shape_that_does_not_suit_a_transform_becomes_none(name, shape):
    assert TRANSFORMS[name].shape(shape) is None


def test_rule_translates_names_both_ways():
    rule = Rule(r"{at:down\.[0-9]+|mid}.net.{j}.weight", "unet.{at}.layers.{j}.kernel")
    assert rule.native_path("down.12.net.3.weight") == "unet.down.12.layers.3.kernel"
    assert rule.native_path("mid.net.0.weight") == "unet.mid.layers.0.kernel"
    assert rule.pytorch_key("unet.mid.layers.0.kernel") == "mid.net.0.weight"


@pytest.mark.parametrize(
    "key", ["down.1.net.3.weights", "a.down.1.net.3.weight", "down.1.netx3.weight", "up.net.3.weight"]
)
def test_rule_matches_the_whole_name_only(key):
    assert Rule(r"{at:down\.[0-9]+|mid}.net.{j}.weight", "{at}.{j}").native_path(key) is None


def test_all_rules_that_match_are_named():
    rules = [Rule("{any:.*}.weight", "{any}.kernel"), Rule("a.weight", "b.kernel"), Dead("x.{i}", "y.{i}", lambda s: s)]
    assert [path for _, path in applying(rules, "a.weight")] == ["a.kernel", "b.kernel"]
    assert [key for _, key in key_of(rules, "y.3")] == []
    assert applying(rules, "x.3")[0][0] is rules[2]


@pytest.mark.parametrize(("projection", "shape"), [("linear", (320, 320)), ("conv1x1_as_linear", (320, 320, 1, 1))])
def test_transformer_projections_of_both_stable_diffusions(projection, shape):
    found = applying(unet(projection=projection), "mid_block.attentions.0.proj_in.weight")
    assert [path for _, path in found] == ["mid_block.attentions.0.proj_in.kernel"]
    assert TRANSFORMS[found[0][0].transform].shape(shape) == (320, 320)


def test_a_matrix_may_come_as_a_1x1_convolution():
    matrix, transform = np.arange(6.0).reshape(3, 2), TRANSFORMS["linear_or_conv1x1"]
    assert transform.shape((3, 2, 1, 1)) == (2, 3)
    np.testing.assert_array_equal(transform.to_native(matrix[:, :, None, None]), transform.to_native(matrix))


def test_an_alias_is_read_and_never_written():
    rules = [Rule("to_q.weight", "q.kernel", "linear"), Alias("query.weight", "q.kernel", "linear")]
    assert [path for _, path in applying(rules, "query.weight")] == ["q.kernel"]
    assert [key for _, key in key_of(rules, "q.kernel")] == ["to_q.weight"]


def test_a_stray_tensor_is_recognised_and_has_no_place():
    rules = [Stray("embeddings.{name:position_ids|token_type_ids}")]
    assert applying(rules, "embeddings.position_ids") == [(rules[0], "")]
    assert applying(rules, "embeddings.position_ids.0") == []
