"""What ContextualStory adds to the UNet: the parts that no official output pins down, and the shortcuts we take."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.kernels.story_attention.reference import visible_keys
from storyjax.models.unet import Place, UNet
from storyjax.nn.build import InitKeys, abstract, bind, flatten
from storyjax.nn.embeddings import rotate
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.contextualizer import StorylineContextualizer
from storyjax.systems.contextual_story.model import ContextualStory, interpolate_frames
from storyjax.systems.contextual_story.temporal import (
    FirstFrameInjection,
    SpatiallyEnhancedAttention,
    StoryContext,
    TemporalConvBlock,
    clip_alpha,
    frame_sinusoid,
)
from tests.tiny import UNET, VISUALIZATION, network, quick_jit

RANDOM = np.random.default_rng(17)
CONTINUATION = dataclasses.replace(VISUALIZATION, first_frame="conv2d")


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def story_network(config):
    return network(lambda rngs: ContextualStory(config, rngs=rngs))


# ---- spatially-enhanced temporal attention ----

SETA = network(lambda rngs: SpatiallyEnhancedAttention(8, 2, rngs=rngs))


def seta(params, z):
    return bind(SETA[0], params)(z)


def gathered_first(params, z):
    """SETA as the paper draws it: every query's keys are collected, then projected, then turned (spec 5.4)."""
    _, frames, height, width, channels = z.shape
    padded = jnp.pad(z, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    window = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    same_pixel = [z[:, t] for t in range(frames)]
    neighbours = [padded[:, t, i : i + height, j : j + width] for t in range(frames) for i, j in window]
    keys = jnp.stack([*same_pixel, *neighbours], axis=-2)  # (B, H, W, F + 8 F, C)
    key_frames = jnp.array([*range(frames), *(t for t in range(frames) for _ in window)])
    is_neighbour = jnp.arange(9 * frames) >= frames
    visible = ~(is_neighbour & (key_frames == jnp.arange(frames)[:, None]))

    queries = jnp.moveaxis(z, 1, 3)  # (B, H, W, F, C)
    q = rotate(queries @ params["to_q"]["kernel"], jnp.arange(frames), params["freqs"])
    k = rotate(keys @ params["to_k"]["kernel"], key_frames, params["freqs"])
    v = keys @ params["to_v"]["kernel"]
    q, k, v = (x.reshape(*x.shape[:-1], 2, channels // 2) for x in (q, k, v))
    scores = jnp.einsum("...tnd,...knd->...ntk", q, k) / np.sqrt(channels // 2)
    weights = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf), axis=-1)
    mixed = jnp.einsum("...ntk,...knd->...tnd", weights, v).reshape(queries.shape)
    out = mixed @ params["to_out"]["kernel"] + params["to_out"]["bias"]
    return jnp.moveaxis(out, 3, 1)


def test_projecting_once_and_reading_in_place_equals_gathering_first():
    z, weight = normal(2, 3, 4, 3, 8), normal(2, 3, 4, 3, 8)
    found = []
    for attend in (seta, gathered_first):

        def total(params, z, attend=attend):
            out = attend(params, z)
            return (out * weight).sum(), out

        found.append(quick_jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(SETA[1], z))
    ((_, out), (of_params, of_z)), ((_, expected), (params_expected, z_expected)) = found
    np.testing.assert_allclose(out, expected, atol=2e-6)
    np.testing.assert_allclose(of_z, z_expected, atol=2e-5)
    for path, leaf in flatten(of_params).items():
        reference = flatten(params_expected)[path]
        assert np.abs(reference).max() > 1e-3, path
        np.testing.assert_allclose(leaf, reference, atol=1e-4, err_msg=path)


def test_a_pixel_sees_itself_in_all_frames_and_its_neighbours_in_the_others():
    run, z = quick_jit(seta), normal(1, 3, 5, 5, 8)
    before = np.asarray(run(SETA[1], z))

    def moved_by(row, column):
        """Where frame 1 changes the three frames of pixel (2, 2)."""
        changed = z.copy()
        changed[0, 1, row, column] += 1
        return np.abs(np.asarray(run(SETA[1], changed)) - before)[0, :, 2, 2].max(-1) > 1e-4

    np.testing.assert_array_equal(moved_by(2, 2), [True, True, True])
    for neighbour in ((1, 1), (1, 2), (2, 3), (3, 3)):
        np.testing.assert_array_equal(moved_by(*neighbour), [True, False, True])
    np.testing.assert_array_equal(moved_by(2, 4), [False, False, False])


def test_a_pixel_at_the_edge_sees_copies_of_the_edge():
    run, z = quick_jit(seta), normal(1, 3, 4, 4, 8)
    wider = np.pad(z, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    np.testing.assert_allclose(run(SETA[1], wider)[:, :, 1:-1, 1:-1], run(SETA[1], z), atol=1e-6)


def test_five_frames_see_37_of_45_keys():
    mask = np.asarray(visible_keys(5)).reshape(5, 5, 9)
    assert (mask.sum((1, 2)) == 37).all()
    assert mask[:, :, 4].all()
    assert not np.delete(mask[2, 2], 4).any()


# ---- gates, positions, motion ----


def test_the_gate_is_clipped_in_use_and_keeps_its_gradient():
    values = jnp.array([-0.2, 0.3, 1.4])
    np.testing.assert_allclose(clip_alpha(values), [0, 0.3, 1], atol=1e-7)
    np.testing.assert_array_equal(jax.grad(lambda a: (clip_alpha(a) * jnp.array([1.0, 2, 3])).sum())(values), [1, 2, 3])


def test_the_middle_blocks_sinusoid_is_interleaved_with_half_the_usual_exponent():
    table = np.asarray(frame_sinusoid(4, 6))
    angles = np.arange(4)[:, None] * 10000.0 ** (-np.arange(3) / 6)
    np.testing.assert_allclose(table[:, 0::2], np.sin(angles), atol=1e-6)
    np.testing.assert_allclose(table[:, 1::2], np.cos(angles), atol=1e-6)


@pytest.mark.parametrize("frames", [2, 3, 5, 8])
def test_motion_is_interpolated_as_pytorch_does_it(frames):
    x = normal(2, 4, 3)
    source = np.maximum((np.arange(frames) + 0.5) * 4 / frames - 0.5, 0)
    columns = [np.interp(np.minimum(source, 3), np.arange(4), x[b, :, c]) for b in range(2) for c in range(3)]
    expected = np.stack(columns).reshape(2, 3, frames).swapaxes(1, 2)
    np.testing.assert_allclose(interpolate_frames(jnp.asarray(x), frames), expected, atol=1e-6)


def test_the_temporal_convolution_mixes_the_frames_of_one_story_alone():
    _, params = network(lambda rngs: TemporalConvBlock(Place("down", 0, 4, 1), groups=2, rngs=rngs))
    graphdef, _ = abstract(lambda rngs: TemporalConvBlock(Place("down", 0, 4, 1), groups=2, rngs=rngs))
    run = quick_jit(lambda params, x: bind(graphdef, params)(x, StoryContext(3)))
    x = normal(6, 2, 2, 4)
    changed = x.copy()
    changed[1] += normal(2, 2, 4)
    moved = np.abs(np.asarray(run(params, changed)) - np.asarray(run(params, x))).max((1, 2, 3))
    assert (moved[:3] > 1e-4).all()
    assert not moved[3:].any()
    closed = params | {"alpha": np.ones(1, np.float32)}
    np.testing.assert_array_equal(run(closed, x), x)


# ---- first frames ----


@pytest.mark.parametrize(("level", "size"), [(0, (9, 7)), (1, (5, 4)), (2, (3, 2))])
def test_the_first_frame_is_subsampled_by_powers_of_two_at_any_size(level, size):
    place = Place("down", level, 4, 1)
    module = FirstFrameInjection(place, latent_channels=2, rngs=InitKeys(jax.random.key(0)))
    first, x = normal(2, 9, 7, 2), normal(6, *size, 4)
    out = np.asarray(module(jnp.asarray(x), StoryContext(3, first))).reshape(2, 3, *size, 4)
    kernel, bias = np.asarray(module.first_frame_conv.kernel[...])[0, 0], np.asarray(module.first_frame_conv.bias[...])
    stride = 2**level
    np.testing.assert_allclose(out[:, 0], first[:, ::stride, ::stride] @ kernel + bias, atol=1e-6)
    np.testing.assert_array_equal(out[:, 1:], x.reshape(2, 3, *size, 4)[:, 1:])


# ---- the whole ----


class Recorder:
    """Stands where the UNet stands, and gives back what it is shown."""

    def __call__(self, sample, timesteps, context, *, extra_temb, slot_context):
        self.seen = {"timesteps": timesteps, "context": context, "temb": extra_temb, "slots": slot_context}
        return sample


@pytest.mark.parametrize(
    ("timesteps", "expected"),
    [(7, [7] * 6), ([7, 9], [7, 7, 7, 9, 9, 9]), ([[0, 7, 7], [9, 9, 9]], [0, 7, 7, 9, 9, 9])],
)
def test_every_picture_gets_its_timestep_and_caption(timesteps, expected):
    model = bind(*story_network(VISUALIZATION))
    object.__setattr__(model, "unet", Recorder())
    latents, context = normal(2, 3, 4, 4, 4), normal(2, 3, 5, 8)
    out = model(latents, jnp.asarray(timesteps), context, jnp.array([[3.0, 4.0]]))
    seen = model.unet.seen
    np.testing.assert_array_equal(seen["timesteps"], expected)
    np.testing.assert_array_equal(seen["context"], context.reshape(6, 5, 8))
    np.testing.assert_array_equal(out, latents)
    assert seen["slots"].frames == 3
    np.testing.assert_array_equal(seen["temb"][:3], seen["temb"][3:])  # one row of motion serves all stories


def test_a_continuation_puts_the_first_frame_in_front_and_takes_it_off_again():
    model = bind(*story_network(CONTINUATION))
    object.__setattr__(model, "unet", Recorder())
    latents, first = normal(2, 2, 4, 4, 4), normal(2, 4, 4, 4)
    out = model(latents, jnp.array([7, 9]), normal(2, 3, 5, 8), normal(2, 2), first)
    np.testing.assert_array_equal(out, latents)
    np.testing.assert_array_equal(model.unet.seen["slots"].first_frame, first)
    np.testing.assert_array_equal(model.unet.seen["timesteps"], [7, 7, 7, 9, 9, 9])


def test_with_closed_gates_and_no_motion_the_inflated_network_is_the_plain_one():
    graphdef, params = story_network(VISUALIZATION)
    flat = {path: np.ones_like(leaf) if path.endswith("alpha") else leaf for path, leaf in flatten(params).items()}
    for name in ("kernel", "bias"):
        params["motion_embedding"]["linear_2"][name][...] = 0
    plain, shapes = abstract(lambda rngs: UNet(UNET, rngs=rngs))
    own = jax.tree_util.tree_map_with_path(
        lambda path, _: flat["unet." + jax.tree_util.keystr(path, simple=True, separator=".")], shapes
    )
    latents, context = normal(1, 3, 4, 4, 4), normal(1, 3, 5, 8)
    closed = jax.tree_util.tree_map_with_path(
        lambda path, _: flat[jax.tree_util.keystr(path, simple=True, separator=".")], params
    )
    inflated = quick_jit(lambda p, *a: bind(graphdef, p)(*a))(
        closed, latents, np.array([300]), context, np.array([[3.0, 9.0]])
    )
    expected = quick_jit(lambda p, *a: bind(plain, p)(*a))(own, latents[0], np.array([300] * 3), context[0])
    np.testing.assert_allclose(inflated[0], expected, atol=2e-6)


def test_without_a_contextualizer_captions_pass_and_nothing_else_changes():
    config = dataclasses.replace(VISUALIZATION, contextualizer_layers=0)
    graphdef, params = story_network(config)
    text = normal(1, 3, 5, 8)
    np.testing.assert_array_equal(bind(graphdef, params).contextualize(text), text)
    whole = flatten(story_network(VISUALIZATION)[1])
    assert set(flatten(params)) == {path for path in whole if not path.startswith("contextualizer.")}


def test_the_contextualizer_begins_silent_in_its_last_layer_alone():
    settings = {"frames": 3, "layers": 2, "heads": 2, "positions": 6}
    module = StorylineContextualizer(8, **settings, rngs=InitKeys(jax.random.key(0)))
    silent = [not np.any(layer.frame.ff.proj_out.kernel[...]) for layer in module.layers]
    assert silent == [False, True]
    assert not any(not np.any(layer.story.ff.proj_out.kernel[...]) for layer in module.layers)
    assert not np.any(module.pos_embed[...])


def test_every_caption_hears_of_every_other_and_of_no_other_story():
    graphdef, params = network(
        lambda rngs: StorylineContextualizer(8, frames=3, layers=1, heads=2, positions=6, rngs=rngs)
    )
    run = quick_jit(lambda params, text: bind(graphdef, params)(text))
    text = normal(2, 3, 4, 8)
    changed = text.copy()
    changed[0, 2, 3] += normal(8)
    moved = np.abs(np.asarray(run(params, changed)) - np.asarray(run(params, text))).max(-1)
    assert (moved[0] > 1e-5).all()
    assert not moved[1].any()


@pytest.mark.parametrize("config", [VISUALIZATION, CONTINUATION])
def test_rematerialised_training_in_bfloat16_traces_at_an_odd_size(config):
    unet = dataclasses.replace(
        config.unet, block_out_channels=(8, 8, 8), attention=(True, False, True), heads=(2, 2, 2), remat="blocks"
    )
    graphdef, shapes = abstract(lambda rngs: ContextualStory(dataclasses.replace(config, unet=unet), rngs=rngs))
    half = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), shapes)
    latents = jnp.zeros((2, 3, 9, 5, 4), jnp.bfloat16)

    def loss(params):
        model = bind(graphdef, params)
        text = model.contextualize(jnp.zeros((2, 3, 5, 8), jnp.bfloat16))
        inputs = (latents,) if config.first_frame == "none" else (latents[:, 1:],)
        first = None if config.first_frame == "none" else latents[:, 0]
        out = model(*inputs, jnp.array([3, 7]), text, jnp.ones((2, 2)), first)
        return out.sum(), out

    gradient, out = jax.eval_shape(jax.grad(loss, has_aux=True), half)
    assert out.dtype == jnp.bfloat16
    assert out.shape == (2, 3 - (config.first_frame != "none"), 9, 5, 4)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.bfloat16)}


def test_an_unknown_way_to_see_the_first_frame_names_the_nearest():
    with pytest.raises(StoryjaxError, match="first_frame cannot be 'conv'; did you mean 'conv2d'"):
        ContextualStoryConfig(first_frame="conv")
