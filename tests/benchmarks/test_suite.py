"""Every benchmark at toy size: that it runs, on all its sides, and says what a reader needs. Its numbers mean nothing."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure import Row, Setting
from benchmarks.sides import sd21_config, sdxl_config
from benchmarks.suite import BENCHMARKS
from storyjax.models.unet import UNet
from storyjax.nn.build import abstract, count
from tests import tiny

ROOT = Path(__file__).parents[2]
HAS_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "diffusers"))
EAGER = ("eager",) if HAS_TORCH else ()


def run(name: str, *, dtype: str = "float32", against: tuple[str, ...] = EAGER) -> list[Row]:
    with tiny.quick_compiles():
        return BENCHMARKS[name](Setting(full=False, dtype=dtype, steps=1, warmup=0, against=against))


@pytest.mark.parametrize(
    ("name", "dtype", "unit"),
    [
        ("sd21_forward", "float32", "image"),
        ("sdxl_forward", "bfloat16", "image"),
        ("story_forward", "bfloat16", "story"),
        pytest.param("story_train", "bfloat16", "story", marks=pytest.mark.slow),
        pytest.param("sd21_train", "float32", "image", marks=pytest.mark.slow),
        pytest.param("story_sample", "float32", "story", marks=pytest.mark.slow),
        ("sdxl_sample", "float32", "image"),
        ("fid_features", "float32", "image"),
    ],
)
def test_a_network_is_measured_on_every_side(name, dtype, unit):
    rows = run(name, dtype=dtype)
    assert [row.side for row in rows] == ["storyjax", *["PyTorch eager"] * len(EAGER)]
    assert all(row.seconds > 0 and row.conditions["batch"] and row.conditions["dtype"] == dtype for row in rows)
    assert {row.unit for row in rows} == {unit}
    assert rows[0].tflop
    assert all(row.ratio for row in rows[1:])


def test_attention_is_measured_in_every_way_that_runs_here():
    rows = run("attention")
    sides = {row.side for row in rows}
    assert {"storyjax, chosen", "storyjax, xla"} <= sides
    assert "storyjax, cudnn" not in sides
    assert ("PyTorch fused" in sides) == HAS_TORCH
    forward, backward = (
        next(row for row in rows if row.work == f"toy, {kind}") for kind in ("forward", "with gradients")
    )
    assert backward.tflop == pytest.approx(3 * forward.tflop)


def test_neighbourhood_attention_is_measured_in_every_way_that_runs_here():
    sides = {row.side for row in run("story_attention")}
    assert {"storyjax, chosen", "storyjax, xla"} <= sides
    assert "storyjax, tpu" not in sides
    assert ("PyTorch, collected and fused" in sides) == HAS_TORCH


@pytest.mark.slow
def test_recomputing_activations_is_counted_and_told():
    kept, products, blocks = run("memory", against=())
    assert kept.tflop < products.tflop < blocks.tflop
    assert any("hfu" in note for note in blocks.notes)
    assert all(row.peak_bytes for row in (kept, products, blocks))


@pytest.mark.slow
def test_communication_is_shown_beside_arithmetic(tmp_path):
    """In a process of its own, which alone may still say how many devices a CPU has."""
    command = ["scaling", "--size", "tiny", "--against", "none", "--steps", "1", "--warmup", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", *command, "--results", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    data, fsdp = json.loads(path.read_text())["rows"]
    assert (data["conditions"]["mesh"], fsdp["conditions"]["mesh"]) == ("data=2", "fsdp=2")
    found, by_arithmetic = _numbers(data, "summed")
    assert found == pytest.approx(by_arithmetic, rel=0.01)
    gathered, once = _numbers(fsdp, "gathered")
    assert 0.95 * once < gathered < 2.1 * once
    assert any("share its cores" in note for note in data["notes"])


def _numbers(row: dict, name: str) -> tuple[float, float]:
    """What a note says was found, and by arithmetic."""
    words = next(note for note in row["notes"] if note.startswith(f"{name}:")).split()
    return float(words[1]), float(words[-2])


@pytest.mark.skipif(not HAS_TORCH, reason="needs the extra [parity]")
@pytest.mark.parametrize(("case", "config"), [("unet-sd21", sd21_config), ("unet-sdxl", sdxl_config)])
def test_both_sides_are_the_same_network(case, config):
    from benchmarks.parity.cases import BY_NAME
    from benchmarks.parity.torch_side import make

    _, ours = abstract(lambda rngs: UNet(config(False), rngs=rngs))
    assert count(ours) == sum(parameter.numel() for parameter in make(BY_NAME[case], False).parameters())
