"""Metrics of real kinds through the evaluator: the real side once, differences quickly, and all of them listed."""

import json

import numpy as np
import pytest

from storyjax.errors import StoryjaxError
from storyjax.evals import registry
from storyjax.evals.compare import paired_interval
from storyjax.evals.metrics.feature_metrics import FrechetMetric
from storyjax.evals.metrics.frame_distance import SSIM
from storyjax.evals.metrics.frechet import frechet_distance
from storyjax.evals.sources.drawing import write_story
from storyjax.evals.sources.picture_folders import PictureFolder
from storyjax.evals.story_evaluator import StoryEvaluator
from tests.evals.toy_metrics import FRAMES, Plain, generated, noise

STORIES = 24


class ToyFID(FrechetMetric):
    """Fréchet distance of a few pixels."""

    name, title = "toy_fid", "Toy FID"

    def __init__(self):
        self.seen = 0
        super().__init__(self._features, {"network": "pixels"})

    def _features(self, pictures):
        self.seen += len(pictures)
        return pictures[:, :2, 0].reshape(len(pictures), -1).astype(np.float32)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for story in range(STORIES):
        write_story(tmp_path / "drawn", story, generated(story))
    return tmp_path / "drawn"


def run(pictures, folder, metric):
    source = Plain(STORIES)
    return StoryEvaluator(source, {metric.name: metric}).run(PictureFolder(pictures).of(source), folder, progress=False)


def test_a_frechet_distance_sees_real_frames_once_and_is_that_of_both_sets(pictures, tmp_path):
    first, second = ToyFID(), ToyFID()
    one, two = run(pictures, tmp_path / "one", first), run(pictures, tmp_path / "two", second)
    assert (first.seen, second.seen) == (2 * STORIES * FRAMES, STORIES * FRAMES)
    made, real = (
        np.concatenate([make(n)[:, :2, 0].reshape(FRAMES, -1).astype(np.float32) for n in range(STORIES)])
        for make in (generated, Plain(STORIES).images)
    )
    score = one.metrics["toy_fid"]
    assert score.value == pytest.approx(frechet_distance(made, real))
    assert (score.value, score.low, score.high) == tuple(
        getattr(two.metrics["toy_fid"], key) for key in ("value", "low", "high")
    )


def test_scores_of_draws_are_those_of_the_drawn_stories():
    metric, random = ToyFID(), np.random.default_rng(0)
    sides = [
        [{"generated": random.normal(size=(3, 4)), "real": random.normal(size=(3, 4))} for _ in range(10)] for _ in "ab"
    ]
    draws = random.integers(0, 10, (5, 10))
    slow = [metric.score([sides[0][n] for n in draw]) for draw in draws]
    np.testing.assert_allclose(metric.scores(sides[0], draws), slow, rtol=1e-6)
    low, high = paired_interval(metric, sides[0], sides[0])
    assert low == high == 0


def test_pixels_of_another_size_are_refused_by_the_metric(pictures, tmp_path):
    source = Plain(STORIES, size=16)
    with pytest.raises(StoryjaxError, match="SSIM compares pixel with pixel"):
        StoryEvaluator(source, {"ssim": SSIM()}).run(PictureFolder(pictures).of(source), tmp_path / "e", progress=False)
    for story in range(STORIES):
        write_story(tmp_path / "large", story, noise(FRAMES, 16, 77, story))
    folder = PictureFolder(tmp_path / "large").of(source)
    found = StoryEvaluator(source, {"ssim": SSIM()}).run(folder, tmp_path / "e", progress=False)
    assert -1 < found.metrics["ssim"].value < 0.5
    line = json.loads((tmp_path / "e" / "stories.jsonl").read_text().splitlines()[0])
    assert -1 < line["ssim"] < 1


def test_all_metrics_are_listed_with_what_they_need():
    text = registry.listing()
    for name in (
        "fid",
        "fsd",
        "fvd",
        "char_f1",
        "frm_acc",
        "clip_t",
        "clip_i",
        "r_precision",
        "dreamsim",
        "accs",
        "afid",
    ):
        assert f"\n{name}: " in f"\n{text}"
    assert "char_f1.classifier (must be said)" in text
    with pytest.raises(StoryjaxError, match="'frm_acc' needs 'classifier' to be said"):
        registry.open_metrics(["frm_acc"])


def test_a_metric_whose_weights_are_not_here_says_where_they_are_published(tmp_path, monkeypatch):
    monkeypatch.setenv("STORYJAX_WEIGHTS", str(tmp_path))
    with pytest.raises(StoryjaxError, match=r"pt_inception-2015-12-05-6726825d.pth.*download them from http"):
        registry.open_metrics(["fid"])
