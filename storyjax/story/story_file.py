"""Story files: JSON or YAML, written by hand, read with errors that name the line."""

import json
import os
from pathlib import Path
from typing import Any

import yaml

from storyjax.errors import StoryjaxError
from storyjax.story.files import write_whole
from storyjax.story.story import Frame, Story, story_from_mapping, story_to_mapping

MOST_BYTES = 1 << 20  # a megabyte of sentences is a mistake: a picture or a data set under a story's name


def load_story(path: str | Path) -> Story:
    """Read a story file ending in .json, .yaml or .yml; a first picture is looked for beside the file.

    Errors: no such file, another ending, not text, a syntax error (with its line), a field given twice, and all errors of
    `Story`; each begins with the file's name.
    """
    path = Path(path)
    try:
        parse = {".json": _from_json, ".yaml": _from_yaml, ".yml": _from_yaml}.get(path.suffix.lower())
        if parse is None:
            raise StoryjaxError("a story file ends in .json, .yaml or .yml; rename or rewrite it")
        story = story_from_mapping(parse(_read_text(path)))
    except RecursionError:
        raise StoryjaxError(f"{path}: lists or fields lie too deep inside each other; see docs/stories.md") from None
    except StoryjaxError as error:
        raise StoryjaxError(f"{path}: {error}") from None
    if story.first_picture is None:
        return story
    picture = path.parent / story.first_picture
    if not picture.is_file():
        raise StoryjaxError(
            f"{path}: frame 1: there is no picture at '{picture}'; paths are taken from the story file's folder"
        )
    return with_first_picture(story, str(picture))


def save_story(story: Story, path: str | Path, overwrite: bool = False) -> Path:
    """Write `story` as JSON or YAML, by the ending of `path`; what `load_story` reads back equals `story`.

    The path of a first picture is written relative to the file when the picture lies in the file's folder.
    """
    path = Path(path)
    if path.suffix.lower() not in (".json", ".yaml", ".yml"):
        raise StoryjaxError(f"{path}: a story file ends in .json, .yaml or .yml; choose one of these")
    if path.exists() and not overwrite:
        raise StoryjaxError(f"{path} exists already; choose another name or allow overwriting it")
    if story.first_picture is not None:
        story = with_first_picture(story, _relative(story.first_picture, path.parent))
    mapping = story_to_mapping(story)
    if path.suffix.lower() == ".json":
        text = json.dumps(mapping, indent=2, ensure_ascii=False) + "\n"
    else:
        text = yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True, width=100)
    write_whole(path, text.encode())
    return path


def with_first_picture(story: Story, picture: str | None) -> Story:
    """The same story continued from another picture, or from none."""
    first = Frame(story.frames[0].sentence, picture)
    return Story((first, *story.frames[1:]), story.title, story.style, story.cast)


def _relative(picture: str, folder: Path) -> str:
    inside = os.path.relpath(os.path.abspath(picture), os.path.abspath(folder))
    return os.path.abspath(picture) if inside.startswith(os.pardir) else Path(inside).as_posix()


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise StoryjaxError(
                f"the file has {path.stat().st_size:,} bytes, a story file at most {MOST_BYTES:,}; is it a story?"
            )
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise StoryjaxError("there is no such story file; check the name") from None
    except UnicodeDecodeError as error:
        raise StoryjaxError(f"the file is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise StoryjaxError(f"the story file cannot be read: {error.strerror}") from None


def _from_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique_pairs)
    except json.JSONDecodeError as error:
        raise StoryjaxError(f"line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}") from None


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON itself would silently keep the last of two equal fields."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise StoryjaxError(f"the field '{twice}' is given twice; keep one")
    return mapping


class _StoryLoader(yaml.SafeLoader):
    """YAML in which every plain value is text as written (`1984`, `yes`, `2024-05-01`), apart from an empty one or null."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the library's own class attribute)
        first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """As the base class, but a field given twice is an error, not a silent replacement."""
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise StoryjaxError(f"line {key.start_mark.line + 1}: the field '{key.value}' is given twice; keep one")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _from_yaml(text: str) -> Any:
    try:
        return yaml.load(text, _StoryLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = error.problem or error.context or "syntax error"
        hint = "; a text that holds ': ' must stand in quotes" if "mapping values" in problem else ""
        raise StoryjaxError(f"{place}not valid YAML: {problem}{hint}") from None
    except yaml.YAMLError as error:
        raise StoryjaxError(f"not valid YAML: {' '.join(str(error).split())}") from None
