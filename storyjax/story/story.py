"""A story as a person writes it: a title, a style, a cast, and one sentence for every frame.

Frame f of a story of F frames is drawn from sentence f and, through the model, from all the other sentences. The first frame
may carry a picture: then the story is continued from it (story continuation).
"""

import dataclasses
import unicodedata
from collections.abc import Sequence
from typing import Any

from storyjax.errors import StoryjaxError


@dataclasses.dataclass(frozen=True)
class Character:
    """Someone in the story: the name the sentences use, and what they look like in words."""

    name: str
    description: str = ""


@dataclasses.dataclass(frozen=True)
class Frame:
    """One sentence. `image` is the path of a given picture, allowed in the first frame only."""

    sentence: str
    image: str | None = None


@dataclasses.dataclass(frozen=True)
class Story:
    """Frames in their order, checked when built; a bare string among the frames or the cast stands for its sentence or name.

    Runs of white space in any text count as one space, so a sentence may go over several lines of a file.

    Errors (StoryjaxError): no frames, a frame without a sentence, a picture after the first frame, two characters of one
    name, a text that is no text or holds control characters. All name the frame, counted from 1.
    """

    frames: tuple[Frame, ...]
    title: str = ""
    style: str = ""
    cast: tuple[Character, ...] = ()

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "frames", tuple(_frame(i, f) for i, f in enumerate(_sequence("frames", self.frames), 1)))
        set_field(self, "title", _text("'title'", self.title))
        set_field(self, "style", _text("'style'", self.style))
        set_field(self, "cast", tuple(_character(i, c) for i, c in enumerate(_sequence("cast", self.cast), 1)))
        if not self.frames:
            raise StoryjaxError("the story has no frames; write at least one sentence under 'frames'")
        seen: set[str] = set()
        for character in self.cast:
            if character.name.casefold() in seen:
                raise StoryjaxError(
                    f"the cast names '{character.name}' twice; every character needs a name of their own"
                )
            seen.add(character.name.casefold())

    @property
    def sentences(self) -> tuple[str, ...]:
        """The F sentences."""
        return tuple(frame.sentence for frame in self.frames)

    @property
    def first_picture(self) -> str | None:
        """Path of the given first picture, or None when all frames are to be drawn."""
        return self.frames[0].image


def story_from_sentences(
    sentences: Sequence[str], title: str = "", style: str = "", first_picture: str | None = None
) -> Story:
    """The story of these sentences, one a frame; `first_picture` is the path of the picture to continue from."""
    frames = _sequence("sentences", sentences)
    if first_picture is not None and frames:
        frames = (Frame(frames[0], str(first_picture)), *frames[1:])
    return Story(frames=frames, title=title, style=style)


def story_from_mapping(mapping: Any) -> Story:
    """A story from what a JSON or YAML file holds: `{"title", "style", "cast", "frames"}`, all but `frames` optional.

    A frame is a string or `{"sentence", "image"?}`; the cast is a list of names or `{"name", "description"?}`, or one mapping
    from name to description. An unknown field is an error that names the nearest one.
    """
    if not isinstance(mapping, dict):
        raise StoryjaxError(f"expected the fields 'title' and 'frames', got {_kind(mapping)}; see docs/stories.md")
    _known_fields("the story", mapping, Story)
    if "frames" not in mapping:
        raise StoryjaxError("the story has no frames; write at least one sentence under 'frames'")
    cast = mapping.get("cast") or ()
    if isinstance(cast, dict):
        cast = [{"name": name, "description": description} for name, description in cast.items()]
    frames = mapping["frames"]
    return Story(
        frames=() if frames is None else frames,  # type: ignore[arg-type]  # Story turns mappings into Frames
        title=_default(mapping.get("title")),
        style=_default(mapping.get("style")),
        cast=cast,  # type: ignore[arg-type]
    )


def story_to_mapping(story: Story) -> dict[str, Any]:
    """The shortest mapping that `story_from_mapping` reads back as `story`."""
    mapping: dict[str, Any] = {name: getattr(story, name) for name in ("title", "style") if getattr(story, name)}
    if story.cast:
        mapping["cast"] = [_without_empty(dataclasses.asdict(character)) for character in story.cast]
    mapping["frames"] = [frame.sentence if frame.image is None else dataclasses.asdict(frame) for frame in story.frames]
    return mapping


def check_length(story: Story, most: int, least: int | None = None) -> None:
    """Raise unless the story has `least` to `most` frames (`least` is `most` when not given: exactly that many)."""
    least, count = most if least is None else least, len(story.frames)
    if least <= count <= most:
        return
    able = f"exactly {most}" if least == most else f"{least} to {most}"
    excess = count - most if count > most else least - count
    advice = f"leave out or join {_sentences(excess)}" if count > most else f"add {_sentences(excess)}"
    raise StoryjaxError(f"the story has {count} frame{'s' * (count != 1)}, this model draws {able}; {advice}")


def _frame(number: int, value: Any) -> Frame:
    where = f"frame {number}"
    if isinstance(value, dict):
        _known_fields(where, value, Frame, hint="; a sentence that holds ': ' must stand in quotes")
        value = Frame(_default(value.get("sentence")), value.get("image"))
    if not isinstance(value, Frame):
        value = Frame(_default(value))
    if not isinstance(value.sentence, str):
        raise StoryjaxError(f"{where}: expected a sentence, got {_kind(value.sentence)}; write the sentence in quotes")
    sentence = _text(where, value.sentence)
    if not sentence:
        raise StoryjaxError(f"{where} has no sentence; every frame needs one, also a frame with a picture")
    if value.image is None:
        return Frame(sentence)
    if not isinstance(value.image, str) or not value.image.strip():
        raise StoryjaxError(f"{where}: 'image' must be the path of a picture, got {_kind(value.image)}")
    if number > 1:
        raise StoryjaxError(
            f"{where} has an 'image'; only the first frame may have one, the story is continued from it"
        )
    return Frame(sentence, value.image)


def _character(number: int, value: Any) -> Character:
    where = f"cast entry {number}"
    if isinstance(value, dict):
        _known_fields(where, value, Character, hint="; write 'name: ...' and 'description: ...'")
        value = Character(_default(value.get("name")), _default(value.get("description")))
    if not isinstance(value, Character):
        value = Character(_default(value))
    name = _text(f"{where}: 'name'", value.name)
    if not name:
        raise StoryjaxError(f"{where} has no name; every character needs one")
    return Character(name, _text(f"{where}: 'description'", value.description))


def _text(where: str, value: Any) -> str:
    """`value` with runs of white space made one space; anything that is no printable text is an error."""
    if not isinstance(value, str):
        raise StoryjaxError(f"{where} must be text, got {_kind(value)}; put it in quotes")
    value = " ".join(value.split())
    for character in value:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise StoryjaxError(f"{where} holds the control character U+{ord(character):04X}; take it out")
    return value


def _sequence(name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise StoryjaxError(f"'{name}' must be a list, got {_kind(value)}; in YAML put '- ' before each entry")
    return tuple(value)


def _known_fields(where: str, mapping: dict[Any, Any], cls: type, hint: str = "") -> None:
    names = [field.name for field in dataclasses.fields(cls)]
    for name in mapping:
        if name not in names:
            from storyjax.config import nearest  # here, because it brings the command-line library along

            raise StoryjaxError(f"{where} has no field '{_short(name)}'{nearest(str(name), names)}{hint}")


def _kind(value: Any) -> str:
    """A value in the words of a person who writes files."""
    if value is None:
        return "nothing"
    if isinstance(value, bool | int | float):
        return f"the {'truth value' if isinstance(value, bool) else 'number'} {str(value).lower()}"
    names = {str: "text", dict: "a mapping of fields", list: "a list", tuple: "a list"}
    return f"{names.get(type(value), type(value).__name__)}{f' {_short(value)!r}' if isinstance(value, str) else ''}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _default(value: Any) -> Any:
    return "" if value is None else value


def _without_empty(mapping: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in mapping.items() if value}


def _sentences(count: int) -> str:
    return f"{count} sentence{'s' * (count != 1)}"
