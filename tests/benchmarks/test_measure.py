"""Turns, warm-ups, medians and ratios, with a clock that the sides themselves move."""

import pytest

from benchmarks import measure
from benchmarks.measure import BLOCK, Setting, Side, alternate, compare
from storyjax.nn.flops import Flops

SETTING = Setting(full=False, dtype="float32", steps=7, warmup=2)


class Clock:
    """Time that passes only while somebody works; `told` is who did what, in order."""

    def __init__(self):
        self.now, self.told = 0.0, []

    def side(self, name: str, seconds: float, *, ahead: bool = False, **more) -> Side:
        def start() -> float:
            self.told.append(f"{name} starts")
            self.now += 0.0 if ahead else seconds
            return self.now + seconds if ahead else self.now

        def wait(end: float) -> None:
            self.told.append(f"{name} ends")
            self.now = max(self.now, end)

        return Side(name, start, wait, ahead=ahead, **more)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock.now)
    return clock


def test_sides_take_turns_after_their_warm_ups(clock):
    seconds = alternate([clock.side("a", 1.0), clock.side("b", 2.0)], steps=BLOCK + 2, warmup=1)
    starts = [told[0] for told in clock.told if told.endswith("starts")]
    assert "".join(starts) == "ab" + "a" * BLOCK + "b" * BLOCK + "aabb"
    assert seconds == [[1.0] * (BLOCK + 2), [2.0] * (BLOCK + 2)]


def test_the_next_execution_is_started_before_the_last_is_waited_for(clock):
    alternate([clock.side("a", 1.0, ahead=True)], steps=3, warmup=0)
    assert clock.told == ["a starts", "a starts", "a ends", "a starts", "a ends", "a ends"]


def test_a_row_has_the_median_and_the_ratio_to_the_first(clock):
    ours, theirs = compare("work", [clock.side("a", 1.0), clock.side("b", 4.0)], SETTING, {"batch": 3}, items=3)
    assert (ours.seconds, ours.ratio, ours.measured, ours.per_item) == (1.0, None, 7, pytest.approx(1 / 3))
    assert (theirs.seconds, theirs.ratio) == (4.0, 0.25)
    assert theirs.conditions == {"dtype": "float32", "batch": 3}


def test_a_slow_execution_does_not_move_the_median(clock):
    pace = iter([1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0])

    def start() -> None:
        clock.now += next(pace)

    (row,) = compare("work", [Side("a", start, lambda _: None)], SETTING, {})
    assert (row.seconds, row.fastest, row.slowest) == (1.0, 1.0, 9.0)


def test_utilisation_comes_from_the_count_and_the_median(clock, monkeypatch):
    monkeypatch.setattr(measure, "utilisation", lambda flops, seconds: flops.total / seconds)
    (row,) = compare("work", [clock.side("a", 2.0, flops=Flops(matmul=10))], SETTING, {})
    assert (row.utilisation, row.tflop) == (5.0, 1e-11)


def test_on_a_device_of_unknown_peak_there_is_no_utilisation_and_a_note(clock):
    (row,) = compare("work", [clock.side("a", 2.0, flops=Flops(matmul=10, recomputes=True))], SETTING, {})
    assert row.utilisation is None
    assert any("peak of 'cpu' unknown" in note for note in row.notes)
    assert any("hfu" in note for note in row.notes)
