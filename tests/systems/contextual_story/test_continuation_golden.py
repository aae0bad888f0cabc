"""Continuation against a golden of the PyTorch implementation in `tests/parity`, where the official code left none.

Its training loss with the gradient of every parameter, and guided sampling with two scales.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.diffusion import guidance
from storyjax.diffusion.samplers import sample
from storyjax.diffusion.schedule import ScheduleConfig, make_schedule
from storyjax.models.unet import UNetConfig
from storyjax.nn.build import abstract, bind
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.model import ContextualStory
from storyjax.systems.contextual_story.objective import continuation_error, story_context
from storyjax.systems.contextual_story.weights import RULES
from storyjax.weights import to_pytorch
from storyjax.weights.component import component
from storyjax.weights.load import load_params
from tests import tiny
from tests.goldens import make_inputs as inputs

CONFIG = ContextualStoryConfig(
    unet=UNetConfig(
        block_out_channels=inputs.TINY.channels,
        attention=(True, False),
        heads=(4, 4),
        layers_per_block=1,
        cross_attention_dim=inputs.TINY.text,
        norm_groups=8,
    ),
    frames=3,
    contextualizer_layers=1,
    first_frame="conv2d",
)
SCHEDULE = make_schedule(ScheduleConfig.contextual_story())
GRAPHDEF, _ = abstract(lambda rngs: ContextualStory(CONFIG, rngs=rngs))


@pytest.fixture(scope="module")
def params():
    weights = inputs.named_weights(inputs.official_shapes(inputs.TINY, continuation=True))
    return load_params(component("contextual_story"), CONFIG, weights)[0]


@pytest.fixture(scope="module")
def given():
    values = inputs.tiny_continuation()
    return {k: v.reshape(-1, 3, *v.shape[1:]) if "text" in k else _channels_last(v) for k, v in values.items()}


def _channels_last(x):
    return inputs.channels_last(x) if x.ndim == 5 else x


def test_training_loss_and_gradients(params, given):
    def loss(params, given):
        model = bind(GRAPHDEF, params)
        context = story_context(model, given["text"], given["null_text"][0], jnp.array([False, True]))
        inputs = (given["x0"], given["noise"], jnp.array([17, 731]), context, jnp.zeros(2, bool), jnp.float32)
        return continuation_error(model, SCHEDULE, 5.0, *inputs)[0]

    with jax.default_matmul_precision("highest"):
        value, gradients = tiny.quick_jit(jax.value_and_grad(loss))(params, given)
    golden = inputs.golden("tiny_sc")
    np.testing.assert_allclose(value, golden["loss"], rtol=1e-5)
    norms = {name: np.linalg.norm(np.float64(gradient)) for name, gradient in to_pytorch(gradients, RULES).items()}
    expected = dict(zip(sorted(norms), golden["grad_norms"], strict=True))
    used = {name: norm for name, norm in expected.items() if not np.isnan(norm)}
    assert not any(norms[name] for name in expected if name not in used)
    total = np.sqrt(sum(norm**2 for norm in used.values()))
    for name, norm in used.items():
        assert abs(norms[name] - norm) <= 1e-3 * norm + 1e-6 * total, name


def test_guided_sampling_with_two_scales(params, given):
    scales = guidance.Guidance(text=7.5, image=1.5)

    def generate(params, start, first, text, null, motion):
        model = bind(GRAPHDEF, params)
        context = guidance.text_batch(null, model.contextualize(text), scales.form)
        frames = guidance.first_frame_batch(first, start[:, :1], scales.form)[:, 0]

        def denoise(latents, timestep):
            return model(latents, timestep, context, motion, frames)

        guided = guidance.guided(denoise, scales.form, scales.scales)
        return sample(guided, SCHEDULE, "ddim", 4, start[:, 1:], trajectory=True)[1]

    null = np.repeat(given["null_text"], 2, axis=0)
    with jax.default_matmul_precision("highest"):
        path = tiny.quick_jit(generate)(
            params, given["noise"], given["first_frame"], given["text"], null, given["motion"]
        )
    for number, expected in enumerate(inputs.golden("tiny_sc")["traj"]):
        expected = inputs.channels_last(expected)
        assert np.linalg.norm(path[number] - expected) <= 1e-4 * np.linalg.norm(expected), f"step {number}"
