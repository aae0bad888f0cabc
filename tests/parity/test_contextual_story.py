"""ContextualStory whole, against a second implementation in PyTorch: as trained, with all gradients, and as sampled."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from storyjax.diffusion import guidance  # noqa: E402
from storyjax.diffusion.samplers import sample  # noqa: E402
from storyjax.diffusion.schedule import ScheduleConfig, make_schedule  # noqa: E402
from storyjax.nn.build import bind  # noqa: E402
from storyjax.systems.contextual_story import objective  # noqa: E402
from storyjax.systems.contextual_story.weights import RULES  # noqa: E402
from storyjax.weights import to_pytorch  # noqa: E402
from storyjax.weights.component import component_of  # noqa: E402
from tests import tiny  # noqa: E402
from tests.parity import contextual_story_diffusion_torch as reference  # noqa: E402
from tests.parity.contextual_story_sides import (  # noqa: E402
    CONTINUATION,
    VISUALIZATION,
    config_of,
    drawn,
    error,
    ours,
    sides,
)
from tests.parity.contextual_story_torch import Sizes  # noqa: E402

STORIES, FRAMES, TOKENS, WIDTH = 2, VISUALIZATION.frames, 7, VISUALIZATION.context
SIZE = (6, 4)
SCHEDULE = make_schedule(ScheduleConfig.contextual_story())
SIZES = pytest.mark.parametrize("sizes", [VISUALIZATION, CONTINUATION], ids=["visualization", "continuation"])

X0, NOISE = drawn(1, STORIES, 4, FRAMES, *SIZE), drawn(2, STORIES, 4, FRAMES, *SIZE)
TIMES = torch.tensor([17, 731])
TEXT, NULL = drawn(3, STORIES * FRAMES, TOKENS, WIDTH), drawn(4, FRAMES, TOKENS, WIDTH)
IS_NULL = torch.tensor([False, True])


def told(text: torch.Tensor) -> np.ndarray:
    """(N, L, D) -> (B, F, L, D)."""
    return text.numpy().reshape(-1, FRAMES, *text.shape[1:])


def our_step(both, continuation: bool, dtype: str = "float32"):
    """(params, batch) -> (loss, prediction) by the loss that ships; the prediction is noted on its way into it."""

    def step(params, x0, noise, times, text, null, is_null):
        model, seen = bind(both.graphdef, params), {}

        def noting(*inputs):
            seen["prediction"] = model(*inputs)
            return seen["prediction"]

        context = objective.story_context(model, text.astype(dtype), null.astype(dtype), is_null)
        clean = jnp.zeros(STORIES, bool)
        compute = objective.continuation_error if continuation else objective.visualization_error
        loss, _ = compute(noting, SCHEDULE, 5.0, x0, noise, times, context, clean, dtype)
        return loss, seen["prediction"]

    return step


BATCH = (ours(X0), ours(NOISE), TIMES.numpy(), told(TEXT), NULL.numpy(), IS_NULL.numpy())


@functools.cache
def trained(sizes):
    """Loss, prediction and gradients by PyTorch name; ours, then theirs."""
    both = sides(sizes)
    step = our_step(both, sizes.continuation)
    (loss, prediction), gradients = tiny.quick_jit(jax.value_and_grad(step, has_aux=True))(both.params, *BATCH)
    both.torch.zero_grad()
    their_loss, their_prediction = reference.training_step(both.torch, X0, NOISE, TIMES, TEXT, NULL, IS_NULL)
    their_loss.backward()
    theirs = {name: parameter.grad for name, parameter in both.torch.named_parameters()}
    return (loss, prediction, to_pytorch(gradients, RULES)), (their_loss, their_prediction, theirs)


@pytest.mark.parametrize("continuation", [False, True])
def test_a_published_config_is_read_as_the_same_network(continuation):
    published = Sizes(continuation=continuation)
    read = component_of(published.published_config()).read_config(published.published_config())
    assert read == config_of(published)


@SIZES
def test_training_form_and_its_loss(sizes):
    (loss, prediction, _), (their_loss, their_prediction, _) = trained(sizes)
    assert error(prediction, their_prediction) <= 1e-4
    assert error(loss, their_loss) <= 1e-4


@SIZES
def test_gradient_of_every_parameter(sizes):
    (*_, got), (*_, expected) = trained(sizes)
    assert sorted(got) == sorted(expected)
    whole = np.sqrt(sum(float(grad.square().sum()) for grad in expected.values() if grad is not None))
    for name, gradient in expected.items():
        if gradient is None:  # what the published network stores and never uses
            assert not got[name].any(), name
            continue
        assert gradient.any(), f"{name} has no gradient: the test would not see it"
        wrong = np.linalg.norm(got[name] - gradient.numpy())
        # a gradient far smaller than the others is known only as exactly as the sums it is the rest of
        assert wrong <= 1e-4 * max(float(gradient.norm()), 1e-3 * whole), name


@SIZES
def test_training_form_in_bfloat16(sizes):
    both = sides(sizes, "bfloat16")
    step = our_step(both, sizes.continuation, "bfloat16")
    _, prediction = tiny.quick_jit(step)(both.params, *BATCH)
    assert prediction.dtype == jnp.bfloat16
    with torch.no_grad():
        _, expected = reference.training_step(both.torch, X0, NOISE, TIMES, TEXT, NULL, IS_NULL)
    assert error(prediction.astype(jnp.float32), expected) <= 2e-2


@pytest.mark.parametrize(
    ("sizes", "scales"),
    [
        (VISUALIZATION, reference.Guidance(text=7.5)),
        (CONTINUATION, reference.Guidance(text=7.5)),
        (CONTINUATION, reference.Guidance(text=7.5, image=1.5)),
    ],
    ids=["visualization", "continuation", "continuation with two scales"],
)
def test_guided_sampling_over_a_ddim_trajectory(sizes, scales):
    """The latents of every step, and what the network gives for the first: the guided form before it is combined."""
    both, steps = sides(sizes), 4
    start = drawn(5, STORIES, 4, FRAMES, *SIZE)
    motion = 60 + 9 * drawn(6, 1, FRAMES - 1)
    null = NULL.repeat(STORIES, 1, 1)
    first = drawn(7, STORIES, 4, 1, *SIZE) if sizes.continuation else None
    expected_outputs: list[torch.Tensor] = []
    hook = both.torch.register_forward_hook(lambda _, __, out: expected_outputs.append(out))
    expected = reference.ddim_trajectory(both.torch, start, null, TEXT, motion, steps, scales, first)
    hook.remove()

    ours_scales = guidance.Guidance(scales.text, scales.image)
    form, outputs = ours_scales.form, []

    def generate(params, start, null, text, motion, first):
        model = bind(both.graphdef, params)
        context = guidance.text_batch(null, model.contextualize(text), form)
        frames = None
        if first is not None:
            frames = guidance.first_frame_batch(first, start[:, :1], form)[:, 0]
            start = start[:, 1:]

        def denoise(latents, timestep):
            out = model(latents, timestep, context, motion, frames)
            jax.debug.callback(lambda value: outputs.append(np.asarray(value)), out, ordered=True)
            return out

        return sample(
            guidance.guided(denoise, form, ours_scales.scales), SCHEDULE, "ddim", steps, start, trajectory=True
        )

    given = None if first is None else ours(first)
    _, path = tiny.quick_jit(generate)(both.params, ours(start), told(null), told(TEXT), motion.numpy(), given)
    jax.effects_barrier()
    assert len(outputs) == len(expected_outputs) == steps
    assert len(outputs[0]) == STORIES * (2 if form == "text" else 3)
    assert error(outputs[0], expected_outputs[0]) <= 1e-4
    for number, latents in enumerate(expected):
        assert error(path[number], latents) <= 1e-4, f"step {number}"
