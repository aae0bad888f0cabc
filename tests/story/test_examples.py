"""The example stories: told in the words of the cartoon world, so the shipped model can draw them."""

import itertools
import re
from pathlib import Path

import pytest

from storyjax.story import Story, check_length, load_story, save_story
from tfds_builders.cartoon_stories.grammar import inflect, plan_story, words
from tfds_builders.cartoon_stories.world import ACTIONS, CHARACTER, PLACES, WEATHERS

EXAMPLES = sorted(
    path for path in (Path(__file__).parents[2] / "examples").iterdir() if path.suffix in (".json", ".yaml")
)
FRAMES, LONGEST = 5, 24  # of the cartoon stories


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.name)
def story(request: pytest.FixtureRequest) -> Story:
    return load_story(request.param)


def _actions(sentence: str) -> list[str]:
    told = sentence.lower()
    return [a.name for a in ACTIONS if any(inflect(p, many) in told for p in a.phrases for many in (False, True))]


def _names(sentence: str) -> set[str]:
    return set(re.findall(r"[A-Z][a-z]+", sentence)) & set(CHARACTER)


def test_there_are_three_in_both_formats() -> None:
    assert len(EXAMPLES) == 3
    assert {path.suffix for path in EXAMPLES} == {".json", ".yaml"}


def test_every_example_has_the_length_of_the_cartoon_model(story: Story) -> None:
    check_length(story, FRAMES)
    assert story.title
    assert all(len(words(sentence)) <= LONGEST for sentence in story.sentences)


def test_every_word_is_one_the_cartoon_stories_use(story: Story) -> None:
    told = (plan_story("train", index) for index in range(600))
    vocabulary = {word for one in told for frame in one.frames for word in words(frame.sentence)}
    assert {word for sentence in story.sentences for word in words(sentence)} <= vocabulary


def test_every_frame_shows_one_action_and_none_twice(story: Story) -> None:
    actions = [_actions(sentence) for sentence in story.sentences]
    assert all(len(found) == 1 for found in actions)
    assert len(set(itertools.chain(*actions))) == FRAMES


def test_the_first_sentence_says_everything_and_later_ones_lean_on_it(story: Story) -> None:
    first, *later = story.sentences
    assert _names(first)
    assert any(phrase.lower() in first.lower() for place in PLACES for phrase in place.at)
    assert any(phrase.lower().rstrip(",") in first.lower() for weather in WEATHERS for phrase in weather.opening)
    leaning = [sentence for sentence in later if set(words(sentence)) & {"she", "he", "they"}]
    assert len(leaning) >= 3


def test_the_cast_is_everyone_the_sentences_name(story: Story) -> None:
    assert {character.name for character in story.cast} == set().union(*map(_names, story.sentences))
    assert all(character.description for character in story.cast)


def test_an_example_comes_back_from_the_other_format(story: Story, tmp_path: Path) -> None:
    for name in ("s.json", "s.yaml"):
        assert load_story(save_story(story, tmp_path / name)) == story
