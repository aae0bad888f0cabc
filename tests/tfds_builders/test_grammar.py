"""Sentences of the cartoon stories can be resolved by a reader who knows nothing but the words and the phrase tables."""

import collections
import re

import pytest

from tfds_builders.cartoon_stories.grammar import inflect, plan_story, words
from tfds_builders.cartoon_stories.plan import SPLIT_RANGE, STORIES, story_number
from tfds_builders.cartoon_stories.world import ACTIONS, CHARACTERS, LABELS, PLACES, WEATHERS

PRONOUN = {character.name: character.pronoun for character in CHARACTERS}


@pytest.fixture(scope="module")
def stories():
    return [plan_story(split, index) for split in SPLIT_RANGE for index in range(600)]


def read_group(sentence: str, before: tuple[str, ...]) -> tuple[str, ...]:
    """Who is in the frame, by the words alone: names and pronouns in the order they are said."""
    group: list[str] = []
    for word in re.findall(r"[A-Za-z]+", sentence):
        if word in PRONOUN:
            group.append(word)
        elif word.lower() in ("she", "he"):
            assert not group, f"{word!r} after somebody was named could be either: {sentence}"
            assert [PRONOUN[name] for name in before] == [word.lower()], (
                f"{word!r} has no single owner in {before}: {sentence}"
            )
            group.append(before[0])
        elif word.lower() == "they" and not group:
            assert len(before) > 1, f"'they' has no group in {before}: {sentence}"
            group.extend(before)
    return tuple(group)


def said(sentence: str, phrases) -> bool:
    return any(phrase.lower() in sentence.lower() for phrase in phrases)


def test_a_reader_finds_every_character_from_the_story_so_far(stories):
    for story in stories:
        before: tuple[str, ...] = ()
        for frame in story.frames:
            before = read_group(frame.sentence, before)
            assert before == frame.scene.characters, frame.sentence
            assert frame.names_characters == all(name in frame.sentence for name in before)


def test_place_and_weather_hold_until_new_ones_are_told(stories):
    for story in stories:
        place = weather = None
        for frame in story.frames:
            told = [entry.name for entry in PLACES if said(frame.sentence, entry.at + entry.to)]
            assert len(told) == frame.names_place, frame.sentence
            place = told[0] if told else place
            sky = [entry.name for entry in WEATHERS if said(frame.sentence, entry.opening + entry.change)]
            assert len(sky) <= 1, frame.sentence
            weather = sky[0] if sky else weather
            assert (place, weather) == (frame.scene.place, frame.scene.weather), frame.sentence


def test_each_sentence_says_its_one_action(stories):
    for story in stories:
        for frame in story.frames:
            plural = len(frame.scene.characters) > 1
            told = {a.name for a in ACTIONS if said(frame.sentence, [inflect(phrase, plural) for phrase in a.phrases])}
            assert told == {frame.scene.action}, frame.sentence


def test_sentences_fit_thirty_tokens_of_a_small_vocabulary(stories):
    counts = collections.Counter(word for story in stories for frame in story.frames for word in words(frame.sentence))
    assert max(len(words(frame.sentence)) for story in stories for frame in story.frames) <= 24
    assert 200 <= len(counts) <= 400


def test_later_frames_lean_on_earlier_ones(stories):
    frames = [frame for story in stories for frame in story.frames]
    nameless = sum(not any(name in frame.sentence for name in PRONOUN) for frame in frames) / len(frames)
    sizes = collections.Counter(len(frame.scene.characters) for frame in frames)
    assert 0.4 <= nameless <= 0.5
    assert 0.3 <= sum(frame.names_place for frame in frames) / len(frames) <= 0.5
    assert sizes.keys() == {1, 2, 3}
    assert sizes[1] > sizes[2] > sizes[3] > 0.06 * len(frames)
    assert all(story.frames[0].names_characters and story.frames[0].names_place for story in stories)


def test_every_label_and_every_phrase_appears(stories):
    frames = [frame for story in stories for frame in story.frames]
    for kind in ("place", "weather", "action"):
        assert {getattr(frame.scene, kind) for frame in frames} == set(LABELS[kind])
    assert {name for frame in frames for name in frame.scene.characters} == set(LABELS["characters"])
    text = " ".join(frame.sentence for frame in frames).lower()
    phrases = [inflect(phrase, plural) for action in ACTIONS for phrase in action.phrases for plural in (False, True)]
    phrases += [phrase for entry in PLACES for phrase in entry.at + entry.to]
    phrases += [phrase for entry in WEATHERS for phrase in entry.opening + entry.change]
    assert [phrase for phrase in phrases if phrase.lower() not in text] == []


def content(story) -> tuple:
    return tuple(
        (frame.scene.characters, frame.scene.place, frame.scene.weather, frame.scene.action) for frame in story.frames
    )


def test_no_story_is_told_twice_within_or_across_splits(stories):
    assert len({content(story) for story in stories}) == len(stories)
    numbers = [story_number(split, index) for split in SPLIT_RANGE for index in range(3000)]
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < STORIES
    assert max(span.stop for span in SPLIT_RANGE.values()) <= STORIES


TOLD = [
    "Snow is falling, and Daisy and Mina are playing the guitar on the farm.",
    "Now they are dancing near the barn on the farm.",
    "In the desert, only Daisy has a party with a tall cake.",
    "Meanwhile, Mina is painting a rainbow.",
    "She and Poppy swim in a little blue pool.",
]


def test_stories_are_the_same_on_every_machine():
    told = [frame.sentence for frame in plan_story("test", 0).frames]
    assert told == TOLD


@pytest.fixture(scope="module")
def long_stories():
    return [plan_story("test", index, frames=50) for index in range(20)]


def test_stories_of_any_length_can_be_read_by_the_same_rules(long_stories):
    test_a_reader_finds_every_character_from_the_story_so_far(long_stories)
    test_place_and_weather_hold_until_new_ones_are_told(long_stories)
    test_each_sentence_says_its_one_action(long_stories)
    assert {len(story.frames) for story in long_stories} == {50}
    assert [len(plan_story("test", 0, count).frames) for count in (1, 3, 1000)] == [1, 3, 1000]


def test_a_long_story_stays_with_its_cast_and_any_five_actions_in_a_row_differ(long_stories):
    moves = 0
    for story in long_stories:
        scenes = [frame.scene for frame in story.frames]
        assert len({name for scene in scenes for name in scene.characters}) <= 3
        moves += sum(scene.moved for scene in scenes[1:])
        assert all(len({scene.action for scene in scenes[i : i + 5]}) == 5 for i in range(46))
    assert 5 * 20 < moves <= 20 * 20


def test_five_frames_are_the_default_and_no_story_has_none():
    assert plan_story("test", 0, 5) == plan_story("test", 0)
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        plan_story("test", 0, 0)


def test_an_unknown_split_or_index_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="train, validation, test, got 'dev'"):
        plan_story("dev", 0)
    with pytest.raises(ValueError, match="got index -1"):
        plan_story("train", -1)
