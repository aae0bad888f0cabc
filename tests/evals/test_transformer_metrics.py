"""Every metric that sees with transformers is there under its name and can be asked for."""

import importlib
import inspect

import pytest

from storyjax.evals.metric import StoryMetric
from storyjax.evals.transformer_metrics import METRICS


@pytest.mark.parametrize("name", METRICS)
def test_names_lead_to_metrics_that_open_with_options_alone(name):
    module, _, attribute = METRICS[name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    assert issubclass(found, StoryMetric)
    assert found.name == name
    assert not inspect.isabstract(found)
    assert all(option.default is not option.empty for option in inspect.signature(found.open).parameters.values())
