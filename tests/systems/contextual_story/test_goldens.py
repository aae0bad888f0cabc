"""ContextualStory against outputs of the official code, in float32, within the tolerances measured for them.

Weights and inputs are functions of their names (`tests/goldens/make_inputs.py`); the files hold outputs only. Everything here
is loaded through the table of names, so the table is tested by the same numbers.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.diffusion.guidance import Guidance, guided
from storyjax.diffusion.losses import min_snr_weights
from storyjax.diffusion.noise import mix
from storyjax.diffusion.samplers import Sampler, inference_timesteps, sample
from storyjax.diffusion.schedule import ScheduleConfig, make_schedule
from storyjax.models.unet import UNetConfig
from storyjax.nn.build import abstract, bind
from storyjax.nn.embeddings import sinusoid
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.model import ContextualStory
from storyjax.systems.contextual_story.objective import motion_of, story_context, visualization_error
from storyjax.systems.contextual_story.temporal import StoryContext
from storyjax.systems.contextual_story.weights import RULES
from storyjax.weights import shapes_of, to_native, to_pytorch
from tests.goldens.make_inputs import (
    MOTION_FLOAT,
    MOTION_INTEGER,
    SMALL,
    channels_last,
    golden,
    golden_json,
    named_input,
    named_weights,
    official_shapes,
)

FRAMES = StoryContext(5)
SMALL_UNET = UNetConfig(block_out_channels=(32, 64, 96, 96), heads=(4, 4, 4, 4), layers_per_block=1, norm_groups=8)
VISUALIZATION = ContextualStoryConfig(unet=SMALL_UNET, contextualizer_layers=1)
CONTINUATION = dataclasses.replace(VISUALIZATION, first_frame="conv2d")
SCHEDULE = make_schedule(ScheduleConfig.contextual_story())
# Whole networks compile for longer than they run here: less work on machine code halves the time of this file.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(autouse=True)
def _full_precision():
    with jax.default_matmul_precision("highest"):
        yield


@functools.cache
def loaded(config):
    """The small model's definition and its parameters, filled through the table of names."""
    graphdef, shapes = abstract(lambda rngs: ContextualStory(config, rngs=rngs))
    tensors = named_weights(official_shapes(SMALL, continuation=config.first_frame == "conv2d"))
    return graphdef, to_native(tensors, RULES, shapes_of(shapes))[0]


@pytest.fixture(scope="module")
def model():
    return bind(*loaded(VISUALIZATION))


@quick_jit
def run(module, *inputs):
    """Call a module under jit; its parameters are arguments, not constants."""
    return module(*inputs)


@quick_jit
def run_temporal(module, x):
    return module(x, FRAMES)


@quick_jit
def embed_motion(module, motion):
    return module.embed_motion(motion)


def in_slot(module, x):
    """Call a temporal module on official (N, C, H, W) features of two stories; returns that layout."""
    return channels_first(run_temporal(module, channels_last(x)))


def channels_first(x):
    """(N, H, W, C) -> (N, C, H, W), (B, F, H, W, C) -> (B, C, F, H, W)."""
    x = np.asarray(x)
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x.transpose(0, 4, 1, 2, 3)


def tokens(x):
    """(B, F, H, W, C) -> (B F, H W, C)."""
    return np.asarray(x).reshape(x.shape[0] * x.shape[1], -1, x.shape[-1])


def assert_close(got, expected, tolerance):
    assert got.shape == expected.shape
    difference = np.abs(np.asarray(got, np.float64) - expected).max()
    assert difference <= tolerance, f"largest difference {difference:.2e}, allowed {tolerance:.0e}"


def test_temporal_convolution_block(model):
    file = golden("block_tconv")
    block = model.unet.down_blocks[1].after_resnet[0]
    np.testing.assert_array_equal(block.alpha[...], file["alpha"])
    assert_close(in_slot(block, file["inp"]), file["out"], 3e-6)


def test_first_temporal_convolution(model):
    file = golden("block_tconv")
    block = model.unet.down_blocks[1].after_resnet[0]
    x = channels_last(file["inp"]).reshape(2, 5, 4, 3, 64)
    first = run(block.conv1, jax.nn.silu(run(block.norm1, x)))
    assert_close(channels_first(first.reshape(10, 4, 3, 64)), file["conv1"], 3e-6)


@pytest.mark.parametrize("name", ["block_seta", "block_temporal_mid"])
def test_temporal_transformer_and_its_intermediates(model, name):
    file = golden(name)
    unet = model.unet
    block = unet.down_blocks[1].after_attention[0] if name == "block_seta" else unet.mid_block.after_attention[0]
    np.testing.assert_array_equal(block.alpha[...], file["alpha"])

    @quick_jit
    def steps(block, x):
        inner, seen = block.transformer_blocks[0], {}
        seen["after_norm"] = block.norm(x).reshape(2, 5, *x.shape[1:])
        seen["after_proj_in"] = y = block.proj_in(seen["after_norm"])
        seen["attn1_out"] = inner.attn1(inner.norm1(y))
        y = y + seen["attn1_out"]
        seen["attn2_out"] = inner.attn2(inner.norm2(y))
        y = y + seen["attn2_out"]
        seen["ff_out"] = inner.ff(inner.norm3(y))
        seen["block_out"] = y + seen["ff_out"]
        return seen | {"after_proj_out": block.proj_out(seen["block_out"]), "out": block(x, FRAMES)}

    seen = steps(block, channels_last(file["inp"]))
    assert_close(channels_first(seen.pop("out")), file["out"], 3e-6)
    assert_close(tokens(seen.pop("after_norm")), tokens(channels_last(file["after_norm"])[None]), 3e-6)
    for step, value in seen.items():
        assert_close(tokens(value), file[step], 3e-6)


def test_temporal_transformer_follows_its_frequencies(model):
    file = golden("block_seta")
    block = model.unet.down_blocks[1].after_attention[0]
    faster = jax.tree.map_with_path(lambda path, x: x * 1.25 if "freqs" in jax.tree_util.keystr(path) else x, block)
    assert_close(in_slot(faster, file["inp"]), file["out_freqs_x1p25"], 3e-6)


@pytest.mark.parametrize(("alpha", "name"), [(1.3, "out_alpha_1p3"), (-0.2, "out_alpha_m0p2")])
def test_alpha_is_clamped_in_use(model, alpha, name):
    file = golden("block_seta")
    block = model.unet.down_blocks[1].after_attention[0]
    changed = jax.tree.map_with_path(
        lambda path, x: jnp.full_like(x, alpha) if "alpha" in jax.tree_util.keystr(path) else x, block
    )
    assert_close(in_slot(changed, file["inp"]), file[name], 3e-6)


def test_spatial_transformer(model):
    file = golden("block_spatial")
    block = model.unet.up_blocks[1].attentions[0]
    out = run(block, channels_last(file["inp"]), named_input("block_spatial/ctx", 10, 77, 1024))
    assert_close(channels_first(out), file["out_plain"], 3e-6)


def test_spatial_transformer_of_continuation_also_looks_at_the_first_frame():
    file = golden("block_spatial")
    block = bind(*loaded(CONTINUATION)).unet.up_blocks[1].attentions[0]
    context = named_input("block_spatial/ctx", 10, 77, 1024)

    @quick_jit
    def attend(block, x, context):
        return block(x, context, StoryContext(5, first_frame=jnp.zeros((2, 3, 4, 4))))

    out = attend(block, channels_last(file["inp"]), context)
    assert_close(channels_first(out), file["out_first_frame"], 3e-6)


def test_contextualizer(model):
    out = run(model.contextualizer, named_input("ctx_small", 2, 5, 12, 1024))
    assert_close(out, golden("contextualizer_1layer")["out"], 1e-5)


def test_motion_embedding_interpolates_sinusoids(model):
    file = golden("small_motion_embedding")
    assert_close(embed_motion(model, MOTION_INTEGER), file["emb_int"], 1e-6)
    assert_close(embed_motion(model, np.repeat(MOTION_FLOAT, 4, axis=0)), file["emb_float"], 1e-6)


def test_motion_embedding_takes_a_value_per_frame_as_it_is(model):
    motion = np.array([[3, 53, 61, 47, 70], [1, 12, 88, 35, 41]])
    assert_close(embed_motion(model, motion), golden("small_motion_embedding")["emb_int5"], 1e-6)


def test_sinusoid():
    file = golden("small_motion_embedding")
    assert_close(sinusoid(jnp.asarray(MOTION_FLOAT[0]), 320), file["sin32_320"], 1e-6)
    assert_close(sinusoid(jnp.asarray(MOTION_INTEGER.ravel()), 32), file["sin_int_32"], 1e-6)


@functools.cache
def training_step():
    """One program for outputs, loss and gradients: it compiles for most of this file's time, so it exists once.

    It is the loss that ships. What the network is given and gives is noted on the way; where a batch says `given`, the network
    sees the batch's own latents and motion instead.
    """
    graphdef, _ = loaded(VISUALIZATION)

    def loss(params, batch):
        model, seen = bind(graphdef, params), {}

        def noting(noisy, timesteps, context, motion):
            seen.update(noisy=noisy, motion=motion)
            noisy = jnp.where(batch["given"], batch["noisy"], noisy)
            motion = jnp.where(batch["given"], batch["motion"], motion)
            seen["prediction"] = model(noisy, timesteps, context, motion)
            return seen["prediction"]

        context = story_context(model, batch["text"], batch["null_text"], batch["is_null"])
        clean = jnp.zeros(len(batch["timesteps"]), bool)
        inputs = (batch["x0"], batch["noise"], batch["timesteps"], context, clean, jnp.float32)
        value, per_story = visualization_error(noting, SCHEDULE, 5.0, *inputs)
        return value, seen | {"per_story": per_story}

    return quick_jit(jax.value_and_grad(loss, has_aux=True))


def text_input(name, stories=2):
    return named_input(name, stories * 5, 77, 1024).reshape(stories, 5, 77, 1024)


def test_training_forward_pass():
    file = golden("small_sv_train_none")
    sampled = channels_last(named_input("small_sv_train/sample", 2, 4, 5, 16, 16))
    batch = {
        "given": np.array(True),
        "noisy": sampled,
        "x0": np.zeros_like(sampled),
        "noise": np.zeros_like(sampled),
        "timesteps": file["timesteps"].astype(np.int32),
        "text": text_input("small_sv_train/text"),
        "null_text": text_input("small_sv_train/null_text", 1),
        "is_null": file["is_null"],
        "motion": file["motion"].astype(np.float32),
    }
    (_, seen), _ = training_step()(loaded(VISUALIZATION)[1], batch)
    assert_close(channels_first(seen["prediction"]), file["out"], 1e-5)


def noise_input(tag, base, stories):
    """The mixed prior with alpha 1.5, (B, F, H, W, C)."""
    shared = named_input(f"{tag}/{base}", stories, 4, 1, 16, 16)
    own = named_input(f"{tag}/ind", stories, 4, 5, 16, 16)
    return np.asarray(mix(channels_last(shared), channels_last(own), 1.5))


@pytest.fixture(scope="module")
def trained():
    """Golden, loss, per-story errors and gradients of the official training step."""
    file, tag = golden("small_sv_trainstep"), "small_sv_trainstep"
    x0 = channels_last(named_input(f"{tag}/x0", 2, 4, 5, 16, 16))
    assert_close(np.asarray(motion_of(x0)), file["motion"], 1e-4)
    batch = {
        "given": np.array(False),
        "noisy": np.zeros_like(x0),
        "x0": x0,
        "noise": noise_input(tag, "shared", 2),
        "timesteps": np.array([17, 731], np.int32),
        "text": text_input(f"{tag}/text"),
        "null_text": text_input(f"{tag}/null_text", 1),
        "is_null": np.array([False, True]),
        "motion": np.zeros((2, 4), np.float32),
    }
    with jax.default_matmul_precision("highest"):
        (loss, seen), gradients = training_step()(loaded(VISUALIZATION)[1], batch)
    np.testing.assert_array_equal(seen["motion"], file["motion_long"])
    np.testing.assert_allclose(np.abs(np.float64(seen["noisy"])).sum(), file["noisy_abs_sum"], rtol=1e-6)
    return file, loss, seen["per_story"], to_pytorch(gradients, RULES)


def test_training_loss(trained):
    file, loss, per_story, _ = trained
    assert_close(min_snr_weights(SCHEDULE, jnp.array([17, 731])), file["weights"], 1e-6)
    assert_close(per_story, file["per_story_mse"], 2e-6)
    assert_close(np.asarray(loss), file["loss"], 2e-6)


def test_gradient_norm_of_every_parameter(trained):
    file, _, _, gradients = trained
    names = golden_json("small_sv_trainstep_names")["names"]
    assert sorted(names) == sorted(gradients)
    norms = np.array([np.linalg.norm(gradients[name].astype(np.float64)) for name in names])
    used = ~np.isnan(file["grad_norms"])
    assert (~used).sum() == 48
    assert not norms[~used].any()
    total = float(file["total_grad_norm"])
    relative = np.abs(norms - file["grad_norms"])[used] / (file["grad_norms"][used] + 1e-6 * total)
    assert relative.max() <= 2e-3, f"{np.array(names)[used][relative.argmax()]} differs by {relative.max():.1e}"
    assert abs(np.sqrt(np.square(norms).sum()) / total - 1) <= 2e-3


def test_full_gradients(trained):
    file, _, _, gradients = trained
    stored = {key.removeprefix("grad:"): value for key, value in file.items() if key.startswith("grad:")}
    assert len(stored) == 8
    for name, value in stored.items():
        assert_close(gradients[name], value, 1e-5 * np.abs(value).max() + 1e-9)


def test_continuation_forward_pass():
    file, tag = golden("small_sc_train_none"), "small_sc_train"
    graphdef, params = loaded(CONTINUATION)

    @quick_jit
    def forward(params, sample, first_frame, text, timesteps, motion):
        model = bind(graphdef, params)
        return model(sample, timesteps, model.contextualize(text), motion, first_frame)

    out = forward(
        params,
        channels_last(named_input(f"{tag}/sample", 2, 4, 4, 16, 16)),
        channels_last(named_input(f"{tag}/first_frame_latents", 2, 4, 1, 16, 16))[:, 0],
        text_input(f"{tag}/text"),
        file["timesteps"].astype(np.int32),
        file["motion"].astype(np.int32),
    )
    assert_close(channels_first(out), file["out"], 1e-5)


def test_four_guided_ddim_steps():
    file = golden("small_sv_ddim4")
    graphdef, params = loaded(VISUALIZATION)
    np.testing.assert_array_equal(inference_timesteps(SCHEDULE, Sampler(), 4), file["timesteps"])

    @quick_jit
    def generate(params, start, text, null_text, motion):
        model = bind(graphdef, params)
        context = jnp.concatenate([null_text, model.contextualize(text)])

        def denoise(latents, timestep):
            return model(latents, timestep, context, motion)

        guidance = Guidance(text=7.5)
        denoise_guided = guided(denoise, guidance.form, guidance.scales)
        return sample(denoise_guided, SCHEDULE, "ddim", 4, start, trajectory=True)

    final, path = generate(
        params,
        noise_input("ddim", "base", 1),
        text_input("ddim/text", 1),
        text_input("ddim/uncond_text", 1),
        MOTION_FLOAT,
    )
    assert_close(np.stack([channels_first(x) for x in path]), file["traj"], 5e-4)
    assert_close(channels_first(final), file["final"], 5e-4)
