"""One optimizer step: accumulation, clipping, precision, frozen leaves, projection."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from storyjax.errors import StoryjaxError
from storyjax.nn.build import flatten
from storyjax.train.config import OptimizerConfig, TrainConfig
from storyjax.train.optimizer import make_optimizer
from storyjax.train.state import check_params, initial_params, merge, new_state, split
from storyjax.train.step import make_step
from tests.train.tiny import TinyBatches, init, quiet_loss, tiny_task

SGD = optax.sgd(1.0)  # makes the update the gradient itself


def state_and_step(task, config, optimizer=None):
    optimizer = optimizer or make_optimizer(config.optimizer, config.steps)
    state = new_state(initial_params(task, config.seed), task.frozen, optimizer, config.seed)
    return state, jax.jit(make_step(task, config, optimizer))


def assert_close(one, two, **tolerance):
    assert flatten(one).keys() == flatten(two).keys()
    for path, leaf in flatten(one).items():
        np.testing.assert_allclose(leaf, flatten(two)[path], err_msg=path, **tolerance)


def test_accumulated_gradient_equals_that_of_the_big_batch():
    task, whole = tiny_task(loss_fn=quiet_loss), TrainConfig(batch_size=12)
    parts = dataclasses.replace(whole, accumulation=4)
    batch = next(TinyBatches(12))
    ends = []
    for config in (whole, parts):
        state, step = state_and_step(task, config, SGD)
        ends.append(step(state, batch))
    assert_close(ends[0][0]["params"], ends[1][0]["params"], rtol=1e-5, atol=1e-6)
    assert_close(ends[0][1], ends[1][1], rtol=1e-5, atol=1e-6)
    assert not np.allclose(ends[0][0]["params"]["encoder"]["kernel"], state["params"]["encoder"]["kernel"])


def test_micro_batches_draw_different_noise():
    def noise(params, batch, key):
        return quiet_loss(params, batch, key)[0], {
            "noise": jax.random.normal(key),
            "squared": jax.random.normal(key) ** 2,
        }

    config = TrainConfig(batch_size=8, accumulation=2)
    state, step = state_and_step(tiny_task(loss_fn=noise), config)
    _, values = step(state, next(TinyBatches()))
    assert abs(values["squared"] - values["noise"] ** 2) > 1e-4, "equal noise has no variance"


def test_gradient_is_clipped_to_the_global_norm_and_reported_unclipped():
    config = TrainConfig(batch_size=8)
    task = tiny_task(loss_fn=quiet_loss)
    state, free = state_and_step(task, config, SGD)
    batch = next(TinyBatches())
    _, before = free(state, batch)
    state, clipped = state_and_step(task, config, optax.chain(optax.clip_by_global_norm(0.5), SGD))
    _, after = clipped(state, batch)
    assert before["grad_norm"] > 0.6
    assert after["grad_norm"] == before["grad_norm"]
    np.testing.assert_allclose(after["update_norm"], 0.5, rtol=1e-5)


def test_the_configured_optimizer_clips():
    """A huge gradient and a clipped one give AdamW the same first moments only if the clip comes first."""
    big = make_optimizer(OptimizerConfig(clip_norm=1.0), 10)
    params = {"a": {"kernel": jnp.ones((2, 2))}}
    _, state = big.update(jax.tree.map(lambda leaf: 1000 * leaf, params), big.init(params), params)
    first_moment = optax.tree_utils.tree_get(state, "mu")["a"]["kernel"]
    np.testing.assert_allclose(first_moment, 0.1 * 0.5, rtol=1e-5)


def test_bfloat16_compute_sees_bfloat16_and_keeps_float32_parameters():
    seen = []

    def loss(params, batch, key):
        seen.append({str(leaf.dtype) for leaf in jax.tree.leaves(params)})
        return quiet_loss(params, batch | {"x": batch["x"].astype(jnp.bfloat16)}, key)

    config = TrainConfig(batch_size=8, compute_dtype="bfloat16")
    state, step = state_and_step(tiny_task(loss_fn=loss), config)
    after, values = step(state, next(TinyBatches()))
    assert seen == [{"bfloat16"}]
    for part in ("params", "ema"):
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(after[part])} == {"float32"}
    assert values["loss"].dtype == jnp.float32
    # An update of 1e-4 would be lost in bfloat16 (spacing near 0.5 is 2e-3).
    moved = np.abs(after["params"]["encoder"]["kernel"] - state["params"]["encoder"]["kernel"])
    assert 5e-5 < moved.max() < 2e-4


def test_frozen_leaves_stay_and_have_no_optimizer_state_and_no_average():
    task, config = tiny_task(frozen=(r"^encoder\.",)), TrainConfig(batch_size=8)
    state, step = state_and_step(task, config)
    after, _ = step(state, next(TinyBatches()))
    assert set(state["frozen"]) == {"encoder"}
    assert set(state["params"]) == set(state["ema"]) == {"layers"}
    assert set(optax.tree_utils.tree_get(state["train"]["opt"], "mu")) == {"layers"}
    assert_close(after["frozen"], state["frozen"], rtol=0)
    assert not np.allclose(after["params"]["layers"]["0"]["kernel"], state["params"]["layers"]["0"]["kernel"])


def test_projection_is_applied_after_the_update():
    def clip(params):
        return params | {"layers": jax.tree.map(lambda leaf: jnp.clip(leaf, 0, 1e-3), params["layers"])}

    config = TrainConfig(batch_size=8, optimizer=OptimizerConfig(learning_rate=0.5))
    state, step = state_and_step(tiny_task(project=clip), config)
    after, _ = step(state, next(TinyBatches()))
    for part in ("params", "ema"):
        leaves = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(after[part]["layers"])])
        assert leaves.min() >= 0
        assert leaves.max() <= 1.0001e-3  # the average may be off by one rounding
    assert np.abs(after["params"]["encoder"]["kernel"]).max() > 1e-3


def test_the_step_compiles_once_and_gives_back_the_shapes_it_got():
    config = TrainConfig(batch_size=8)
    state, step = state_and_step(tiny_task(), config)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), state)
    batches = TinyBatches()
    for _ in range(3):
        state, _ = step(state, next(batches))
    assert step._cache_size() == 1
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), state) == shapes


def test_split_and_merge_are_inverse():
    params = init(jax.random.key(0))
    trainable, frozen = split(params, ("bias$",))
    assert set(flatten(frozen)) == {"encoder.bias", "layers.0.bias"}
    assert_close(merge(trainable, frozen), params, rtol=0)


def test_a_frozen_pattern_without_a_match_is_named():
    with pytest.raises(StoryjaxError, match=r"frozen pattern 'text_encoder' matches no parameter"):
        split(init(jax.random.key(0)), ("text_encoder",))


def test_freezing_everything_is_refused():
    with pytest.raises(StoryjaxError, match="nothing to train"):
        new_state(init(jax.random.key(0)), (".",), SGD, 0)


def test_a_trainable_leaf_that_is_not_float32_is_named():
    params = init(jax.random.key(0))
    params["encoder"]["bias"] = params["encoder"]["bias"].astype(jnp.bfloat16)
    with pytest.raises(StoryjaxError, match=r"'encoder.bias' is bfloat16; expected float32"):
        new_state(params, (), SGD, 0)


def test_given_parameters_that_do_not_fit_are_all_named_at_once():
    params, expected = init(jax.random.key(0)), init(jax.random.key(0))
    params["encoder"] = {"kernel": jnp.zeros((5, 8)), "scale": jnp.zeros(8)}
    with pytest.raises(StoryjaxError) as caught:
        check_params(params, expected)
    for part in ("missing 'encoder.bias'", "unknown 'encoder.scale'", "'encoder.kernel' is (5, 8), expected (4, 8)"):
        assert part in str(caught.value)


def test_new_state_does_not_hold_the_callers_buffers():
    params = init(jax.random.key(0))
    state = new_state(params, (), SGD, 0)
    jax.jit(lambda tree: jax.tree.map(jnp.negative, tree), donate_argnums=0)(state)
    assert float(params["encoder"]["kernel"].sum()) != 0
