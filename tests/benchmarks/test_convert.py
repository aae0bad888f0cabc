"""The benchmark of converting, at toy size: what it measures is there, and only its source stays."""

import pytest

from benchmarks import convert as benchmark
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.weights.component import component_of


def test_a_turn_copies_and_converts_and_leaves_the_source_alone(tmp_path, capsys):
    options = benchmark.Options(turns=1, small=True, work=tmp_path)
    (turn,) = benchmark.main(options)
    assert turn.copy > 0
    assert turn.convert > turn.inside > 0
    assert turn.memory > 0
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    said = capsys.readouterr().out
    assert "times as long as copying" in said
    assert "times the files in memory" in said


def small_folder(folder):
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"1234")


def test_the_source_is_made_once(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(benchmark, "turn", lambda *_: benchmark.Turn(1.0, 1.5, 1.2, 10))
    monkeypatch.setattr(benchmark, "_measured", lambda *_: {"inside": 1.0, "memory": 10})
    monkeypatch.setattr(benchmark, "make_source", lambda folder, _: made.append(folder) or small_folder(folder))
    for _ in range(2):
        benchmark.main(benchmark.Options(turns=1, small=True, work=tmp_path / "work"))
    assert made == [tmp_path / "work" / "small"]


def test_a_source_that_cannot_be_finished_is_not_there(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "write_safetensors", fails)
    with pytest.raises(KeyboardInterrupt):
        benchmark.make_source(tmp_path / "source", benchmark.STORY_UNET)
    assert not list(tmp_path.iterdir())


def test_the_size_is_that_of_the_released_models():
    config = benchmark.released_config()
    assert component_of(config).read_config(config) == ContextualStoryConfig.visualization()
