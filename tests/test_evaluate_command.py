"""`storyjax evaluate` as a person uses it, on a model of toy size and on folders of pictures."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storyjax import api
from storyjax.cli import main
from storyjax.evals import registry
from storyjax.evals.sources.drawing import write_story
from tests import tiny
from tests.evals import toy_metrics
from tests.evals.toy_metrics import noise

pytestmark = pytest.mark.usefixtures("quick_compiles")
STORIES = 5


@pytest.fixture(scope="module")
def model(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    tiny.pipeline(tokenizer).save(folder / "model", tokenizer)
    return str(folder / "model")


@pytest.fixture(scope="module")
def pipeline(model):
    """Loaded once: it keeps what was compiled."""
    return api.load(model)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five stories of the user's own, three frames of 32x32 each."""
    folder, stories = tmp_path_factory.mktemp("stories"), []
    for number in range(STORIES):
        frames = []
        for frame, pixels in enumerate(noise(tiny.FRAMES, tiny.SIZE, 5, number)):
            Image.fromarray(pixels).save(folder / f"{number}_{frame}.png")
            sentence = f"{tiny.SENTENCES[frame]} {number}"
            frames.append({"image": f"{number}_{frame}.png", "sentence": sentence, "characters": ["Ada"]})
        stories.append({"story_id": f"s{number}", "frames": frames, "split": "test"})
    (folder / "stories.json").write_text(json.dumps(stories))
    return str(folder)


@pytest.fixture(autouse=True)
def _toys(tmp_path, monkeypatch, pipeline):
    monkeypatch.setattr(registry, "METRICS", registry.METRICS | toy_metrics.PLACES)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "load", lambda name, **_: pipeline)


def evaluate(*words):
    main(["evaluate", *map(str, words)])


def refused(capsys, *words):
    """The one line that a mistake ends in."""
    with pytest.raises(SystemExit) as stopped:
        evaluate(*words)
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    return said.splitlines()[-1]


def pictures(folder):
    files = sorted(Path(folder).rglob("pictures/0*/*.png"))
    return np.stack([np.asarray(Image.open(path)) for path in files])


def test_a_model_is_drawn_scored_and_compared(model, data, tmp_path, capsys):
    words = [model, "--data", data, "--metrics", "brightness", "sets", "distance", "--set", "distance.power=2"]
    evaluate(*words, "--batch-size", 2, "--workdir", tmp_path / "whole", "--out", tmp_path / "copy" / "result.json")
    said = capsys.readouterr().out
    assert f"{STORIES} stories of" in said
    assert "Brightness" in said
    result = json.loads((tmp_path / "whole" / "evaluation.json").read_text())
    assert result == json.loads((tmp_path / "copy" / "result.json").read_text())
    about = result["about"]
    assert about["settings"]["guidance_scale"] == 3.0
    assert len(about["model_hash"]) == 64
    assert set(result["metrics"]) == {"brightness", "sets", "distance"}
    assert result["metrics"]["distance"]["options"] == {"power": 2}
    assert {"jax", "storyjax"} <= set(about["versions"])

    # Cut: stories of the middle and the end are lost, and come back to the bit.
    whole = pictures(tmp_path / "whole")
    assert whole.shape == (STORIES * tiny.FRAMES, tiny.SIZE, tiny.SIZE, 3)
    assert len(np.unique(whole, axis=0)) == len(whole)
    for story in (2, 3, 4):
        shutil.rmtree(tmp_path / "whole" / "pictures" / f"{story:05d}")
    evaluate(*words, "--batch-size", 2, "--workdir", tmp_path / "whole")
    np.testing.assert_array_equal(pictures(tmp_path / "whole"), whole)
    again = json.loads((tmp_path / "whole" / "evaluation.json").read_text())
    assert again == result

    # What was drawn is a folder of pictures like any other.
    evaluate(tmp_path / "whole", "--data", data, "--metrics", "brightness", "--workdir", tmp_path / "from_pictures")
    told = json.loads((tmp_path / "from_pictures" / "evaluation.json").read_text())
    assert told["metrics"]["brightness"]["value"] == result["metrics"]["brightness"]["value"]
    assert told["about"]["pictures"]["model_hash"] == about["model_hash"]

    capsys.readouterr()
    evaluate("--compare", tmp_path / "whole", tmp_path / "from_pictures", "--out", tmp_path / "gap.json")
    assert "B - A [95 %]" in capsys.readouterr().out
    gap = json.loads((tmp_path / "gap.json").read_text())["differences"]["brightness"][0]
    assert (gap["value"], gap["low"], gap["high"]) == (0, 0, 0)

    said = refused(capsys, *words, "--workdir", tmp_path / "whole", "--seed", 4)
    assert "pictures of another evaluation: seed: there 0, here 4" in said


@pytest.mark.slow
def test_another_batch_size_draws_the_same_pictures_but_for_last_bits(model, data, tmp_path):
    words = [model, "--data", data, "--metrics", "brightness"]
    for size in (2, 3):
        evaluate(*words, "--batch-size", size, "--workdir", tmp_path / str(size))
    gap = np.abs(pictures(tmp_path / "2").astype(int) - pictures(tmp_path / "3"))
    assert gap.max() <= 2


@pytest.mark.slow
def test_the_first_picture_is_given_where_it_is_asked_for(model, data, tmp_path):
    evaluate(
        model, "--data", data, "--metrics", "brightness", "--given", 1, "--workdir", tmp_path / "e", "--stories", 2
    )
    first = np.asarray(Image.open(Path(data) / "1_0.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "e/pictures/00001/0.png")), first)
    score = json.loads((tmp_path / "e" / "evaluation.json").read_text())["metrics"]["brightness"]
    assert (score["stories"], score["frames"]) == (2, 4)


def test_pictures_are_scored_and_their_result_lies_in_a_place_of_its_own(data, tmp_path, capsys):
    for story in range(STORIES):
        write_story(tmp_path / "made", story, noise(tiny.FRAMES, 16, story))
    evaluate("made", "--data", data, "--metrics", "brightness", "distance")
    (place,) = (tmp_path / "runs" / "evaluate").iterdir()
    assert place.name.startswith("made-")
    found = json.loads((place / "evaluation.json").read_text())
    assert found["about"]["size"] == [16, 16]  # real frames are brought to the generated ones' size
    assert found["metrics"]["distance"]["stories"] == STORIES
    said = refused(capsys, "made", "--data", data, "--metrics", "distance", "--stories", 9)
    assert "expected 1 to 5 stories" in said


def test_help_lists_the_metrics(capsys):
    evaluate("--metrics", "help")
    said = capsys.readouterr().out
    assert "recogniser: Char-F1 by the recogniser, higher is better" in said
    assert "distance: Distance, lower is better" in said


def test_mistakes_are_one_line_before_anything_is_drawn(model, data, tmp_path, capsys):
    words = [model, "--data", data, "--workdir", tmp_path / "e"]
    assert "no metric 'setz'; did you mean 'sets'" in refused(capsys, *words, "--metrics", "setz")
    assert "expected an option" in refused(capsys, *words, "--metrics", "sets", "--set", "power=2")
    said = refused(capsys, *words)
    assert "has no place, weather" in said
    assert "say what to measure by --metrics" in said
    assert "expected 1 to 5" in refused(capsys, *words, "--metrics", "sets", "--stories", 6)
    assert "gives 2 frames" in refused(capsys, *words, "--metrics", "sets", "--given", 2)
    assert "no split 'tset'" in refused(capsys, *words, "--metrics", "sets", "--split", "tset")
    assert "no model folder" in refused(capsys, tmp_path / "none", "--data", data, "--metrics", "sets")
    assert "at least two results" in refused(capsys, "--compare", tmp_path)
    assert not (tmp_path / "e").exists()
