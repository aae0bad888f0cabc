"""Results beside each other: the differences, their paired intervals, and what is not comparable."""

import dataclasses
import io
import shutil

import numpy as np
import pytest
from rich.console import Console

from storyjax.errors import StoryjaxError
from storyjax.evals import registry
from storyjax.evals.compare import compare, paired_interval
from storyjax.evals.evaluation import Evaluation
from storyjax.evals.sources.drawing import write_story
from storyjax.evals.sources.picture_folders import PictureFolder
from storyjax.evals.story_evaluator import StoryEvaluator
from tests.evals import toy_metrics
from tests.evals.toy_metrics import Brightness, Distance, Plain, Sets, generated


@pytest.fixture(autouse=True)
def _toys(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "METRICS", toy_metrics.PLACES)


def evaluated(tmp_path, name, brighter=0, stories=20, source=None, metrics=None):
    """The folder of the result of pictures that are so much brighter than `generated`."""
    for story in range(stories):
        pixels = np.clip(generated(story).astype(int) + brighter, 0, 255).astype(np.uint8)
        write_story(tmp_path / f"{name}_pictures", story, pixels)
    chosen = metrics or {"brightness": Brightness(), "distance": Distance.open(), "sets": Sets()}
    source = source or Plain(stories)
    pictures = PictureFolder(tmp_path / f"{name}_pictures").of(source)
    StoryEvaluator(source, chosen).run(pictures, tmp_path / name, progress=False)
    return tmp_path / name


def test_a_difference_is_surer_than_its_two_sides(tmp_path):
    one, other = evaluated(tmp_path, "one"), evaluated(tmp_path, "other", brighter=8)
    found = compare([one, other / "evaluation.json"])
    gap = found.differences["brightness"][0]
    a, b = (Evaluation.read(path).metrics["brightness"] for path in (one, other))
    assert gap.value == pytest.approx(b.value - a.value)
    assert gap.low < gap.value < gap.high
    assert gap.high - gap.low < (a.high - a.low) / 5  # the same stories on both sides
    assert gap.low > 0
    assert found.differences["sets"][0].low is not None
    assert not any(gap.why for gaps in found.differences.values() for gap in gaps)


def test_the_paired_interval_is_that_of_the_mean_of_differences():
    random = np.random.default_rng(0)
    first = [{"values": random.normal(size=4)} for _ in range(200)]
    second = [{"values": each["values"] + random.normal(1, 0.5, 4)} for each in first]
    low, high = paired_interval(Brightness(), first, second)
    spread = np.std([(b["values"] - a["values"]).mean() for a, b in zip(first, second)]) / np.sqrt(200)
    assert (high - low) == pytest.approx(2 * 1.96 * spread, rel=0.15)
    assert low < 1 < high


def test_the_table_has_a_column_for_each_and_a_line_for_each_metric(tmp_path):
    folders = [evaluated(tmp_path, name, brighter) for name, brighter in (("one", 0), ("two", 5), ("three", -5))]
    found = compare(folders)
    console = Console(record=True, width=200, file=io.StringIO())
    found.print(console)
    text = console.export_text()
    for word in ("B - A [95 %]", "C - A [95 %]", "Brightness", "Distance", "Sets", f"A  {folders[0]}", "+0.0"):
        assert word in text
    assert found.to_json()["differences"]["brightness"][1]["value"] < 0


def test_without_the_evidence_there_is_a_difference_and_no_interval(tmp_path):
    one, other = evaluated(tmp_path, "one"), evaluated(tmp_path, "other", brighter=8)
    shutil.rmtree(other / "evidence")
    gap = compare([one, other]).differences["brightness"][0]
    assert gap.low is None
    assert "evidence of one side is not beside" in gap.why
    assert any("brightness, B - A: no interval" in note for note in compare([one, other]).notes())


def test_a_metric_of_other_weights_is_not_compared(tmp_path):
    one = evaluated(tmp_path, "one", metrics={"distance": Distance.open()})
    other = evaluated(tmp_path, "other", metrics={"distance": Distance.open(power=2)})
    assert "other weights or settings" in compare([one, other]).differences["distance"][0].why


def test_what_only_one_has_is_a_dash(tmp_path):
    one = evaluated(tmp_path, "one", metrics={"distance": Distance.open(), "brightness": Brightness()})
    other = evaluated(tmp_path, "other", metrics={"distance": Distance.open()})
    found = compare([one, other])
    assert set(found.differences) == {"distance"}
    assert found.table().row_count == 2
    third = evaluated(tmp_path, "third", metrics={"sets": Sets()})
    with pytest.raises(
        StoryjaxError, match=r"no metric is in .*one' and another: .* has distance, brightness; .* has sets"
    ):
        compare([one, third])


def test_other_stories_are_refused_by_what_differs(tmp_path):
    one = evaluated(tmp_path, "one")
    with pytest.raises(StoryjaxError, match="number of stories there 20, here 18; evaluate both on the same stories"):
        compare([one, evaluated(tmp_path, "fewer", stories=18)])
    with pytest.raises(StoryjaxError, match="content of the data there 0, here 1"):
        compare([one, evaluated(tmp_path, "data", source=Plain(20, seed=1))])
    with pytest.raises(StoryjaxError, match="given frames there 0, here 1"):
        compare([one, evaluated(tmp_path, "given", source=Plain(20, given=1))])
    with pytest.raises(StoryjaxError, match="at least two results to compare, got 1"):
        compare([one])


def test_files_that_are_no_results_are_told(tmp_path):
    one = evaluated(tmp_path, "one")
    with pytest.raises(StoryjaxError, match="there is no result at"):
        compare([one, tmp_path / "none"])
    (tmp_path / "evaluation.json").write_text('{"about": {}, "rows": {}}')
    with pytest.raises(StoryjaxError, match="is no result of `storyjax evaluate`"):
        compare([one, tmp_path])
    found = Evaluation.read(one)
    (tmp_path / "evaluation.json").write_text(
        dataclasses.replace(found).json_text().replace('"format": 2', '"format": 9')
    )
    with pytest.raises(StoryjaxError, match="has format 9, expected 2"):
        compare([one, tmp_path])
