"""The recogniser that ships reads drawn frames that it was not trained on."""

import numpy as np

from storyjax.data.labels import Labels
from storyjax.evals.metrics.counts import METRICS
from storyjax.evals.metrics.recogniser_metric import RecogniserMetric
from storyjax.evals.networks.recogniser import SHIPPED, load_recogniser
from storyjax.evals.robustness import SPOILERS, robustness
from storyjax.evals.sources.generated import InMemory
from storyjax.evals.story_evaluator import StoryEvaluator
from tests.evals.drawn import DrawnSource
from tfds_builders.cartoon_stories.world import LABELS


def test_held_out_frames_are_read_right_in_99_of_100():
    source = DrawnSource("test", 40)
    evaluator = StoryEvaluator(source, {"recogniser": RecogniserMetric.open("cartoon")})
    rows = evaluator.run(InMemory.real(source), progress=False).metrics["recogniser"].rows
    assert {metric: rows["real"][metric]["all"]["value"] >= 0.99 for metric in METRICS} == dict.fromkeys(METRICS, True)


def test_blurred_compressed_and_noisy_frames_are_still_read():
    found = robustness(DrawnSource("test", 12), load_recogniser("cartoon"))
    assert set(found) == set(SPOILERS)
    assert min(score for scores in found.values() for score in scores.values()) >= 0.95, found


def test_it_knows_the_world_of_the_builder_and_is_small():
    assert load_recogniser().labels == Labels(**LABELS)
    weights = [path for path in SHIPPED.glob("cartoon/**/*.safetensors")]
    assert len(weights) == 1
    assert weights[0].stat().st_size < 3_000_000


def test_a_single_grey_frame_holds_nobody():
    reading = load_recogniser().read(np.full((1, 128, 128, 3), 128, np.uint8))
    assert not reading.characters.any()
