"""Averages between two log lines."""

import json

import jax.numpy as jnp
import pytest

from storyjax.train.metrics import Window


def add(window: Window, *values: float) -> None:
    for value in values:
        window.add({"loss": jnp.float32(value), "grid/size": jnp.float32(2 * value)})


def test_averages_of_all_steps_since_the_last_clear():
    window = Window()
    assert window.compute() == {}
    add(window, 1.0, 2.0, 6.0)
    assert window.compute() == {"loss": 3.0, "grid/size": 6.0}
    window.clear()
    add(window, 5.0)
    assert window.compute() == {"loss": 5.0, "grid/size": 10.0}


def test_a_window_continues_exactly_after_json():
    whole, first, second = Window(), Window(), Window()
    add(whole, 0.1, 0.2, 0.7)
    add(first, 0.1, 0.2)
    second.set_state(json.loads(json.dumps(first.get_state())))
    add(second, 0.7)
    assert second.compute() == whole.compute()


def test_an_empty_window_has_an_empty_state():
    window = Window()
    window.set_state(window.get_state())
    add(window, 4.0)
    assert window.compute()["loss"] == pytest.approx(4.0)


def test_a_resumed_window_with_other_metrics_starts_again():
    window = Window()
    window.set_state({"old": [3.0, 2]})
    add(window, 4.0)
    assert window.compute() == {"loss": 4.0, "grid/size": 8.0}
