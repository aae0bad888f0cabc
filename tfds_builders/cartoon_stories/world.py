"""The world as data: who lives in it, where, in which weather, what they do, and how a sentence may say so.

Phrases hold `[singular|plural]` alternatives, chosen by the number of characters in the frame. A label's order is its class
number in the data set, so entries are only ever added at the end.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Character:
    """Someone with a fixed look; `species` picks the drawing, `pronoun` is "she" or "he"."""

    name: str
    species: str
    pronoun: str


@dataclasses.dataclass(frozen=True)
class Place:
    """Somewhere to be: `at` says being there, `to` says going there."""

    name: str
    at: tuple[str, ...]
    to: tuple[str, ...]
    title: str


@dataclasses.dataclass(frozen=True)
class Weather:
    """Sky of a frame: `opening` starts a story, `change` tells that it became so."""

    name: str
    opening: tuple[str, ...]
    change: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Action:
    """Something that can be seen: `phrases` are predicates with `[singular|plural]` alternatives."""

    name: str
    phrases: tuple[str, ...]


CHARACTERS = (
    Character("Poppy", "fox", "she"),
    Character("Bruno", "bear", "he"),
    Character("Luna", "rabbit", "she"),
    Character("Pip", "penguin", "he"),
    Character("Mina", "cat", "she"),
    Character("Finn", "frog", "he"),
    Character("Daisy", "duck", "she"),
    Character("Gus", "elephant", "he"),
)

PLACES = (
    Place(
        "meadow",
        ("in the meadow", "among the flowers in the meadow", "on the green meadow"),
        ("to the meadow", "back to the flowers in the meadow"),
        "in the Meadow",
    ),
    Place(
        "beach",
        ("at the beach", "by the sea", "on the sandy beach"),
        ("to the beach", "down to the sea"),
        "at the Beach",
    ),
    Place(
        "forest",
        ("in the forest", "under the tall trees of the forest", "deep in the woods"),
        ("to the forest", "into the woods"),
        "in the Forest",
    ),
    Place(
        "town",
        ("in town", "in front of the colorful houses in town", "on the street in town"),
        ("to town", "into town"),
        "in Town",
    ),
    Place(
        "desert",
        ("in the desert", "next to a cactus in the desert", "in the hot desert"),
        ("to the desert", "out into the desert"),
        "in the Desert",
    ),
    Place(
        "mountains",
        ("in the mountains", "high up in the mountains", "below the high peaks"),
        ("to the mountains", "up into the mountains"),
        "in the Mountains",
    ),
    Place(
        "farm",
        ("on the farm", "next to the red barn", "near the barn on the farm"),
        ("to the farm", "over to the red barn"),
        "on the Farm",
    ),
    Place(
        "castle",
        ("at the castle", "in front of the castle", "below the castle towers"),
        ("to the castle", "over to the old castle"),
        "at the Castle",
    ),
)

WEATHERS = (
    Weather(
        "sunny",
        ("On a sunny day,", "On a bright morning,", "The sun is shining, and", "It is a warm sunny day, and"),
        ("The sun comes out, and", "The sky turns blue and sunny, and"),
    ),
    Weather(
        "night",
        ("One night,", "Late at night,", "The moon is shining, and", "Under the stars,"),
        ("Night falls, and", "The moon and the stars come out, and", "When it is dark,"),
    ),
    Weather(
        "rain",
        ("On a rainy day,", "It is raining, and", "In the pouring rain,"),
        ("It starts to rain, and", "Rain comes down, and", "Dark clouds bring rain, and"),
    ),
    Weather(
        "snow",
        ("On a snowy day,", "Snow is falling, and", "On a cold winter day,"),
        ("It starts to snow, and", "Soft snow begins to fall, and"),
    ),
    Weather(
        "sunset",
        ("At sunset,", "One golden evening,", "The sun is setting, and"),
        ("The sun sets, and", "Evening paints the sky orange, and", "When the golden evening comes,"),
    ),
)

ACTIONS = (
    Action(
        "fly_kite",
        (
            "[flies|fly] a big red kite",
            "[lets|let] a red kite climb into the sky",
            "[runs|run] with a kite on a long string",
            "[is|are] flying a kite",
        ),
    ),
    Action(
        "read_book",
        (
            "[reads a big blue book|read big blue books]",
            "[looks|look] at the pictures in [a book|their books]",
            "[opens a book and reads|open their books and read]",
            "[is|are] reading a story",
        ),
    ),
    Action(
        "eat_cake",
        (
            "[eats|eat] a big pink cake",
            "[sits|sit] at a table with a cake",
            "[has|have] a party with a tall cake",
            "[is|are] eating cake",
        ),
    ),
    Action(
        "sleep",
        (
            "[sleeps|sleep] in a big bed",
            "[goes|go] to bed and [dreams|dream]",
            "[takes|take] a long nap",
            "[is|are] sleeping under a warm blanket",
        ),
    ),
    Action(
        "play_guitar",
        (
            "[plays the guitar|play their guitars]",
            "[makes|make] music on [a guitar|guitars]",
            "[sings a song with a guitar|sing a song with guitars]",
            "[is|are] playing the guitar",
        ),
    ),
    Action(
        "drive_car",
        (
            "[drives|drive] a little red car",
            "[rides|ride] around in a car",
            "[jumps|jump] into the red car and [drives|drive]",
            "[is|are] driving a car",
        ),
    ),
    Action(
        "splash_pool",
        (
            "[splashes|splash] in a round pool",
            "[swims|swim] in a little blue pool",
            "[jumps|jump] into the pool",
            "[is|are] splashing in the water of a pool",
        ),
    ),
    Action(
        "hold_balloons",
        (
            "[holds|hold] colorful balloons",
            "[plays|play] with bright balloons",
            "[carries|carry] a bunch of balloons",
            "[is|are] holding balloons on strings",
        ),
    ),
    Action(
        "dance",
        (
            "[dances|dance] to happy music",
            "[hops and spins|hop and spin] on the dance floor",
            "[throws|throw] both arms up and [dances|dance]",
            "[is|are] dancing",
        ),
    ),
    Action(
        "paint",
        (
            "[paints|paint] a picture",
            "[takes a brush|take brushes] and [paints|paint]",
            "[puts|put] bright colors on a canvas",
            "[is|are] painting a rainbow",
        ),
    ),
)

LABELS: dict[str, tuple[str, ...]] = {
    "characters": tuple(character.name for character in CHARACTERS),
    "place": tuple(place.name for place in PLACES),
    "weather": tuple(weather.name for weather in WEATHERS),
    "action": tuple(action.name for action in ACTIONS),
}

CHARACTER = {character.name: character for character in CHARACTERS}
PLACE = {place.name: place for place in PLACES}
WEATHER = {weather.name: weather for weather in WEATHERS}
ACTION = {action.name: action for action in ACTIONS}
