"""`fit_picture` is the transform of the ContextualStory loaders: Resize(n) and CenterCrop(n) of torchvision, on PIL pictures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from storyjax.data.images import fit_picture, scaled_and_offset

RANDOM = np.random.default_rng(0)
SHAPES = [(128, 128), (240, 320), (320, 240), (257, 256), (90, 160), (256, 1000), (31, 47), (300, 301)]


def picture(height: int, width: int) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8))


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([64, 128, 256, 512]))
def test_sides_and_corners_are_those_of_the_formula(height, width, size):
    """The long side is int(size * long / short); the corner is rounded from half of what is too much."""
    short, long = sorted((height, width))
    scaled, corner = scaled_and_offset((height, width), (size, size))
    assert sorted(scaled) == [size, int(size * long / short)]
    assert scaled[0 if height <= width else 1] == size
    assert corner == tuple(round((side - size) / 2) for side in scaled)


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_to_torchvision_to_the_bit(shape):
    transforms = pytest.importorskip("torchvision.transforms")
    released = transforms.Compose([transforms.Resize(256, antialias=None), transforms.CenterCrop(256)])
    source = picture(*shape)
    np.testing.assert_array_equal(fit_picture(source, (256, 256)), np.asarray(released(source)))


@pytest.mark.parametrize("shape", SHAPES)
def test_close_to_the_antialiased_resize_of_pytorch(shape):
    """PyTorch's own triangle filter, computed in float32; Pillow's is the same in fixed point, rounded after each direction."""
    torch = pytest.importorskip("torch")
    source = picture(*shape)
    (height, width), (top, left) = scaled_and_offset(shape, (256, 256))
    values = torch.tensor(np.asarray(source), dtype=torch.float32).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        values, (height, width), mode="bilinear", align_corners=False, antialias=True
    )
    expected = resized[0].permute(1, 2, 0).numpy()[top : top + 256, left : left + 256]
    assert abs(fit_picture(source, (256, 256)).astype(np.float32) - expected).max() < 1.01
