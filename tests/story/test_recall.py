"""Recall: the sentences a reader needs are found, in every long story of the cartoon world."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyjax.story.recall import names_in, needed, recalled, stands_alone
from tests.story.strategies import stories
from tfds_builders.cartoon_stories.grammar import plan_story
from tfds_builders.cartoon_stories.world import CHARACTERS

TOLD = [
    "One night, Poppy reads a book.",
    "Then she dances.",
    "She meets Bruno, and they sleep.",
    "They eat cake.",
    "Meanwhile, Mina is painting.",
    "After that, she swims.",
]


def test_names_are_capitals_inside_a_sentence_and_not_its_beginning():
    assert names_in(TOLD) == {"Poppy", "Bruno", "Mina"}
    assert names_in(["Then I saw Ann's hat. Soon Bob came."]) == {"Ann", "Bob"}


def test_a_given_cast_decides_over_capitals():
    assert names_in(["We met Ann on Monday."], ["Ann", "Old Tom"]) == {"Ann", "Old", "Tom"}
    assert needed(["Ann sleeps.", "On Monday she wakes."], 1, names_in([], ["Ann"])) == [0]


def test_a_sentence_stands_by_itself_when_a_name_comes_before_any_pronoun():
    names = frozenset({"Poppy", "Bruno"})
    assert stands_alone("Now Poppy meets Bruno, and they eat.", names)
    assert stands_alone("Poppy's cake is big.", names)
    assert not stands_alone("She and Poppy swim.", names)
    assert not stands_alone("Birds sing.", names)


def test_a_pronoun_needs_the_last_names_and_everyone_who_joined_since():
    names = names_in(TOLD)
    assert [needed(TOLD, n, names) for n in range(6)] == [[], [0], [0], [0, 2], [], [4]]


def test_what_is_not_needed_is_filled_with_the_nearest():
    told = ["Poppy sleeps.", "Then Poppy reads.", "Now Poppy walks.", "She runs.", "She swims."]
    assert recalled(told, 2) == [[], [0], [0, 1], [1, 2], [2, 3]]
    assert recalled(told, 3)[3:] == [[0, 1, 2], [1, 2, 3]]
    assert recalled(TOLD, 0) == [[]] * 6


def test_what_is_recalled_begins_with_a_sentence_that_stands_by_itself():
    assert recalled(TOLD, 2) == [[], [0], [0, 1], [0, 2], [0, 3], [0, 4]]
    assert recalled(TOLD, 1) == [[], [0], [0], [0], [0], [4]]


def test_a_story_without_names_recalls_its_beginning():
    assert recalled(["A girl walks.", "she runs", "she eats", "she sleeps"], 2)[3] == [0, 2]


@pytest.mark.parametrize("index", range(5))
def test_who_is_in_a_frame_of_the_cartoon_world_can_be_read_from_what_is_recalled(index):
    story = plan_story("test", index, frames=60)
    sentences = [frame.sentence for frame in story.frames]
    names = names_in(sentences)
    assert names <= {character.name for character in CHARACTERS}
    for n, frame in enumerate(story.frames):
        said = " ".join(sentences[k] for k in [*needed(sentences, n, names), n])
        assert all(name in said for name in frame.scene.characters)
    lengths = [len(needed(sentences, n, names)) for n in range(60)]
    assert sum(length <= 4 for length in lengths) >= 57


@settings(deadline=None)
@given(stories, st.integers(0, 6))
def test_any_text_recalls_earlier_frames_only(story, count):
    found = recalled(story.sentences, count, [character.name for character in story.cast])
    for frame, earlier in enumerate(found):
        assert earlier == sorted(set(earlier))
        assert len(earlier) == min(count, frame)
        assert all(0 <= n < frame for n in earlier)
