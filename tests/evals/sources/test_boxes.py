"""Files of boxes: what is written is read again, and what is wrong is named by story and frame."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Box
from storyjax.evals.networks.finding import finder_of, read_names
from storyjax.evals.sources.boxes import is_there, not_found, read_boxes, write_boxes
from tests.evals.toy_clip import stories

side = st.floats(0, 1)
span = st.tuples(side, side).filter(lambda s: s[0] != s[1]).map(sorted)
names = st.text(min_size=1, max_size=5)
box = st.builds(lambda name, y, x: Box(name, y[0], x[0], y[1], x[1]), names, span, span) | st.builds(not_found, names)


@settings(max_examples=30)
@given(st.dictionaries(names, st.lists(st.lists(box, max_size=3), max_size=3), max_size=3))
def test_boxes_come_back(tmp_path_factory, boxes):
    file = tmp_path_factory.mktemp("boxes") / "boxes.json"
    write_boxes(file, boxes)
    assert read_boxes(file) == boxes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is no JSON object"),
        ({"a": {}}, "story 'a': expected a list of frames, each a list of boxes"),
        ({"a": [[], ["Pip"]]}, r"story 'a', frame 1: expected \{'name': text, 'box'.*got 'Pip'"),
        ({"a": [[{"name": "Pip", "box": [0, 0, 1]}]]}, r"story 'a', frame 0: the box of 'Pip' is \[0, 0, 1\]"),
        ({"a": [[{"name": "Pip", "box": [0.5, 0, 0.5, 1]}]]}, "top before bottom"),
        ({"a": [[{"name": "Pip", "box": [0, 0, 100, 200]}]]}, r"in 0\.\.1 of height and width"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(StoryjaxError, match=message):
        read_boxes(tmp_path / "boxes.json")


def test_a_box_without_area_says_that_somebody_is_missing(tmp_path):
    (tmp_path / "boxes.json").write_text('{"s0": [[{"name": "Pip", "box": null}], [], []]}')
    assert [is_there(each) for each in read_boxes(tmp_path / "boxes.json")["s0"][0]] == [False]
    finder = finder_of(tmp_path / "boxes.json", None, None, 0.1)
    assert finder.find(stories(1)[0])[0][0].name == "Pip"
    with pytest.raises(StoryjaxError, match="has no boxes for story 's1'"):
        finder.find(stories(2)[1])


def test_options_that_contradict_each_other_are_refused(tmp_path):
    assert finder_of(None, None, None, 0.1) is None
    with pytest.raises(StoryjaxError, match="either a file of boxes or a detector"):
        finder_of("a.json", "owl", ["Pip"], 0.1)
    with pytest.raises(StoryjaxError, match="a detector needs names"):
        finder_of(None, "owl", None, 0.1)
    (tmp_path / "names.json").write_text('{"a": "Pip"}')
    with pytest.raises(StoryjaxError, match="expected a list of names for story 'a', got 'Pip'"):
        read_names(tmp_path / "names.json")
