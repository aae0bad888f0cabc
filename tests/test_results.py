"""docs/results.md: every command in it names metrics, data, splits and layouts that there are."""

import re
import shlex
from pathlib import Path

import pytest

from storyjax.data.build import builder_names
from storyjax.evals.registry import METRICS
from storyjax.evals.sources.layouts import LAYOUTS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/results.md").read_text()
OWN_FOLDERS = {"long_stories_50", "long_stories_100"}


def commands():
    code = "\n".join(re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    found = [shlex.split(line) for line in code.splitlines()]
    return [pytest.param(words[2:], id=shlex.join(words)) for words in found if words[:2] == ["storyjax", "evaluate"]]


def values(words, flag):
    """What follows a flag, up to the next one."""
    rest = words[words.index(flag) + 1 :] if flag in words else []
    end = next((n for n, word in enumerate(rest) if word.startswith("--")), len(rest))
    return rest[:end]


@pytest.mark.parametrize("words", commands())
def test_a_command_names_what_there_is(words):
    metrics = values(words, "--metrics")
    assert metrics
    assert set(metrics) <= set(METRICS)
    (data,) = values(words, "--data")
    assert data.split("/")[0] in {*builder_names(), *OWN_FOLDERS}
    assert set(values(words, "--layout")) <= set(LAYOUTS)
    assert values(words, "--split") == (["all"] if data in OWN_FOLDERS else ["test"])
    assert {option.split(".")[0] for option in values(words, "--set")} <= set(metrics)
    needy = {"char_f1", "frm_acc"} & set(metrics)
    assert {option.split("=")[0] for option in values(words, "--set")} == {f"{name}.classifier" for name in needy}


def test_a_classifier_is_trained_by_a_file_that_exists():
    named = re.findall(r"`storyjax train (\S+) --workdir \S+`", PAGE)
    assert len(named) == 2
    assert all((ROOT / name).is_file() for name in named)


def test_every_table_to_be_filled_is_followed_by_its_command():
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        assert ("measured here |" in part) == ("storyjax evaluate" in part)
    assert len(commands()) == 9
    assert len(re.findall(r"^## ", PAGE, re.MULTILINE)) == 5


def test_measured_columns_have_as_many_cells_as_their_table():
    header = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        header = cells if cells and not header else header if cells else []
        assert len(cells) == len(header)
