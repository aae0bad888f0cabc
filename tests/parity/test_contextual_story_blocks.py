"""Every block of ContextualStory, one by one, against a second implementation in PyTorch with the same random weights."""

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from storyjax.nn.embeddings import sinusoid
from storyjax.systems.contextual_story.temporal import StoryContext
from tests import tiny
from tests.parity.contextual_story_sides import CONTINUATION, drawn, error, ours, sides

STORIES, FRAMES = 2, CONTINUATION.frames
IMAGES = STORIES * FRAMES
TIME = drawn(1, IMAGES, 128)
CONTEXT = drawn(2, IMAGES, 7, CONTINUATION.context)
TEXT = drawn(3, STORIES, FRAMES, 7, CONTINUATION.context)
FIRST = drawn(4, STORIES, 4, 12, 8)
MOTION = 90 * drawn(5, STORIES, FRAMES - 1).abs()
TIMESTEPS = (1000 * drawn(6, IMAGES).abs()).long()
STORY = StoryContext(FRAMES)


def features(channels, height=6, width=5):
    return drawn(channels, IMAGES, channels, height, width)


def call(module, *inputs):
    return module(*inputs)


# What the PyTorch network computes, the JAX module that should too, and that module's inputs.
CASES = {
    "residual block that changes its width": (
        lambda net: net.up_blocks[1].resnets[0](features(96), TIME),
        lambda unet: unet.up_blocks[1].resnets[0],
        (features(96), TIME),
    ),
    "downsampling": (
        lambda net: net.down_blocks[0].downsamplers[0](features(32, 6, 4)),
        lambda unet: unet.down_blocks[0].downsample,
        (features(32, 6, 4),),
    ),
    "upsampling": (
        lambda net: net.up_blocks[0].upsamplers[0](features(64)),
        lambda unet: unet.up_blocks[0].upsample,
        (features(64),),
    ),
    "temporal convolution": (
        lambda net: net.mid_block.conv3ds[1](features(64), FRAMES),
        lambda unet: unet.mid_block.after_resnet[1],
        (features(64), STORY),
    ),
    "spatially enhanced temporal attention": (
        lambda net: net.up_blocks[1].tempo_attns[1](features(32), FRAMES),
        lambda unet: unet.up_blocks[1].after_attention[1],
        (features(32), STORY),
    ),
    "temporal attention of the middle block": (
        lambda net: net.mid_block.tempo_attns[0](features(64), FRAMES),
        lambda unet: unet.mid_block.after_attention[0],
        (features(64), STORY),
    ),
    "spatial transformer of a down block, which sees its own image only": (
        lambda net: net.down_blocks[0].attentions[0](features(32), CONTEXT),
        lambda unet: unet.down_blocks[0].attentions[0],
        (features(32), CONTEXT, StoryContext(FRAMES, ours(FIRST))),
    ),
    "spatial transformer of an up block, which sees the first frame too": (
        lambda net: net.up_blocks[1].attentions[0](features(32), CONTEXT, FRAMES, True),
        lambda unet: unet.up_blocks[1].attentions[0],
        (features(32), CONTEXT, StoryContext(FRAMES, ours(FIRST))),
    ),
    "first frame at the entry of a finer block": (
        lambda net: net.down_blocks[0].enter(features(32, 12, 8), FIRST, FRAMES),
        lambda unet: unet.down_blocks[0].block_entry,
        (features(32, 12, 8), StoryContext(FRAMES, ours(FIRST))),
    ),
    "first frame at the entry of a coarser block": (
        lambda net: net.up_blocks[0].enter(features(64, 6, 4), FIRST, FRAMES),
        lambda unet: unet.up_blocks[0].block_entry,
        (features(64, 6, 4), StoryContext(FRAMES, ours(FIRST))),
    ),
}


@pytest.fixture(scope="module")
def both():
    return sides(CONTINUATION)


def in_our_layout(value):
    return value if isinstance(value, StoryContext) else ours(value)


@pytest.mark.parametrize("name", CASES)
def test_block(both, name):
    theirs, module, inputs = CASES[name]
    got = tiny.quick_jit(call)(module(both.jax.unet), *map(in_our_layout, inputs))
    assert error(got, theirs(both.torch)) <= 1e-5


def test_contextualizer(both):
    got = tiny.quick_jit(call)(both.jax.contextualizer, TEXT.numpy())
    assert error(got.reshape(IMAGES, 7, -1), both.torch.text_adapter(TEXT).flatten(0, 1)) <= 1e-5


def test_time_embedding(both):
    got = jax.jit(call)(both.jax.unet.time_embedding, sinusoid(TIMESTEPS.numpy(), 32))
    assert error(got, both.torch.embed_time(TIMESTEPS, IMAGES)) <= 1e-5


@pytest.mark.parametrize("motion", [MOTION, MOTION.long(), MOTION[:1]], ids=["real", "whole", "one row"])
def test_motion_embedding(both, motion):
    rows = np.broadcast_to(motion.numpy(), MOTION.shape)
    got = jax.jit(lambda model, motion: model.embed_motion(motion))(both.jax, rows)
    assert error(got, both.torch.embed_motion(motion, FRAMES, IMAGES)) <= 1e-5
