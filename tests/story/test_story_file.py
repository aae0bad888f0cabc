"""Story files: both formats, what a hand slips on, and stories that come back as they went."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from storyjax.errors import StoryjaxError
from storyjax.story import Character, Frame, Story, load_story, save_story, story_from_sentences
from tests.story.strategies import stories

YAML = """\
title: 1984
style: flat colours
cast:
  Poppy: a fox
frames:
  - On a sunny day, Poppy
    runs in the meadow.
  - yes
  - sentence: She sleeps.
"""


def _write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _message(path: Path) -> str:
    with pytest.raises(StoryjaxError) as error:
        load_story(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_yaml_written_by_hand_is_text_as_written(tmp_path: Path) -> None:
    story = load_story(_write(tmp_path, "s.yaml", YAML))
    assert story == Story(
        (Frame("On a sunny day, Poppy runs in the meadow."), Frame("yes"), Frame("She sleeps.")),
        title="1984",
        style="flat colours",
        cast=(Character("Poppy", "a fox"),),
    )


def test_json_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbf{"title": "T", "frames": ["One.", {"sentence": "Two."}]}'
    assert load_story(_write(tmp_path, "S.JSON", text)) == story_from_sentences(["One.", "Two."], title="T")


def test_a_first_picture_is_found_beside_the_file(tmp_path: Path) -> None:
    _write(tmp_path, "fox.png", b"x")
    path = _write(tmp_path, "s.yml", "frames:\n- sentence: One.\n  image: fox.png\n- Two.\n")
    story = load_story(path)
    assert story.first_picture == str(tmp_path / "fox.png")
    saved = save_story(story, tmp_path / "copy.json")
    assert '"image": "fox.png"' in saved.read_text()
    assert load_story(saved) == story


def test_a_first_picture_that_is_missing_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path, "s.yaml", "frames:\n- sentence: One.\n  image: fox.png\n")
    assert f"frame 1: there is no picture at '{tmp_path / 'fox.png'}'" in _message(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.yaml", "frames:\n  - One.\n   - two\n  bad", "line 4, column 6: not valid YAML: could not find"),
        ("s.yaml", "frames:\n  - sentence: She says: hello\n", "line 2, column 23: not valid YAML: mapping values"),
        ("s.yaml", "frames:\n  - sentence: She says: hello\n", "a text that holds ': ' must stand in quotes"),
        ("s.yaml", "frames: [One.\n", "not valid YAML"),
        ("s.yaml", "title: a\ntitle: b\nframes: [x]\n", "line 2: the field 'title' is given twice; keep one"),
        ("s.yaml", "frames:\n- sentence: a\n  sentence: b\n", "line 3: the field 'sentence' is given twice"),
        ("s.yaml", "", "expected the fields 'title' and 'frames', got nothing"),
        ("s.yaml", "frames:\n", "the story has no frames"),
        ("s.yaml", "frames:\n  - One.\n  -\n", "frame 2 has no sentence"),
        ("s.yaml", "frames:\n  - One.\n  - sentence:\n", "frame 2 has no sentence"),
        ("s.yaml", "frames: |\n  One.\n  Two.\n", "'frames' must be a list, got text"),
        ("s.yaml", "frames: ['a\x07']\n", "not valid YAML"),
        ("s.yaml", "frames: &a [*a]\n", "frame 1: expected a sentence, got a list"),
        (
            "s.yaml",
            "frames: !!python/object/apply:os.system [ls]\n",
            "line 1, column 9: not valid YAML: could not determine",
        ),
        ("s.yaml", "a: 1\n---\nb: 2\n", "line 2, column 1: not valid YAML"),
        ("s.json", '{"frames": ["One."\n "Two."]}', "line 2, column 2: not valid JSON"),
        ("s.json", '{"title": "a", "title": "b", "frames": ["x"]}', "the field 'title' is given twice; keep one"),
        ("s.json", '{"frames": [5]}', "frame 1: expected a sentence, got the number 5"),
        ("s.json", "[" * 100_000, "lie too deep inside each other"),
        ("s.yaml", "[" * 10_000, "lie too deep inside each other"),
        ("s.yaml", b"\x89PNG\r\n\x1a\n\xff", "the file is not UTF-8 text (byte 0); save it as UTF-8"),
        ("s.txt", "One.\n", "a story file ends in .json, .yaml or .yml"),
        ("s.json", " " * (1 << 20) + "{}", "the file has 1,048,578 bytes, a story file at most 1,048,576"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    assert message in _message(_write(tmp_path, name, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "there is no such story file" in _message(tmp_path / "none.yaml")
    (tmp_path / "folder.yaml").mkdir()
    assert "cannot be read" in _message(tmp_path / "folder.yaml")


def test_saving_never_overwrites_unasked(tmp_path: Path) -> None:
    path = save_story(story_from_sentences(["One."]), tmp_path / "s.yaml")
    with pytest.raises(StoryjaxError, match="exists already; choose another name"):
        save_story(story_from_sentences(["Two."]), path)
    assert load_story(path).sentences == ("One.",)
    save_story(story_from_sentences(["Two."]), path, overwrite=True)
    assert load_story(path).sentences == ("Two.",)
    assert [p.name for p in tmp_path.iterdir()] == ["s.yaml"]


def test_saving_needs_an_ending_that_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(StoryjaxError, match=r"ends in \.json, \.yaml or \.yml"):
        save_story(story_from_sentences(["One."]), tmp_path / "s.txt")


@settings(max_examples=150, deadline=None)
@given(story=stories)
def test_any_story_comes_back_from_both_formats(story: Story) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("s.json", "s.yaml"):
            assert load_story(save_story(story, Path(folder) / name)) == story
