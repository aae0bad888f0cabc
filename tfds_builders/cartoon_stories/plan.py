"""What happens in a story: who is there, where, in which weather, doing what, frame by frame, before any word is chosen.

First character, first place and the order of the five actions are read off one number that is never used twice, so all
stories of all splits differ, and any story can be made alone, without planning the others.
"""

import dataclasses
import math

from tfds_builders.cartoon_stories.world import LABELS
from tfds_builders.chance import Dice, scatter

FRAMES = 5  # of a story of the data set; longer and shorter ones can be planned too
MOVES = 2  # most changes of place in so many frames
VARIANTS = 3  # arrangements of a place; kept for a whole story
SHIFTS = (-1, 0, 1)  # the group stands a little left, in the middle, a little right; kept for a whole story

_STARTS = len(LABELS["characters"]) * len(LABELS["place"])
_ORDERS = math.perm(len(LABELS["action"]), FRAMES)
STORIES = _STARTS * _ORDERS
# Disjoint ranges of story numbers: a story can be in one split only, however large a split is asked for.
SPLIT_RANGE = {
    "train": range(0, 1_500_000),
    "validation": range(1_500_000, 1_700_000),
    "test": range(1_700_000, 1_900_000),
}
# What the sky may turn into; a sunset is followed by nothing but the night.
_AFTER = {
    "sunny": ("sunset", "rain", "snow", "night"),
    "sunset": ("night",),
    "night": ("sunny", "rain", "snow"),
    "rain": ("sunny", "sunset", "night", "snow"),
    "snow": ("sunny", "sunset", "night", "rain"),
}


@dataclasses.dataclass(frozen=True)
class Scene:
    """The truth of one frame and how it came out of the one before.

    `event` is "open", "same", "join", "leave" or "switch"; `moved` and `changed` say that place or weather is new.
    `variant` and `shift` fix what no sentence says (they are the same in all frames of a story).
    """

    characters: tuple[str, ...]
    place: str
    weather: str
    action: str
    event: str
    moved: bool
    changed: bool
    variant: int
    shift: int


def story_number(split: str, index: int) -> int:
    """The story's own number below `STORIES`, used by no other (split, index)."""
    if split not in SPLIT_RANGE:
        raise ValueError(f"split must be one of {', '.join(SPLIT_RANGE)}, got {split!r}; choose one of these")
    if not 0 <= index < len(SPLIT_RANGE[split]):
        raise ValueError(
            f"{split} has stories 0 to {len(SPLIT_RANGE[split]) - 1}, got index {index}; choose one in that range"
        )
    return scatter(SPLIT_RANGE[split][index], STORIES, "cartoon stories")


def unrank(number: int) -> tuple[str, str, tuple[str, ...]]:
    """Story number -> (first character, first place, five different actions)."""
    number, who = divmod(number, len(LABELS["characters"]))
    number, where = divmod(number, len(LABELS["place"]))
    left, order = list(LABELS["action"]), []
    for _ in range(FRAMES):
        number, which = divmod(number, len(left))
        order.append(left.pop(which))
    return LABELS["characters"][who], LABELS["place"][where], tuple(order)


def actions_of(dice: Dice, opening: tuple[str, ...], frames: int) -> tuple[str, ...]:
    """One action a frame: those of `opening` first, then chosen ones; any five in a row are different."""
    actions = list(opening[:frames])
    while len(actions) < frames:
        recent = actions[1 - FRAMES :]
        actions.append(dice.pick([name for name in LABELS["action"] if name not in recent]))
    return tuple(actions)


def _next_group(dice: Dice, group: tuple[str, ...], cast: list[str]) -> tuple[str, tuple[str, ...]]:
    """(event, characters) of the next frame; those who stay keep their order, newcomers stand after them."""
    absent = [name for name in cast if name not in group]
    events = {
        "same": 0.66,
        "join": 0.20 / len(group) ** 1.5 if absent else 0.0,
        "leave": 0.15 if len(group) > 1 else 0.0,
    }
    events["switch"] = 0.10 if absent else 0.0
    event = dice.pick(tuple(events), tuple(events.values()))
    if event == "join":
        return event, group + tuple(
            dice.sample(absent, 2 if len(absent) > 1 and len(group) == 1 and dice.chance(0.1) else 1)
        )
    if event == "leave":
        stay = dice.sample(group, dice.pick(range(1, len(group))))
        return event, tuple(name for name in group if name in stay)
    if event == "switch":
        return event, tuple(dice.sample(absent, 2 if len(absent) > 1 and dice.chance(0.2) else 1))
    return event, group


def _next_weather(dice: Dice, weather: str, action: str, last: bool) -> str:
    """Weather changes rarely, but a bed likes the night and a story likes to end with one."""
    if weather != "night" and action == "sleep" and dice.chance(0.6 if last else 0.3):
        return "night"
    if dice.chance(0.09):
        return dice.pick(_AFTER[weather])
    return weather


def plan_scenes(split: str, index: int, dice: Dice, frames: int = FRAMES) -> tuple[Scene, ...]:
    """The scenes of story `index` of `split`. Stories of fewer than five frames may be told twice."""
    if frames < 1:
        raise ValueError(f"a story needs at least 1 frame, got {frames}; ask for more")
    first, place, opening = unrank(story_number(split, index))
    actions = actions_of(dice, opening, frames)
    others = dice.sample([name for name in LABELS["characters"] if name != first], 2)
    cast = [first, *others]
    group = tuple(cast[: dice.pick((1, 2, 3), (0.64, 0.30, 0.06))])
    weather = dice.pick(LABELS["weather"], (0.34, 0.14, 0.18, 0.18, 0.16))
    variant, shift = dice.pick(range(VARIANTS)), dice.pick(SHIFTS)
    scenes, moves = [], 0
    for number, action in enumerate(actions):
        event, moved, changed = "open", True, True
        if number:
            event, group = _next_group(dice, group, cast)
            moved = moves < max(MOVES, MOVES * frames // FRAMES) and dice.chance(0.2)
            if moved:
                moves += 1
                place = dice.pick([name for name in LABELS["place"] if name != place])
            new_weather = _next_weather(dice, weather, action, number == frames - 1)
            changed, weather = new_weather != weather, new_weather
        scenes.append(Scene(group, place, weather, action, event, moved, changed, variant, shift))
    return tuple(scenes)
