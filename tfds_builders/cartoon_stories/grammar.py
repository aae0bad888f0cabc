"""From scenes to sentences: each frame says what is new and leans on the story so far for the rest.

A reader can always resolve what is said: "she" or "he" is the one character of the frame before; "they" at the start of a
sentence is the group of the frame before, and after a name the group just named; place and weather hold until new ones are told.
"""

import dataclasses
import re

from tfds_builders.cartoon_stories.plan import FRAMES, Scene, plan_scenes
from tfds_builders.cartoon_stories.world import ACTION, CHARACTER, PLACE, WEATHER
from tfds_builders.chance import Dice

_LINKS = ("", "", "Then", "After that,", "Now", "Next,", "A little later,", "Soon", "There,")


@dataclasses.dataclass(frozen=True)
class Frame:
    """A sentence and the truth of its picture; `scene` holds the labels, the rest says what the sentence itself names."""

    sentence: str
    scene: Scene
    names_characters: bool
    names_place: bool


@dataclasses.dataclass(frozen=True)
class Story:
    """All frames, told and true."""

    story_id: str
    title: str
    frames: tuple[Frame, ...]


def inflect(phrase: str, plural: bool) -> str:
    """Choose the singular or the plural side of every `[singular|plural]`."""
    return re.sub(r"\[([^|\]]*)\|([^\]]*)\]", lambda found: found.group(2 if plural else 1), phrase)


def _join(names: tuple[str, ...]) -> str:
    """("A", "B", "C") -> "A, B and C"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sentence(*parts: str) -> str:
    """Join the parts that are not empty, begin with a capital, end with a full stop."""
    text = " ".join(part for part in parts if part)
    return f"{text[0].upper()}{text[1:]}."


def _pronoun(group: tuple[str, ...]) -> str:
    return CHARACTER[group[0]].pronoun if len(group) == 1 else "they"


def _open(dice: Dice, scene: Scene) -> str:
    """The first sentence says everything."""
    who = _join(scene.characters)
    act = inflect(dice.pick(ACTION[scene.action].phrases), len(scene.characters) > 1)
    sky, where = dice.pick(WEATHER[scene.weather].opening), dice.pick(PLACE[scene.place].at)
    if dice.chance(0.7):
        return _sentence(sky, who, act, where)
    if sky.endswith("and"):
        return _sentence(f"{where},", _lower(sky), who, act)
    return _sentence(sky, f"{where},", who, act)


def _subject(dice: Dice, scene: Scene, before: Scene) -> tuple[str, str]:
    """(words that bring everyone of this frame on the stage, subject that then acts, "" if the same words act too)."""
    group, old = scene.characters, before.characters
    if scene.event == "same":
        return (_pronoun(group) if dice.chance(0.84) else _join(group)), ""
    if scene.event == "join":
        new = group[len(old) :]
        if dice.chance(0.5):
            meet = inflect("[meets|meet]", len(old) > 1)
            leader = _pronoun(old) if dice.chance(0.7) else _join(old)
            return f"{leader} {meet} {_join(new)}, and", "all three" if len(group) == 3 and dice.chance(0.5) else "they"
        if len(old) == 1 and dice.chance(0.6):
            return _join((_pronoun(old), *new)), ""
        return _join(group), ""
    if scene.event == "leave":
        return ("only " if dice.chance(0.4) else "") + _join(group), ""
    return _join(group), ""


def _link(dice: Dice, scene: Scene) -> str:
    """A word or two that ties this sentence to the one before."""
    if scene.event == "switch":
        return dice.pick(("Meanwhile,", "At the same time,"))
    if scene.event == "leave":
        return dice.pick(("Later,", "Then", "After that,"))
    links = dice.pick(_LINKS)
    return "Then" if links == "There," and scene.moved else links


def _follow(dice: Dice, scene: Scene, before: Scene) -> str:
    """A later sentence says who acts, what they do, and only such place and weather as are new (now and then an old place)."""
    plural = len(scene.characters) > 1
    stage, actor = _subject(dice, scene, before)
    act = inflect(dice.pick(ACTION[scene.action].phrases), plural)
    head = dice.pick(WEATHER[scene.weather].change) if scene.changed else _link(dice, scene)
    if scene.changed and scene.event == "switch":
        head = f"{head} now" if head.endswith("and") else head
    place = PLACE[scene.place]
    if not scene.moved:
        again = dice.chance(0.06) and head != "There,"
        return _sentence(head, stage, actor, act, dice.pick(place.at) if again else "")
    way = dice.fraction()
    if way < 0.5 and not actor and not act.startswith(("is ", "are ")):
        return _sentence(head, stage, inflect("[goes|go]", plural), dice.pick(place.to), "and", act)
    if way < 0.75 and not scene.changed:
        return _sentence(f"{dice.pick(place.at)},", stage, actor, act)
    return _sentence(head, stage, actor, act, dice.pick(place.at))


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def words(sentence: str) -> list[str]:
    """Words and punctuation marks, as a tokenizer of one token per word sees them."""
    return re.findall(r"[a-z]+|[.,]", sentence.lower())


def _tell(dice: Dice, scene: Scene, before: Scene | None) -> Frame:
    """One frame's sentence; a telling longer than 24 words and marks is told again."""
    while True:
        sentence = _open(dice, scene) if before is None else _follow(dice, scene, before)
        if len(words(sentence)) <= 24:
            break
    named = set(re.findall(r"[A-Za-z]+", sentence))
    place = PLACE[scene.place]
    return Frame(
        sentence,
        scene,
        names_characters=set(scene.characters) <= named,
        names_place=any(_lower(phrase) in _lower(sentence) for phrase in place.at + place.to),
    )


def plan_story(split: str, index: int, frames: int = FRAMES) -> Story:
    """Story `index` of `split` ("train", "validation", "test"): the same on every machine, different from all others.

    Told in another number of `frames` it keeps cast, first place and first actions, but is another story.
    """
    dice = Dice(f"cartoon stories/{split}/{index}")
    scenes = plan_scenes(split, index, dice, frames)
    told = tuple(_tell(dice, scene, before) for before, scene in zip((None, *scenes), scenes, strict=False))
    title = f"{_join(scenes[0].characters)} {PLACE[scenes[0].place].title}"
    return Story(f"{split}-{index:06d}", title, told)
