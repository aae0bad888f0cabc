"""The training loss around the network: what is noised, what the network is shown, what is judged.

The official loss itself, with its gradients, is reproduced in `test_goldens.py`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.diffusion.losses import min_snr_weights
from storyjax.diffusion.schedule import ScheduleConfig, add_noise, make_schedule
from storyjax.errors import StoryjaxError
from storyjax.nn.build import bind, flatten
from storyjax.systems.contextual_story import objective
from storyjax.systems.contextual_story.objective import (
    Networks,
    StoryLoss,
    alpha_leaves,
    clip_alphas,
    continuation_error,
    encode_captions,
    initial_params,
    make_loss,
    motion_of,
    story_context,
    story_maker,
    text_maker,
    visualization_error,
)
from storyjax.train.step import cast
from tests.tiny import TEXT, TOKENS, VISUALIZATION, network, quick_jit

RANDOM = np.random.default_rng(23)
TABLE = make_schedule(ScheduleConfig.contextual_story())
TIMES = jnp.array([40, 900])
NULL = jnp.arange(TOKENS) % 3


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


X0, EPS, CONTEXT = normal(2, 3, 4, 4, 4), normal(2, 3, 4, 4, 4), normal(2, 3, TOKENS, 8)


class FakeModel:
    """Predicts what it is told to, and remembers what it was shown."""

    def __init__(self, prediction):
        self.prediction = prediction

    def __call__(self, noisy, times, context, motion, first=None):
        self.noisy, self.times, self.context, self.motion, self.first = noisy, times, context, motion, first
        return self.prediction


def visualize(model, clean, gamma=None, dtype=jnp.float32):
    return visualization_error(model, TABLE, gamma, X0, EPS, TIMES, CONTEXT, jnp.array(clean), dtype)


def test_a_story_is_noised_at_its_own_timestep_and_judged_on_all_frames():
    model = FakeModel(EPS + 0.5)
    loss, per_story = visualize(model, [False, False])
    np.testing.assert_allclose(model.noisy, add_noise(TABLE, X0, EPS, TIMES), atol=1e-6)
    np.testing.assert_array_equal(model.times, [[40] * 3, [900] * 3])
    np.testing.assert_allclose(per_story, [0.25, 0.25], rtol=1e-5)
    np.testing.assert_allclose(loss, 0.25, rtol=1e-5)


def test_a_clean_first_frame_is_shown_as_it_is_and_not_judged():
    prediction = EPS.copy()
    prediction[0, 0] += 100  # frame 0 of the clean story: nobody looks
    prediction[0, 1:] += 0.5
    prediction[1] += 0.25
    model = FakeModel(prediction)
    _, per_story = visualize(model, [True, False])
    np.testing.assert_array_equal(model.noisy[0, 0], X0[0, 0])
    np.testing.assert_allclose(model.noisy[0, 1:], add_noise(TABLE, X0, EPS, TIMES)[0, 1:], atol=1e-6)
    np.testing.assert_allclose(model.noisy[1], add_noise(TABLE, X0, EPS, TIMES)[1], atol=1e-6)
    np.testing.assert_array_equal(model.times, [[0, 40, 40], [900] * 3])
    np.testing.assert_allclose(per_story, [0.25, 0.0625], rtol=1e-5)  # the mean over the judged frames


def test_errors_are_weighted_by_min_snr():
    prediction = EPS.copy()
    prediction[0] += 1
    prediction[1] += 2
    loss, _ = visualize(FakeModel(prediction), [False, False], gamma=5.0)
    weights = np.asarray(min_snr_weights(TABLE, TIMES, 5.0))
    assert weights[0] < 0.5
    assert weights[1] == 1
    np.testing.assert_allclose(loss, (weights * [1, 4]).mean(), rtol=1e-5)


def test_motion_is_measured_on_clean_latents_and_cut_to_whole_numbers():
    model = FakeModel(EPS)
    visualize(model, [True, False])
    exact = np.sqrt(np.square(np.diff(X0, axis=1)).sum((2, 3, 4)))
    np.testing.assert_allclose(motion_of(X0), exact, rtol=1e-6)
    np.testing.assert_array_equal(model.motion, np.floor(exact))
    assert np.abs(exact - np.floor(exact)).min() > 0


def test_latents_stay_float32_until_the_network():
    model = FakeModel(jnp.asarray(EPS, jnp.bfloat16))
    loss, _ = visualize(model, [False, False], dtype=jnp.bfloat16)
    assert model.noisy.dtype == jnp.bfloat16
    assert model.motion.dtype == jnp.float32
    np.testing.assert_array_equal(model.noisy, add_noise(TABLE, X0, EPS, TIMES).astype(jnp.bfloat16))
    assert loss.dtype == jnp.float32


def test_a_continuation_shows_frame_0_and_judges_the_others():
    model = FakeModel(EPS[:, 1:] + 0.5)
    chosen = jnp.array([True, False])
    _, per_story = continuation_error(model, TABLE, None, X0, EPS, TIMES, CONTEXT, chosen, jnp.float32)
    noisy = add_noise(TABLE, X0, EPS, TIMES)
    np.testing.assert_allclose(model.noisy, noisy[:, 1:], atol=1e-6)
    np.testing.assert_allclose(model.first[0], noisy[0, 0], atol=1e-6)  # replaced by its noised self
    np.testing.assert_array_equal(model.first[1], X0[1, 0])
    np.testing.assert_array_equal(model.motion, np.floor(motion_of(X0)))  # of the pictures, not of the stand-in
    np.testing.assert_array_equal(model.times, TIMES)
    np.testing.assert_allclose(per_story, [0.25, 0.25], rtol=1e-5)


def test_null_captions_bypass_the_contextualizer():
    class Model:
        def contextualize(self, text):
            return text + 100

    text, null = normal(2, 3, 5, 8), normal(5, 8)
    out = np.asarray(story_context(Model(), text, null, jnp.array([True, False])))
    np.testing.assert_array_equal(out[0], np.stack([null] * 3))
    np.testing.assert_array_equal(out[1], text[1] + 100)


def test_gates_are_brought_back_and_nothing_else_is_touched():
    params = {"a": {"alpha": jnp.array([1.5]), "kernel": jnp.array([1.5])}, "b": {"0": {"alpha": jnp.array([-0.1])}}}
    out = clip_alphas(params)
    assert jax.tree.map(lambda leaf: round(float(leaf[0]), 3), out) == {
        "a": {"alpha": 1.0, "kernel": 1.5},
        "b": {"0": {"alpha": 0.0}},
    }
    assert [float(leaf[0]) for leaf in alpha_leaves(params)] == pytest.approx([1.5, -0.1])


@pytest.mark.parametrize("name", ["drop_text", "drop_first_frame", "clean_first_frame"])
@pytest.mark.parametrize("value", [-0.1, 1.01])
def test_shares_are_between_0_and_1(name, value):
    with pytest.raises(StoryjaxError, match=f"{name} is a share of stories, expected 0..1, got {value}"):
        StoryLoss(**{name: value})
    assert getattr(StoryLoss(**{name: 1.0}), name) == 1


# ---- with the tiny networks ----


@functools.cache
def networks():
    return Networks.build(VISUALIZATION, TEXT), {
        "unet": network(story_maker(VISUALIZATION))[1],
        "text_encoder": network(text_maker(TEXT))[1],
    }


def batch_of():
    return {
        "latents_mean": normal(2, 3, 4, 4, 4),
        "latents_std": np.abs(normal(2, 3, 4, 4, 4)),
        "tokens": RANDOM.integers(0, TEXT.vocab_size, (2, 3, TOKENS)).astype(np.int32),
        "index": np.arange(2),
    }


def test_cached_captions_are_those_the_encoder_would_give():
    definition, params = networks()
    batch = batch_of()
    encode = quick_jit(lambda params, batch: encode_captions(definition, params, batch, NULL))
    text, null = encode(params, batch)
    again, null_again = encode(params, {"text": np.asarray(text)})
    assert (text.shape, null.shape) == ((2, 3, TOKENS, 8), (TOKENS, 8))
    np.testing.assert_array_equal(again, text)
    np.testing.assert_allclose(null_again, null, atol=1e-6)
    one = bind(definition.text, params["text_encoder"])
    np.testing.assert_allclose(quick_jit(lambda m, t: m(t))(one, batch["tokens"][1, 2]), text[1, 2], atol=1e-6)


def test_latents_are_drawn_from_the_posterior_and_scaled(monkeypatch):
    definition, params = networks()
    seen = []

    def note(model, table, gamma, x0, eps, times, context, chosen, dtype):
        seen.append((x0, eps, times, chosen))
        return x0.mean(), x0.mean((1, 2, 3, 4))

    monkeypatch.setattr(objective, "visualization_error", note)
    batch = batch_of()
    loss_fn = make_loss(definition, StoryLoss(clean_first_frame=1.0), NULL, 0.5, continuation=False)
    loss_fn(params, batch, jax.random.key(0))
    loss_fn(params, batch, jax.random.key(1))
    loss_fn(params, batch | {"latents_std": 0 * batch["latents_std"]}, jax.random.key(0))
    (x0, eps, times, chosen), (other, other_eps, other_times, _), (mean, _, _, _) = seen
    np.testing.assert_allclose(mean, 0.5 * batch["latents_mean"], rtol=1e-6)
    spread = (np.asarray(x0) - mean) / (0.5 * batch["latents_std"])
    assert 0.7 < spread.std() < 1.3
    assert np.abs(x0 - other).max() > 0.01
    assert np.abs(eps - other_eps).max() > 0.1
    assert (np.asarray(times) != np.asarray(other_times)).any()
    assert np.asarray(chosen).all()


def test_the_whole_loss_is_finite_in_bfloat16_and_follows_the_contextualizer():
    definition, params = networks()
    loss_fn = quick_jit(make_loss(definition, StoryLoss(drop_text=0.0), NULL, 0.5, continuation=False))
    batch, key = batch_of(), jax.random.key(0)
    half = cast(params, jnp.bfloat16)
    loss, metrics = loss_fn(half, batch, key)
    assert loss.dtype == jnp.float32
    assert np.isfinite(loss)
    assert 0.1 < loss < 10
    np.testing.assert_allclose(metrics["alpha"], 0.4, rtol=1e-2)
    half["unet"]["contextualizer"]["norm"]["scale"] *= 2
    assert abs(loss_fn(half, batch, key)[0] - loss) > 1e-4


def test_stories_trained_on_null_captions_do_not_know_the_contextualizer_or_their_text():
    definition, params = networks()
    loss_fn = quick_jit(make_loss(definition, StoryLoss(drop_text=1.0), NULL, 0.5, continuation=False))
    batch, key = batch_of(), jax.random.key(0)
    loss, _ = loss_fn(params, batch, key)
    changed = jax.tree.map(np.copy, params)
    changed["unet"]["contextualizer"]["norm"]["scale"] *= 2
    np.testing.assert_array_equal(loss_fn(changed, batch, key)[0], loss)
    np.testing.assert_array_equal(loss_fn(params, batch | {"tokens": batch["tokens"][::-1]}, key)[0], loss)
    changed["text_encoder"]["final_layer_norm"]["bias"] += 1
    assert abs(loss_fn(changed, batch, key)[0] - loss) > 1e-4


def test_the_first_parameters_are_those_of_the_definitions():
    _, params = networks()
    drawn = jax.eval_shape(lambda key: initial_params(VISUALIZATION, TEXT, key), jax.random.key(0))
    assert {path: leaf.shape for path, leaf in flatten(drawn).items()} == {
        path: leaf.shape for path, leaf in flatten(params).items()
    }
    assert {leaf.dtype for leaf in jax.tree.leaves(drawn)} == {jnp.dtype(jnp.float32)}
