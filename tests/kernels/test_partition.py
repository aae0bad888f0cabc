"""Kernels on a mesh, in a process with four CPU devices."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@functools.cache
def outcome():
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.on_a_mesh"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", ["story_attention xla", "story_attention tpu", "flash_attention tpu"])
def test_stories_and_heads_are_cut_without_communication(case):
    largest, stays, collectives = outcome()[case]
    assert largest < 2e-5
    assert stays
    # the sum of the loss is not asked for, so nothing is left to be exchanged
    assert collectives == []


@pytest.mark.parametrize("axis", ["rows", "frames"])
def test_the_plain_form_is_right_when_pictures_or_frames_are_cut_too(axis):
    assert outcome()[f"story_attention xla, {axis}"][0] < 2e-5


@pytest.mark.parametrize("case", ["ring", "ring, own pixel"])
def test_keys_and_values_go_round_a_ring_of_frames_and_are_never_gathered(case):
    largest, stays, collectives = outcome()[case]
    assert largest < 2e-5
    assert stays
    assert collectives == ["collective-permute"]
