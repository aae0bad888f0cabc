"""A story built in Python or from a mapping: what is accepted, and what each mistake says."""

import pytest

from storyjax.errors import StoryjaxError
from storyjax.story import (
    Character,
    Frame,
    Story,
    check_length,
    story_from_mapping,
    story_from_sentences,
    story_to_mapping,
)


def test_bare_strings_stand_for_frames_and_characters() -> None:
    story = Story(frames=["Poppy runs.", Frame("She sleeps.")], cast=["Poppy"])  # type: ignore[arg-type]
    assert story.frames == (Frame("Poppy runs."), Frame("She sleeps."))
    assert story.cast == (Character("Poppy"),)
    assert story.sentences == ("Poppy runs.", "She sleeps.")
    assert story.first_picture is None


def test_white_space_in_texts_counts_as_one_space() -> None:
    story = story_from_sentences(["  Poppy\n  runs\tfast. "], title=" The \n Run ")
    assert story.sentences == ("Poppy runs fast.",)
    assert story.title == "The Run"


def test_a_first_picture_makes_a_continuation() -> None:
    story = story_from_sentences(["One.", "Two."], first_picture="fox.png")
    assert story.first_picture == "fox.png"
    assert story.frames[1].image is None


def test_cast_may_be_names_entries_or_one_mapping() -> None:
    as_mapping = story_from_mapping({"frames": ["One."], "cast": {"Poppy": "a fox", "Gus": None}})
    as_list = story_from_mapping({"frames": ["One."], "cast": [{"name": "Poppy", "description": "a fox"}, "Gus"]})
    assert as_mapping.cast == as_list.cast == (Character("Poppy", "a fox"), Character("Gus"))


def test_mapping_of_a_story_is_read_back_as_the_story() -> None:
    story = Story(
        (Frame("One.", "a.png"), Frame("Two.")),
        title="T",
        style="flat",
        cast=(Character("Poppy", "fox"), Character("Gus")),
    )
    assert story_from_mapping(story_to_mapping(story)) == story
    assert story_to_mapping(story_from_sentences(["One."])) == {"frames": ["One."]}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"frames": []}, "the story has no frames; write at least one sentence under 'frames'"),
        ({"frames": None}, "the story has no frames"),
        ({"title": "T"}, "the story has no frames"),
        ({"frames": ["One.", ""]}, "frame 2 has no sentence; every frame needs one, also a frame with a picture"),
        ({"frames": ["One.", "  \n "]}, "frame 2 has no sentence"),
        ({"frames": ["One.", None]}, "frame 2 has no sentence"),
        ({"frames": [{"image": "a.png"}]}, "frame 1 has no sentence"),
        (
            {"frames": ["One.", "Two.", 7]},
            "frame 3: expected a sentence, got the number 7; write the sentence in quotes",
        ),
        ({"frames": [True]}, "frame 1: expected a sentence, got the truth value true"),
        ({"frames": [["One."]]}, "frame 1: expected a sentence, got a list"),
        ({"frames": "One."}, "'frames' must be a list, got text 'One.'; in YAML put '- ' before each entry"),
        ({"frames": {"1": "One."}}, "'frames' must be a list, got a mapping of fields"),
        ({"frames": [{"sentense": "One."}]}, "frame 1 has no field 'sentense'; did you mean 'sentence'?"),
        ({"frames": ["One."], "titel": "T"}, "the story has no field 'titel'; did you mean 'title'?"),
        ({"frames": [{"She says": "hello"}]}, "a sentence that holds ': ' must stand in quotes"),
        ({"frames": ["One.", {"sentence": "Two.", "image": "a.png"}]}, "frame 2 has an 'image'; only the first frame"),
        (
            {"frames": [{"sentence": "One.", "image": 3}]},
            "frame 1: 'image' must be the path of a picture, got the number 3",
        ),
        ({"frames": ["One."], "title": 1984}, "'title' must be text, got the number 1984; put it in quotes"),
        ({"frames": ["One."], "style": ["flat"]}, "'style' must be text, got a list"),
        ({"frames": ["One."], "cast": "Poppy"}, "'cast' must be a list, got text 'Poppy'"),
        ({"frames": ["One."], "cast": [{"description": "a fox"}]}, "cast entry 1 has no name"),
        ({"frames": ["One."], "cast": [{"nam": "Poppy"}]}, "cast entry 1 has no field 'nam'; did you mean 'name'?"),
        ({"frames": ["One."], "cast": ["Poppy", "poppy"]}, "the cast names 'poppy' twice"),
        ({"frames": ["One.\x07"]}, "frame 1 holds the control character U+0007; take it out"),
        ({"frames": ["One \ud800"]}, "frame 1 holds the control character U+D800"),
        (["One."], "expected the fields 'title' and 'frames', got a list"),
        (None, "expected the fields 'title' and 'frames', got nothing"),
    ],
)
def test_mistakes_name_the_place_and_the_remedy(mapping: object, message: str) -> None:
    with pytest.raises(StoryjaxError) as error:
        story_from_mapping(mapping)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("count", "most", "least", "message"),
    [
        (7, 5, None, "the story has 7 frames, this model draws exactly 5; leave out or join 2 sentences"),
        (4, 5, None, "the story has 4 frames, this model draws exactly 5; add 1 sentence"),
        (1, 8, 2, "the story has 1 frame, this model draws 2 to 8; add 1 sentence"),
        (9, 8, 2, "the story has 9 frames, this model draws 2 to 8; leave out or join 1 sentence"),
    ],
)
def test_a_story_of_another_length_than_the_model_is_refused(
    count: int, most: int, least: int | None, message: str
) -> None:
    with pytest.raises(StoryjaxError) as error:
        check_length(story_from_sentences(["A."] * count), most, least)
    assert str(error.value) == message


@pytest.mark.parametrize(("count", "most", "least"), [(5, 5, None), (2, 8, 2), (8, 8, 2)])
def test_a_story_of_the_models_length_passes(count: int, most: int, least: int | None) -> None:
    check_length(story_from_sentences(["A."] * count), most, least)


def test_importing_the_room_brings_no_jax_along() -> None:
    import subprocess
    import sys

    code = "import storyjax.story, sys; print([m for m in ('jax', 'flax', 'tyro', 'jinja2') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
