"""Tiny models for the whole room, and compilation without the effort that only long runs repay."""

import dataclasses

import pytest

from tests import tiny


@pytest.fixture(scope="package", autouse=True)
def _quick_compiles():
    with tiny.quick_compiles():
        yield


@pytest.fixture(scope="session")
def visual(tokenizer):
    """A visualization pipeline: 3 frames of 32x32 pixels, 2 steps."""
    return tiny.pipeline(tokenizer)


@pytest.fixture(scope="session")
def continuing(tokenizer):
    """A story-continuation pipeline of the same size."""
    return tiny.pipeline(tokenizer, dataclasses.replace(tiny.VISUALIZATION, first_frame="conv2d"))
