"""The moving average's rate and update, against the published formula."""

import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.train import ema
from storyjax.train.config import EmaConfig


@pytest.mark.parametrize(
    ("step", "decay"), [(1, 0.0), (2, 2 / 11), (3, 3 / 12), (10, 10 / 19), (1000, 1000 / 1009), (100_000, 0.9999)]
)
def test_official_rate_at_optimizer_step(step: int, decay: float):
    np.testing.assert_allclose(ema.rate(EmaConfig(decay=0.9999), jnp.int32(step - 1)), 1 - decay, rtol=1e-6)


def test_rate_without_warmup_is_constant():
    for updates in (0, 1, 50):
        np.testing.assert_allclose(ema.rate(EmaConfig(0.99, "none"), jnp.int32(updates)), 0.01, rtol=1e-6)


def test_three_updates_by_hand():
    config, shadow = EmaConfig(decay=0.2), {"a": jnp.float32(7.0)}
    second = 1.0 * 2 / 11 + 2.0 * 9 / 11
    expected = [1.0, second, second * 0.2 + 4.0 * 0.8]  # 3/12 is above the largest decay
    for step, (value, want) in enumerate(zip((1.0, 2.0, 4.0), expected), start=1):
        shadow = ema.update(shadow, {"a": jnp.float32(value)}, ema.rate(config, jnp.int32(step - 1)))
        np.testing.assert_allclose(shadow["a"], want, rtol=1e-6)
