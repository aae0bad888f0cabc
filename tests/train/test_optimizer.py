"""Learning-rate schedules and weight decay, against hand calculation."""

import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.train.config import OptimizerConfig
from storyjax.train.optimizer import learning_rate, make_optimizer


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule": "constant"}, {0: 2.0, 50: 2.0, 99: 2.0}),
        ({"schedule": "constant", "warmup_steps": 4}, {0: 0.5, 1: 1.0, 3: 2.0, 99: 2.0}),
        ({"schedule": "linear"}, {0: 2.0, 50: 1.0, 100: 0.0, 200: 0.0}),
        ({"schedule": "linear", "final_fraction": 0.5}, {50: 1.5, 100: 1.0}),
        ({"schedule": "cosine"}, {0: 2.0, 25: 1 + np.sqrt(0.5), 50: 1.0, 100: 0.0}),
        ({"schedule": "cosine", "warmup_steps": 20, "final_fraction": 0.1}, {9: 1.0, 20: 2.0, 60: 1.1, 100: 0.2}),
    ],
)
def test_schedule_values(settings: dict, expected: dict):
    schedule = learning_rate(OptimizerConfig(learning_rate=2.0, **settings), steps=100)
    for count, value in expected.items():
        np.testing.assert_allclose(schedule(jnp.int32(count)), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("mask", "bias_decays"), [("all", True), ("matrices", False)])
def test_weight_decay_reaches_the_masked_leaves(mask: str, bias_decays: bool):
    optimizer = make_optimizer(OptimizerConfig(learning_rate=0.1, weight_decay=0.5, decay_mask=mask), 10)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    zeros = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.05, rtol=1e-6)
    np.testing.assert_allclose(updates["bias"], -0.05 if bias_decays else 0.0, rtol=1e-6)


def test_first_adamw_update_is_the_learning_rate_times_the_sign():
    optimizer = make_optimizer(OptimizerConfig(learning_rate=0.1, weight_decay=0.0, clip_norm=None), 10)
    params, grads = {"kernel": jnp.zeros(3)}, {"kernel": jnp.array([3.0, -0.2, 50.0])}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], [-0.1, 0.1, -0.1], rtol=1e-5)
