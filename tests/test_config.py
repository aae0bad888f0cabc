"""Configurations: to JSON and back, from files, changed by overrides; every mistake names what is meant."""

import dataclasses
import json
from typing import Literal

import pytest

from storyjax.config import from_json, load_config, nearest, override, to_json
from storyjax.errors import StoryjaxError


@dataclasses.dataclass(frozen=True)
class Inner:
    widths: tuple[int, ...] = (8, 16)
    rate: float = 0.5
    kind: Literal["linear", "cosine"] = "linear"

    def __post_init__(self):
        if self.rate > 1:
            raise StoryjaxError(f"rate is a share, expected at most 1, got {self.rate}")


@dataclasses.dataclass(frozen=True)
class Outer:
    steps: int
    name: str = "a"
    folder: str | None = None
    remat: bool = False
    gamma: float | None = 5.0
    inner: Inner = Inner()
    spare: Inner | None = None


CONFIG = Outer(steps=3, folder="x", inner=Inner(widths=(1, 2, 3), rate=0.25), spare=Inner(kind="cosine"))


def failure(function, *args):
    with pytest.raises(StoryjaxError) as caught:
        function(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_configuration_survives_json():
    text = json.dumps(to_json(CONFIG))
    again = from_json(Outer, json.loads(text))
    assert again == CONFIG
    assert isinstance(again.inner.widths, tuple)


def test_a_whole_number_in_json_is_a_float_where_one_is_wanted():
    assert from_json(Inner, {"rate": 1}).rate == 1.0


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"step": 3}, "Outer has no field 'step'; did you mean 'steps'?"),
        ({"steps": 3, "inner": {"width": [1]}}, "Outer.inner has no field 'width'; did you mean 'widths'?"),
        ({"steps": 3, "spare": {"rat": 1.0}}, "Outer.spare has no field 'rat'; did you mean 'rate'?"),
        ({"steps": 3, "inner": {"zzzzzz": 1}}, "Outer.inner has no field 'zzzzzz'; it has: widths, rate, kind"),
        ({}, "Outer: field 'steps': Field required"),
        ({"steps": "3"}, "Outer: field 'steps': Input should be a valid integer, got '3'"),
        ({"steps": 3, "remat": 1}, "Outer: field 'remat': Input should be a valid boolean, got 1"),
        ({"steps": 3, "inner": 7}, "Outer: field 'inner': Input should be an object, got 7"),
        (
            {"steps": 3, "inner": {"widths": [8, "b"]}},
            "field 'inner.widths.1': Input should be a valid integer, got 'b'",
        ),
        ({"steps": 3, "inner": {"rate": 3.0}}, "Outer: inner: rate is a share, expected at most 1, got 3.0"),
        ([1], "Outer: expected a mapping of fields, got list [1]"),
    ],
)
def test_a_wrong_mapping_is_named(mapping, message):
    assert message in failure(from_json, Outer, mapping)


def test_errors_say_where_the_mapping_came_from():
    assert failure(from_json, Inner, {"rates": 1}, "model/config.json").startswith(
        "model/config.json has no field 'rates'"
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("steps=7", dataclasses.replace(CONFIG, steps=7)),
        ("--steps=7", dataclasses.replace(CONFIG, steps=7)),
        ("remat=True", dataclasses.replace(CONFIG, remat=True)),
        ("folder=none", dataclasses.replace(CONFIG, folder=None)),
        ("folder=a=b", dataclasses.replace(CONFIG, folder="a=b")),
        ("gamma=None", dataclasses.replace(CONFIG, gamma=None)),
        ("gamma=1e-2", dataclasses.replace(CONFIG, gamma=0.01)),
        ("inner.widths=[4, 5]", dataclasses.replace(CONFIG, inner=Inner((4, 5), 0.25))),
        ("inner.kind=cosine", dataclasses.replace(CONFIG, inner=Inner((1, 2, 3), 0.25, "cosine"))),
        ("spare.rate=0.125", dataclasses.replace(CONFIG, spare=Inner(rate=0.125, kind="cosine"))),
    ],
)
def test_an_override_is_read_as_the_type_of_its_field(change, expected):
    changed = override(CONFIG, [change])
    assert changed == expected
    assert to_json(changed) == to_json(expected)  # 7 and 7.0 are equal to Python, not here


def test_overrides_add_up_and_leave_the_original():
    changed = override(CONFIG, ["steps=4", "inner.rate=1", "steps=5"])
    assert (changed.steps, changed.inner.rate, changed.inner.widths) == (5, 1.0, (1, 2, 3))
    assert CONFIG.steps == 3


def test_no_overrides_no_change():
    assert override(CONFIG, []) is CONFIG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stepps=7", "the configuration has no field 'stepps'; did you mean 'steps'?"),
        ("inner.widhts=[1]", "no field 'inner.widhts'; did you mean 'inner.widths'?"),
        ("ratte=1", "no field 'ratte'; did you mean 'spare.rate'?"),
        ("nam=b", "no field 'nam'; did you mean 'name'?"),
        ("no-remat=true", "no field 'no_remat'; did you mean 'remat'?"),
        ("steps.most=7", "no field 'steps.most'; did you mean 'steps'?"),
        ("qqq=7", "no field 'qqq'; it has: steps, name, folder, remat, gamma, inner, spare"),
        ("steps", "expected a change as name=value, got 'steps'"),
        (
            "steps=many",
            "field 'steps': Input should be a valid integer, unable to parse string as an integer, got 'many'",
        ),
        ("inner.widths=4", "field 'inner.widths': Input should be a valid tuple, got '4'"),
        ("inner.kind=cosinus", "field 'inner.kind': Input should be 'linear' or 'cosine', got 'cosinus'"),
        ("inner.rate=2", "inner: rate is a share, expected at most 1, got 2.0"),
    ],
)
def test_a_wrong_override_is_named(change, message):
    assert message in failure(override, CONFIG, [change])


def test_nearest_lists_all_names_when_none_is_near():
    assert nearest("ddpm", ["ddim", "euler"]) == "; did you mean 'ddim'?"
    assert nearest("xyz", ["ddim", "euler"]) == "; it has: ddim, euler"


def test_a_configuration_file_is_run_and_changed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from tests.test_config import Outer\n\ndef get_config():\n    return Outer(steps=9)\n")
    assert load_config(path) == Outer(steps=9)
    assert load_config(str(path), ["inner.rate=0.75"]) == Outer(steps=9, inner=Inner(rate=0.75))


def test_a_file_without_get_config_is_named(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("config = 3\n")
    assert f"'{path}' defines no get_config()" in failure(load_config, path)


def test_a_missing_file_and_a_file_of_another_kind_are_named(tmp_path):
    assert f"no configuration file at '{tmp_path / 'x.py'}'" in failure(load_config, tmp_path / "x.py")
    (tmp_path / "mine.yaml").write_text("steps: 3\n")
    assert "expected a name ending in .py" in failure(load_config, tmp_path / "mine.yaml")
