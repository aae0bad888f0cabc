"""The command around the benchmarks: what it is told, what it refuses, where a result goes."""

import importlib.util
import re
from pathlib import Path

import pytest

from benchmarks import run as command
from benchmarks import torch_sides
from benchmarks.measure import Row, Setting
from benchmarks.run import Options, setting_of
from benchmarks.suite import BENCHMARKS
from storyjax.errors import StoryjaxError


@pytest.fixture
def asked(monkeypatch) -> list[Setting]:
    """A benchmark "fast" that only notes its setting."""
    settings: list[Setting] = []

    def fast(setting: Setting) -> list[Row]:
        settings.append(setting)
        return [Row("work", "storyjax", {}, 1.0, 1.0, 1.0, setting.steps, notes=("told",))]

    monkeypatch.setitem(command.BENCHMARKS, "fast", fast)
    return settings


def test_on_a_cpu_it_is_float32_and_few_executions():
    assert setting_of(Options("fast")) == Setting(True, "float32", steps=5, warmup=1, against=("eager", "compile"))


def test_what_is_asked_for_is_done():
    asked = Options("fast", size="tiny", dtype="bfloat16", against="eager", batch=3, steps=9, warmup=0)
    assert setting_of(asked) == Setting(False, "bfloat16", steps=9, warmup=0, against=("eager",), batch=3)


def test_a_first_execution_that_compiles_is_not_measured():
    with pytest.raises(StoryjaxError, match="warm-up of at least 1"):
        setting_of(Options("fast", warmup=0))


def test_a_result_of_released_sizes_is_kept_and_a_toys_is_not(asked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "RESULTS", tmp_path / "kept")
    command.main(Options("fast", size="tiny", against="none"))
    assert not (tmp_path / "kept").exists()
    command.main(Options("fast", against="none"))
    assert [path.name[:5] for path in (tmp_path / "kept").iterdir()] == ["fast-"]
    command.main(Options("fast", size="tiny", against="none", results=tmp_path / "asked"))
    assert len(list((tmp_path / "asked").iterdir())) == 1
    assert capsys.readouterr().out.count("- told") == 3


def test_without_a_name_all_are_listed(capsys):
    command.main(Options(against="none"))
    out = capsys.readouterr().out
    assert all(name in out for name in BENCHMARKS)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(StoryjaxError, match=r"no benchmark 'story_trian'.*story_train"):
        command.main(Options("story_trian", against="none"))


def test_a_missing_pytorch_is_told_before_anything_is_measured(asked, monkeypatch):
    monkeypatch.setattr(torch_sides.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StoryjaxError, match=r"torch and diffusers.*\[parity\].*--against none"):
        command.main(Options("fast", size="tiny", against="eager"))
    assert not asked


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the extra [parity]")
def test_a_pytorch_for_another_device_is_told(monkeypatch):
    monkeypatch.setattr(torch_sides.jax, "default_backend", lambda: "tpu")
    with pytest.raises(StoryjaxError, match="JAX computes on 'tpu'"):
        torch_sides.device()


def test_every_benchmark_says_what_it_measures_and_is_in_the_page():
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert all(re.match(r"[A-Z].*\.$", run.__doc__ or "") for run in BENCHMARKS.values())
    assert all(f"`{name}`" in page for name in BENCHMARKS)
