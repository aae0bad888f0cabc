"""Features of pictures: what goes into a network, and that company never changes a number."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyjax.errors import StoryjaxError
from storyjax.evals.networks.features import FeatureNetwork, Preparation
from storyjax.evals.networks.published_networks import FID_INPUT, classes, pooled
from storyjax.models.inception import Inception, InceptionConfig
from storyjax.models.r2plus1d import R2Plus1D, R2Plus1DConfig
from storyjax.nn.build import materialise
from tests import tiny

INCEPTION = InceptionConfig("fid", 7, shrink=16)


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network():
    with tiny.quick_compiles():
        made = materialise(lambda rngs: Inception(INCEPTION, rngs=rngs), jax.random.key(0))
        yield FeatureNetwork(*made, pooled, Preparation((80, 80)), batch=4)


@settings(max_examples=10)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 9))
def test_any_batches_give_the_same_numbers_to_the_bit(network, sizes, seed):
    images = pictures(sum(sizes), 32, 24, seed=seed)
    whole = network(images)
    ends = np.cumsum(sizes)[:-1]
    parts = np.concatenate([network(part) for part in np.split(images, ends)])
    np.testing.assert_array_equal(parts, whole)
    assert whole.shape == (sum(sizes), 128)
    assert whole.dtype == np.float32


@pytest.mark.usefixtures("quick_compiles")
@pytest.mark.slow
def test_clips_go_through_as_pictures_do():
    made = materialise(lambda rngs: R2Plus1D(R2Plus1DConfig(9, shrink=16), rngs=rngs), jax.random.key(0))
    clips = pictures(3, 5, 16, 16)
    two, three = (FeatureNetwork(*made, pooled, Preparation(), batch=batch)(clips) for batch in (2, 3))
    assert two.shape == (3, 32)
    np.testing.assert_allclose(two, three, rtol=1e-5)
    logits = FeatureNetwork(*made, classes, Preparation(), batch=2)(clips)
    assert logits.shape == (3, 9)


def test_pictures_of_another_kind_are_refused(network):
    with pytest.raises(StoryjaxError, match=r"uint8 of shape \(N, H, W, 3\).*got float64 \(2, 8, 8, 3\)"):
        network(np.ones((2, 8, 8, 3)))
    with pytest.raises(StoryjaxError, match=r"got uint8 \(8, 8, 3\)"):
        network(pictures(8, 8))
    with pytest.raises(StoryjaxError, match="batch of 1 picture or more, got 0"):
        FeatureNetwork(network._graphdef, {}, pooled, Preparation(), batch=0)


def test_colours_and_sizes():
    black = np.zeros((1, 4, 6, 3), np.uint8)
    np.testing.assert_allclose(Preparation()(black), -1)
    np.testing.assert_allclose(Preparation((2, 2))(black + 255), np.ones((1, 2, 2, 3)), atol=1e-6)
    shown = Preparation(mean=(0.0, 0.2, 0.4), deviation=(1.0, 0.5, 0.1))(black + 51)
    np.testing.assert_allclose(shown[0, 0, 0], [0.2, 0, -2], atol=1e-6)


def test_without_antialiasing_most_pixels_are_never_looked_at():
    stripes = np.zeros((1, 8, 8, 3), np.uint8)
    stripes[:, :, ::4] = 255
    plain, averaged = (np.asarray(Preparation((2, 2), antialias=way)(stripes)) for way in (False, True))
    np.testing.assert_allclose(plain, -1)  # halfway between the second and the third column of four
    assert (averaged > -0.9).all()


@pytest.mark.parametrize("size", [(64, 64), (32, 48), (301, 512)])
def test_the_resize_of_fid_is_that_of_pytorch(size):
    torch = pytest.importorskip("torch")
    images = pictures(1, *size)
    given = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    expected = 2 * torch.nn.functional.interpolate(given, (299, 299), mode="bilinear", align_corners=False) - 1
    np.testing.assert_allclose(FID_INPUT(images), expected.permute(0, 2, 3, 1), atol=2e-6)


ON_TWO_DEVICES = """
import jax, numpy as np
from storyjax.evals.networks.features import FeatureNetwork, Preparation
from storyjax.evals.networks.published_networks import pooled
from storyjax.models.r2plus1d import R2Plus1D, R2Plus1DConfig
from storyjax.nn.build import materialise

made = materialise(lambda rngs: R2Plus1D(R2Plus1DConfig(9, shrink=16), rngs=rngs), jax.random.key(0))
clips = np.random.default_rng(0).integers(0, 256, (7, 3, 16, 16, 3), dtype=np.uint8)
one, two = (FeatureNetwork(*made, pooled, Preparation(), batch=2, devices=jax.devices()[:n])(clips) for n in (1, 2))
assert len(jax.devices()) == 2 and one.shape == (7, 32) and one.std() > 0
np.testing.assert_array_equal(one, two)
"""


@pytest.mark.slow
def test_two_devices_give_the_same_numbers_as_one():
    """In a process of its own, which alone may still say how many devices a CPU has."""
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    run = subprocess.run([sys.executable, "-c", ON_TWO_DEVICES], env=os.environ | flags, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
