"""The PyTorch implementation that the others are measured by, held against the official code's names and outputs."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tests.goldens import make_inputs as official  # noqa: E402
from tests.parity import make_goldens  # noqa: E402
from tests.parity.contextual_story_diffusion_torch import Guidance, ddim_trajectory, training_step  # noqa: E402
from tests.parity.contextual_story_torch import Sizes, StoryUNet  # noqa: E402

SMALL = Sizes(channels=(32, 64, 96, 96), heads=(4, 4, 4, 4), layers=1, groups=8, contextualizer_layers=1)


def given(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(official.named_input(name, *shape))


def loaded(continuation: bool) -> StoryUNet:
    with torch.device("meta"):
        unet = StoryUNet(dataclasses.replace(SMALL, continuation=continuation)).eval()
    weights = official.named_weights(official.official_shapes(official.SMALL, continuation))
    unet.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in weights.items()}, assign=True)
    return unet


def largest_difference(got: torch.Tensor, expected: np.ndarray) -> float:
    assert got.shape == expected.shape
    return float((got.detach() - torch.from_numpy(expected)).abs().max())


@pytest.mark.parametrize("continuation", [False, True])
def test_names_and_shapes_are_the_published_ones(continuation):
    listed = official.golden_json("official_keys")
    published = listed["keys_story_visualization"] | (listed["extra_keys_story_continuation"] if continuation else {})
    with torch.device("meta"):
        unet = StoryUNet(Sizes(continuation=continuation))
    assert {name: list(value.shape) for name, value in unet.state_dict().items()} == published


@pytest.fixture(scope="module")
def visualization():
    return loaded(continuation=False)


def start_noise(tag: str, base: str, stories: int) -> torch.Tensor:
    shared, own = given(f"{tag}/{base}", stories, 4, 1, 16, 16), given(f"{tag}/ind", stories, 4, 5, 16, 16)
    return shared * (2.25 / 3.25) ** 0.5 + own * (1 / 3.25) ** 0.5


@torch.no_grad()
def test_the_training_form_of_continuation():
    file, tag = official.golden("small_sc_train_none"), "small_sc_train"
    out = loaded(continuation=True).training_form(
        given(f"{tag}/sample", 2, 4, 4, 16, 16),
        torch.from_numpy(file["timesteps"]).repeat_interleave(5),
        given(f"{tag}/text", 10, 77, 1024),
        given(f"{tag}/null_text", 5, 77, 1024),
        torch.tensor([False, False]),
        torch.from_numpy(official.MOTION_INTEGER),
        given(f"{tag}/first_frame_latents", 2, 4, 1, 16, 16),
    )
    assert largest_difference(out, file["out"]) <= 1e-5


def test_the_loss_and_gradients_of_visualization(visualization):
    file, tag = official.golden("small_sv_trainstep"), "small_sv_trainstep"
    x0, noise = given(f"{tag}/x0", 2, 4, 5, 16, 16), start_noise(tag, "shared", 2)
    loss, _ = training_step(
        visualization,
        x0,
        noise,
        torch.tensor([17, 731]),
        given(f"{tag}/text", 10, 77, 1024),
        given(f"{tag}/null_text", 5, 77, 1024),
        torch.tensor([False, True]),
    )
    assert abs(float(loss.detach()) - float(file["loss"])) <= 2e-6
    loss.backward()
    parameters = dict(visualization.named_parameters())
    for name in (key for key in file if key.startswith("grad:")):
        expected = file[name]
        gradient = parameters[name.removeprefix("grad:")].grad
        assert largest_difference(gradient, expected) <= 1e-5 * np.abs(expected).max() + 1e-9, name


def test_guided_ddim_steps_of_visualization(visualization):
    path = ddim_trajectory(
        visualization,
        start_noise("ddim", "base", 1),
        given("ddim/uncond_text", 5, 77, 1024),
        given("ddim/text", 5, 77, 1024),
        torch.from_numpy(official.MOTION_FLOAT),
        steps=4,
        guidance=Guidance(text=7.5),
    )
    assert largest_difference(torch.stack(path), official.golden("small_sv_ddim4")["traj"]) <= 5e-4


def test_the_stored_golden_is_what_this_implementation_gives():
    stored = dict(np.load(make_goldens.FILE))
    given = make_goldens.outputs()
    assert sorted(stored) == sorted(given)
    for name, value in given.items():
        np.testing.assert_allclose(value, stored[name], rtol=1e-3, atol=1e-5 * np.nanmax(np.abs(value)), err_msg=name)
