"""The metrics of convolutional networks on stories: which frames count, merging, intervals, every number against another way."""

import importlib

import jax
import numpy as np
import pytest
from scipy import ndimage, stats

from storyjax.errors import StoryjaxError
from storyjax.evals.metric import StoryFrames, StoryMetric
from storyjax.evals.metrics.feature_metrics import FrechetMetric
from storyjax.evals.metrics.fid import FID, InceptionScore
from storyjax.evals.metrics.frame_distance import SSIM, LPIPSMetric, ssim
from storyjax.evals.metrics.frechet import frechet_distance
from storyjax.evals.metrics.story_distance import FSD, FVD
from storyjax.evals.networks import published_networks as networks
from storyjax.evals.networks.features import FeatureNetwork, Preparation
from storyjax.evals.registry import METRICS
from storyjax.models.lpips import LPIPS, LPIPSConfig
from storyjax.nn.build import materialise

WITHOUT_WEIGHTS = {"ssim"}


def story(number, *, frames=4, size=(16, 12), given=0, real=None):
    random = np.random.default_rng(number)
    shape = (frames, *size, 3)
    generated, data = (random.integers(low, 256, shape, dtype=np.uint8) for low in (0, 40))
    return StoryFrames(str(number), ["a sentence"] * frames, generated, data if real is None else real, given=given)


def statistics(pictures):
    """A network that is simple arithmetic: mean and deviation of each colour."""
    flat = pictures.reshape(len(pictures), -1, 3) / 255
    return np.concatenate([flat.mean(axis=1), flat.std(axis=1)], axis=1).astype(np.float32)


CONVOLUTIONAL = ("fid", "story_distance", "frame_distance", "character_metrics")  # modules
NAMES = [name for name, place in METRICS.items() if place.partition(":")[0].rpartition(".")[2] in CONVOLUTIONAL]


def metric(name):
    module, _, attribute = METRICS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_is_there_and_opens_only_with_its_weights(name, tmp_path, monkeypatch):
    monkeypatch.setenv("STORYJAX_WEIGHTS", str(tmp_path))
    found = metric(name)
    assert issubclass(found, StoryMetric)
    assert found.name == name
    if name in WITHOUT_WEIGHTS:
        assert found.open().about
    elif name.startswith(("char", "frm")):
        with pytest.raises(StoryjaxError, match="no character classifier at"):
            found.open(classifier=tmp_path / "nothing")
    else:
        with pytest.raises(StoryjaxError, match=rf"not in '{tmp_path}'; download them from https://"):
            found.open()


def test_fid_is_the_distance_of_all_counted_frames():
    stories = [story(number, given=number % 2) for number in range(5)]
    fid = FID(statistics, {"network": "arithmetic"})
    evidence = fid.measure(stories)
    generated = np.concatenate([each.generated[each.given :] for each in stories])
    real = np.concatenate([each.real[each.given :] for each in stories])
    assert fid.score(evidence) == frechet_distance(statistics(generated), statistics(real))
    assert len(generated) == 18
    assert fid.about == {"network": "arithmetic"}
    apart = [found for each in stories for found in fid.measure([each])]
    assert fid.score(apart) == fid.score(evidence)
    assert np.isnan(fid.score([]))


def test_the_interval_of_fid_holds_the_value_and_is_the_same_again():
    fid = FID(statistics, {})
    evidence = fid.measure([story(number) for number in range(12)])
    value, found = fid.score(evidence), fid.interval(evidence)
    assert found.low < value < found.high
    assert found == fid.interval(evidence)
    assert found.resamples == 100
    assert found != fid.interval(evidence, seed=1)
    assert fid.interval(evidence, level=0.5).high < found.high
    assert np.isnan(fid.interval(evidence[:1]).low)


def test_the_interval_is_what_scipy_finds_with_the_score_itself():
    fid = FID(statistics, {})
    fid.resamples = 400
    evidence = fid.measure([story(number) for number in range(12)])
    one, other = fid.interval(evidence), StoryMetric.interval(fid, evidence)
    assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=0.1)


def test_unequal_numbers_of_samples_are_said():
    other = story(0, frames=6).real
    stories = [story(number, real=other if number == 1 else None) for number in range(3)]
    fid = FID(statistics, {})
    with pytest.warns(UserWarning, match="fid: 12 generated against 14 real samples; that is allowed"):
        assert fid.score(fid.measure(stories)) > 0


def test_frames_of_a_wrong_kind_are_named():
    fid = FID(statistics, {})
    without = StoryFrames("seven", [], story(0).generated)
    with pytest.raises(StoryjaxError, match="FID compares with real frames, which some stories come without"):
        fid.score(fid.measure([without]))
    with pytest.raises(StoryjaxError, match=r"story 'x': expected its generated frames as uint8.*got float64"):
        fid.measure([StoryFrames("x", [], story(0).generated / 255, story(0).real)])


def test_stories_of_different_sizes_are_measured_together():
    stories = [story(0), story(1, size=(8, 8)), story(2)]
    fid = FID(statistics, {})
    together, apart = fid.measure(stories), [found for each in stories for found in fid.measure([each])]
    for one, other in zip(together, apart):
        np.testing.assert_array_equal(one["generated"], other["generated"])
        np.testing.assert_array_equal(one["real"], other["real"])


@pytest.mark.parametrize("splits", [1, 3])
def test_inception_score_is_what_the_formula_says(splits):
    def logits(pictures):
        return 5 * np.concatenate([statistics(pictures), pictures[:, 0, 0] / 255], axis=1)

    score = InceptionScore(logits, {}, splits=splits)
    evidence = score.measure([story(number, given=1) for number in range(4)])
    every = np.concatenate([logits(story(number).generated[1:]) for number in range(4)]).astype(np.float64)
    probabilities = np.exp(every) / np.exp(every).sum(axis=1, keepdims=True)
    expected = []
    for part in np.array_split(probabilities, splits):
        divergences = [stats.entropy(row, part.mean(axis=0)) for row in part]
        expected.append(np.exp(np.mean(divergences)))
    assert score.score(evidence) == pytest.approx(np.mean(expected), rel=1e-6)
    assert score.about["splits"] == splits
    assert np.isnan(InceptionScore(logits, {}, splits=13).score(evidence))
    with pytest.raises(StoryjaxError, match="1 or more, got 0"):
        InceptionScore(logits, {}, splits=0)


def test_a_story_is_one_sample_of_the_story_distance():
    seen = []

    def network(clips):
        seen.append(clips.shape)
        return statistics(clips)

    fsd = FSD(network, {})
    evidence = fsd.measure([story(number, frames=5, given=1) for number in range(3)])
    assert seen == [(6, 4, 16, 12, 3)]
    assert [each["real"].shape for each in evidence] == [(1, 6)] * 3
    with pytest.raises(StoryjaxError, match="story '0' has no frames that count"):
        fsd.measure([story(0, given=4)])


def test_what_the_story_distance_shows_its_network():
    frames = story(0, size=(64, 64)).generated
    np.testing.assert_allclose(networks.STORY_INPUT(frames), frames / 127.5 - 1, atol=1e-6)  # as CP-CSV: nothing done
    shown = np.asarray(networks.KINETICS_INPUT(np.full((1, 64, 64, 3), 128, np.uint8)))
    assert shown.shape == (1, 112, 112, 3)
    np.testing.assert_allclose(
        shown[0, 5, 7], (128 / 255 - np.array([0.43216, 0.394666, 0.37645])) / [0.22803, 0.22145, 0.216989], 1e-5
    )


@pytest.mark.parametrize(
    ("frames", "shown"), [(5, [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]), (20, list(range(16)))]
)
def test_a_film_has_sixteen_frames(frames, shown):
    fvd = FVD(statistics, {})
    numbered = np.arange(frames, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 8, 8, 3), np.uint8)
    film = fvd.looked_at(numbered, story(0))
    assert film[0, :, 0, 0, 0].tolist() == shown
    assert fvd.about["frames"] == 16
    with pytest.raises(StoryjaxError, match="film of 20 frames"):
        FVD(statistics, {}, frames=20)
    with pytest.raises(StoryjaxError, match="no weights 'i3d_torchscrip'; did you mean 'i3d_torchscript'"):
        FVD.open(weights="i3d_torchscrip")


def by_ndimage(one, other):
    """Structural similarity of one channel by another library's Gaussian filter."""
    x, y = one / 255.0, other / 255.0

    def blur(z):
        return ndimage.gaussian_filter(z, 1.5, radius=5)[5:-5, 5:-5]

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y, both = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
    over = (2 * mean_x * mean_y + 1e-4) * (2 * both + 9e-4)
    return (over / ((mean_x**2 + mean_y**2 + 1e-4) * (var_x + var_y + 9e-4))).mean()


def test_ssim_equals_another_implementation():
    one, other = story(3, size=(24, 31)).generated, story(4, size=(24, 31)).generated
    other = (0.7 * one + 0.3 * other).astype(np.uint8)
    expected = [np.mean([by_ndimage(a[..., c], b[..., c]) for c in range(3)]) for a, b in zip(one, other)]
    np.testing.assert_allclose(ssim(one, other), expected, rtol=1e-9)
    np.testing.assert_allclose(ssim(one, one), 1)


def test_ssim_equals_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    one = story(3, size=(40, 31)).generated
    other = (0.5 * one + 0.5 * story(4, size=(40, 31)).generated).astype(np.uint8)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}
    expected = [metrics.structural_similarity(a, b, data_range=255, **options) for a, b in zip(one, other)]
    np.testing.assert_allclose(ssim(one, other), expected, rtol=1e-7)


def test_ssim_of_stories_counts_generated_frames_only():
    first = story(0, given=2)
    same = StoryFrames("same", [], first.real, first.real)
    found = SSIM.open()
    evidence = found.measure([first, same])
    assert [len(each["values"]) for each in evidence] == [2, 4]
    assert evidence[1]["values"] == pytest.approx(1)
    assert found.score(evidence) == pytest.approx((evidence[0]["values"].sum() + 4) / 6)


@pytest.mark.parametrize("frames", [3, 5])
def test_pairs_need_as_many_frames_on_both_sides(frames):
    odd = story(0, real=story(1, frames=frames).real)
    with pytest.raises(StoryjaxError, match=rf"SSIM compares frame with frame, but story '0' has 4 .* {frames} real"):
        SSIM().measure([odd])


def test_pairs_need_frames_of_one_size():
    odd = story(0, real=story(1, size=(20, 20)).real)
    with pytest.raises(StoryjaxError, match=r"SSIM compares pixel with pixel.* 16x12 generated and 20x20 real"):
        SSIM().measure([odd])
    with pytest.raises(StoryjaxError, match="at least 11 pixels on a side"):
        SSIM().measure([story(0, size=(10, 16))])


@pytest.mark.usefixtures("quick_compiles")
def test_lpips_of_stories():
    made = materialise(lambda rngs: LPIPS(LPIPSConfig("squeeze"), rngs=rngs), jax.random.key(0))
    network = FeatureNetwork(*made, networks.pair_distance, Preparation(), batch=2)
    stories = [story(number, frames=3, size=(32, 32)) for number in range(2)]
    stories.append(StoryFrames("same", [], stories[0].real, stories[0].real, given=1))
    found = LPIPSMetric(network, {})
    evidence = found.measure(stories)
    assert [len(each["values"]) for each in evidence] == [3, 3, 2]
    np.testing.assert_array_equal(evidence[2]["values"], 0)
    assert np.abs(evidence[0]["values"]).min() > 0
    values = np.concatenate([each["values"] for each in evidence])
    assert found.score(evidence) == values.mean()
    with pytest.raises(StoryjaxError, match="LPIPS has no trunk 'alexnet'; it has alex, vgg, squeeze"):
        LPIPSMetric.open(trunk="alexnet")


def test_only_the_frechet_metrics_mirror_their_draws():
    for name in NAMES:
        found = metric(name)
        assert (found.method == "basic") == issubclass(found, FrechetMetric)
