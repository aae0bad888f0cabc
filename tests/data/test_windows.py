"""Windows over stories, and StoryGen's transform against PIL and PyTorch."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from storyjax.data import BatchSpec, Windows, iterate_once, make_batches, open_source, stretch_picture
from storyjax.data.labels import Labels
from storyjax.data.source import StorySource, StoryTable
from storyjax.data.windows import loss_mask, references_and_target
from storyjax.errors import StoryjaxError


class Counted(StorySource):
    """Stories of the given lengths; every picture is its story and frame."""

    name, split, labels, size = "counted", "train", Labels(), (2, 3)

    def __init__(self, counts):
        self.counts, self.frames = counts, max(counts)
        sentences = [[f"{story} {f}" for f in range(n)] for story, n in enumerate(counts)]
        flags = np.zeros((len(counts), self.frames), bool)
        flags[:, :1] = True
        self.table = StoryTable([f"s{i}" for i in range(len(counts))], [""] * len(counts), sentences, {"first": flags})

    def images(self, index):
        frames = [np.full((2, 3, 3), (index, f, 9), np.uint8) for f in range(self.counts[index])]
        return np.stack(frames) if frames else np.zeros((0, 2, 3, 3), np.uint8)

    def fingerprint(self):
        return {"stories": len(self)}


@settings(max_examples=100)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 5))
def test_windows_are_every_run_of_frames_in_order(counts, length):
    source = Counted(counts)
    if max(counts) < length:
        with pytest.raises(StoryjaxError, match=f"no story has {length} frames, the longest has {max(counts)}"):
            Windows(source, length)
        return
    windows = Windows(source, length)
    wanted = [(s, f) for s, n in enumerate(counts) for f in range(n - length + 1)]
    assert len(windows) == sum(max(0, n - length + 1) for n in counts) == len(wanted)
    for index, (story, start) in enumerate(wanted):
        item = windows[index]
        assert item["story_id"] == f"s{story}[{start}:{start + length}]"
        assert item["sentences"] == [f"{story} {f}" for f in range(start, start + length)]
        np.testing.assert_array_equal(item["images"][:, 0, 0], [(story, f, 9) for f in range(start, start + length)])
        np.testing.assert_array_equal(item["first"], [f == 0 for f in range(start, start + length)])
    assert windows.given == length - 1


def test_windows_of_a_built_data_set_are_read_in_batches(source, data_dir):
    windows = open_source("tiny_stories", "train", data_dir=data_dir, windows=4)
    assert isinstance(windows, Windows)
    assert len(windows) == 2 * len(source)
    np.testing.assert_array_equal(windows[1]["images"], source[0]["images"][1:])
    np.testing.assert_array_equal(windows[3]["characters"], source[1]["characters"][1:])
    spec = BatchSpec(text=None, truth=("place",))
    (batch,) = list(iterate_once(windows, spec, len(windows)))
    np.testing.assert_array_equal(
        batch["images"][1::2], np.stack([source[i]["images"][1:] for i in range(len(source))])
    )
    with make_batches(windows, spec, 4, seed=0) as batches:
        assert next(batches)["images"].shape == (4, 4, 32, 32, 3)
    assert windows.fingerprint() != source.fingerprint()


def test_windows_and_frames_exclude_each_other(data_dir):
    with pytest.raises(StoryjaxError, match="leave out frames=2"):
        open_source("tiny_stories", "train", data_dir=data_dir, windows=4, frames=2)
    with pytest.raises(StoryjaxError, match="at least 1 frame, got 0"):
        open_source("tiny_stories", "train", data_dir=data_dir, windows=0)
    with pytest.raises(StoryjaxError, match="has no figure masks; leave `figures` out"):
        open_source("tiny_stories", "train", data_dir=data_dir, windows=4).arrays(0, ["figures"])


def test_stretching_keeps_all_of_the_picture_and_its_boxes(data_dir):
    source = open_source("tiny_stories", "train", data_dir=data_dir, size=(16, 48), fit="stretch")
    whole = open_source("tiny_stories", "train", data_dir=data_dir)
    np.testing.assert_array_equal(source[0]["boxes"], whole[0]["boxes"])
    assert source[0]["masks"].shape == (5, 16, 48)
    assert set(np.unique(source[0]["masks"])) <= set(np.unique(whole[0]["masks"]))
    assert source.fingerprint()["fit"] == "stretch"


def photo(width: int, height: int) -> Image.Image:
    """Noise under a gradient, so that a filter without antialiasing would show; nothing near black or white is clipped."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 140, width)[None, :, None] + np.zeros((height, 1, 3))
    return Image.fromarray((ramp + rng.integers(0, 50, (height, width, 3))).astype(np.uint8))


@pytest.mark.parametrize(("width", "height"), [(854, 480), (300, 700), (512, 512), (200, 100)])
def test_the_transform_is_that_of_storygens_loader(width, height):
    """The loader: `Image.resize((512, 512))` with its default filter, to a tensor in 0..1, the target times 2 minus 1."""
    torch = pytest.importorskip("torch")
    picture = photo(width, height)
    tensor = torch.from_numpy(np.array(picture.resize((512, 512)))).permute(2, 0, 1).float().div(255)
    ours = stretch_picture(picture, (512, 512))
    references, target = references_and_target(np.stack([ours] * 4))
    assert references.shape == (3, 512, 512, 3)
    np.testing.assert_array_equal(references[0], tensor.permute(1, 2, 0).numpy())
    np.testing.assert_array_equal(target, (tensor * 2.0 - 1.0).permute(1, 2, 0).numpy())
    # The same filter in PyTorch's own words, which rounds once where PIL rounds after each direction.
    source = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
    again = torch.nn.functional.interpolate(source, (512, 512), mode="bicubic", antialias=True, align_corners=False)
    np.testing.assert_allclose(ours, again[0].clamp(0, 255).permute(1, 2, 0).numpy(), atol=1.5)


def test_the_mask_is_resized_with_the_picture_and_not_made_binary():
    mask = Image.new("L", (854, 480))
    mask.paste(255, (100, 100, 331, 207))
    out = io.BytesIO()
    mask.convert("RGB").save(out, "PNG")
    loaded = Image.open(io.BytesIO(out.getvalue())).convert("RGB").resize((512, 512))
    figures = np.stack([stretch_picture(mask, (512, 512))] * 4)
    ours = loss_mask(figures)
    np.testing.assert_array_equal(ours, np.asarray(loaded)[..., 0].astype(np.float32) / np.float32(255))
    assert ((ours > 0) & (ours < 1)).any()
