"""Metrics by name: what is asked for is opened, what is not there is told with the nearest."""

import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyjax.errors import StoryjaxError
from storyjax.evals import registry
from storyjax.evals.metric import StoryMetric
from tests.evals import toy_metrics


@pytest.fixture
def toys(monkeypatch):
    needy = {"needy": "tests.evals.toy_metrics:Needy"}
    monkeypatch.setattr(registry, "METRICS", registry.METRICS | toy_metrics.PLACES | needy)


@pytest.mark.parametrize("name", registry.METRICS)
def test_a_name_leads_to_a_metric_of_that_name_that_says_what_it_needs(name):
    found = registry.metric_class(name)
    assert issubclass(found, StoryMetric)
    assert not inspect.isabstract(found)
    assert found.name == name
    assert found.needs <= set(registry.NEEDS)
    assert found.better in ("higher", "lower")
    assert callable(found.open)
    assert (found.__doc__ or "").strip()


def test_options_reach_the_metric(toys):
    options = registry.parse_options(["distance.power=2"])
    metric = registry.open_metrics(["distance", "brightness"], options)["distance"]
    assert metric.about == {"power": 2}
    assert list(registry.open_metrics([])) == ["recogniser"]


def test_mistakes_name_the_nearest(toys):
    with pytest.raises(StoryjaxError, match=r"no metric 'brigtness'; did you mean 'brightness'.*--metrics help"):
        registry.open_metrics(["brigtness"])
    with pytest.raises(StoryjaxError, match="'distance' has no option 'pwer'; did you mean 'power'"):
        registry.open_metrics(["distance"], {"distance": {"pwer": 1}})
    with pytest.raises(StoryjaxError, match="'brightness' has no option 'x'; it has none"):
        registry.open_metrics(["brightness"], {"brightness": {"x": 1}})
    with pytest.raises(StoryjaxError, match=r"'needy' needs 'classifier' to be said: --set needy\.classifier="):
        registry.open_metrics(["needy"])
    with pytest.raises(StoryjaxError, match="'sets' has options, but is not asked for"):
        registry.open_metrics(["distance"], {"sets": {"x": 1}})
    for text in ("distance", "power=2", "distance.power"):
        with pytest.raises(StoryjaxError, match=r"expected an option of a metric as metric.option=value, got"):
            registry.parse_options([text])


@settings(max_examples=50)
@given(st.from_regex(r"\w+\.\w+", fullmatch=True), st.text(max_size=20))
def test_any_value_is_taken(name, value):
    metric, option = name.split(".")
    assert list(registry.parse_options([f"{name}={value}"])[metric]) == [option]


def test_the_listing_says_of_each_what_it_needs(toys):
    text = registry.listing()
    assert "distance: Distance, lower is better" in text
    assert "needs the data's real frames" in text
    assert "options: distance.power" in text
    assert "brightness: Brightness, higher is better" in text
    assert "generated frames and sentences only" in text
