"""What the numbers of a dataset mean: the names behind characters, places, weathers and actions.

Names come from the dataset itself (feature metadata, or the user's `stories.json`), never from storyjax.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from storyjax.errors import StoryjaxError


@dataclasses.dataclass(frozen=True)
class Labels:
    """Names by number: `labels.characters[k]` is the character of column k of a multi-hot row. Empty: not labelled."""

    characters: tuple[str, ...] = ()
    place: tuple[str, ...] = ()
    weather: tuple[str, ...] = ()
    action: tuple[str, ...] = ()

    def tell(self, field: str) -> bool:
        """Whether a frame's field of truth means anything here: it is no label, or its names are known."""
        return bool(getattr(self, field.removeprefix("names_"), True))


def labels_from_features(features: Mapping[str, Any], metadata: Mapping[str, Any] | None, where: str) -> Labels:
    """Names of a TFDS dataset with these record features.

    Names are those of the frame's ClassLabel (also inside a Sequence). TFDS cannot write a list inside a list without
    TensorFlow, so characters may be plain integers padded with -1; their names are then those of the story's `cast`
    (a Sequence of ClassLabel), or of the metadata, `tfds.core.MetadataDict(characters=[...])`. Metadata with no names at all
    say that nothing is labelled so.
    """
    frame, names = features["frames"].feature, {}
    for name in (field.name for field in dataclasses.fields(Labels) if field.name in frame):
        elsewhere = features["cast"] if name == "characters" and "cast" in features else None
        found = _class_names(frame[name]) or _class_names(elsewhere) or (metadata or {}).get(name)
        if not found and name in (metadata or {}):
            continue
        if not found:
            raise StoryjaxError(
                f"{where}: '{name}' carries no names; store it as a ClassLabel with names, or write them into the "
                f"builder's metadata: tfds.core.MetadataDict({name}=[...])"
            )
        names[name] = tuple(found)
    return Labels(**names)


def _class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel or of a Sequence of them, None for any other feature."""
    return getattr(getattr(feature, "feature", feature), "names", None)


def labels_from_frames(frames: Iterable[Mapping[str, Any]]) -> Labels:
    """Names found in the frames of a user's `stories.json`, sorted, so that the same file gives the same numbers."""
    found: dict[str, set[str]] = {field.name: set() for field in dataclasses.fields(Labels)}
    for frame in frames:
        found["characters"].update(frame.get("characters") or ())
        for name in ("place", "weather", "action"):
            if frame.get(name) is not None:
                found[name].add(frame[name])
    return Labels(**{name: tuple(sorted(values)) for name, values in found.items()})
