"""How folders of generated pictures are laid out: ours, and those that the released scripts write.

    storyjax            DIR/00012/0.png ...                         written by `storyjax evaluate MODEL` (or DIR/pictures/00012/...)
    storyboards         DIR/NAME/manifest.json, frames/000.png      written by `storyjax generate`; found by their sentences
    cp_csv              DIR/12/0.png ... (or DIR/generate/12/...)   CP-CSV's Evaluation/<name>
    contextual_story    DIR/<clip's id>.png (or DIR/gen_img/...)    ContextualStory's gen_img: one picture a clip
    storygen            DIR/<name of the real frame>.jpg            StoryGen's outputs beside Testset_GT_resize

A layout finds files and says by what it knows them: number of story and frame, name of the picture, or the sentences.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from storyjax.config import nearest
from storyjax.errors import StoryjaxError

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Found:
    """What lies in a folder; one of the three is filled.

    numbered: story -> frame -> file. named: name of the picture, without its ending -> file. told: (manifest, sentences, files).
    """

    numbered: Mapping[int, Mapping[int, Path]] = dataclasses.field(default_factory=dict)
    named: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    told: tuple[tuple[Path, tuple[str, ...], tuple[Path, ...]], ...] = ()
    root: Path | None = None  # the folder that the numbered ones lie in

    def files(self) -> list[Path]:
        """All pictures, in the order of their names."""
        numbered = [path for frames in self.numbered.values() for path in frames.values()]
        return sorted([*numbered, *self.named.values(), *(path for _, _, files in self.told for path in files)])


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way to lay out generated pictures; `last_wins`: one file stands for a clip that belongs to several stories."""

    name: str
    find: Callable[[Path], Found]
    last_wins: bool = False


def _numbered(folder: Path, story: re.Pattern[str]) -> Found:
    stories: dict[int, dict[int, Path]] = {}
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir() or not story.fullmatch(entry.name):
            continue
        frames: dict[int, Path] = {}
        for path in _pictures(entry.iterdir()):
            if not path.stem.isdigit():
                raise StoryjaxError(f"'{path}': expected the number of a frame as its name, such as 0.png")
            if int(path.stem) in frames:
                raise StoryjaxError(
                    f"'{path}' and '{frames[int(path.stem)]}' are both frame {int(path.stem)}; remove one"
                )
            frames[int(path.stem)] = path
        stories[int(entry.name)] = frames
    return Found(numbered=stories, root=folder)


def _below(folder: Path, *names: str) -> Path:
    """The folder, or the one in it that holds the pictures."""
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def _named(folder: Path, whole: bool) -> Found:
    """whole: the name from the folder on, else its last part."""
    named: dict[str, Path] = {}
    for path in _pictures(folder.rglob("*")):
        name = path.relative_to(folder).with_suffix("").as_posix() if whole else path.stem
        if name in named:
            raise StoryjaxError(f"'{path}' and '{named[name]}' are both called '{name}'; remove one")
        named[name] = path
    return Found(named=named)


def _storyboards(folder: Path) -> Found:
    manifests = [folder / MANIFEST] if (folder / MANIFEST).is_file() else sorted(folder.glob(f"*/{MANIFEST}"))
    return Found(told=tuple(_storyboard(path) for path in manifests))


def _storyboard(manifest: Path) -> tuple[Path, tuple[str, ...], tuple[Path, ...]]:
    try:
        sentences = tuple(map(str, json.loads(manifest.read_text(encoding="utf-8"))["sentences"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoryjaxError(f"'{manifest}' is no manifest of a storyboard ({error!r}); draw the story again") from None
    files = tuple(manifest.parent / "frames" / f"{number:03d}.png" for number in range(len(sentences)))
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise StoryjaxError(f"'{missing[0]}' is missing: '{manifest}' tells {len(files)} frames; draw the story again")
    return manifest, sentences, files


def _pictures(paths: object) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in PICTURES and not path.name.startswith("."))  # type: ignore[attr-defined]


FIVE_DIGITS, PLAIN = re.compile(r"\d{5,}"), re.compile(r"0|[1-9]\d*")
LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("storyjax", lambda folder: _numbered(_below(folder, "pictures"), FIVE_DIGITS)),
        Layout("storyboards", _storyboards),
        Layout("cp_csv", lambda folder: _numbered(_below(folder, "generate"), PLAIN)),
        Layout("contextual_story", lambda folder: _named(_below(folder, "gen_img"), whole=True), last_wins=True),
        Layout("storygen", lambda folder: _named(folder, whole=False)),
    )
}


def layout_of(folder: Path, name: str | None = None) -> Layout:
    """The layout of that name, or the one that the folder has.

    Errors: no folder there, no layout of that name, nothing in the folder that tells.
    """
    if not folder.is_dir():
        raise StoryjaxError(f"there is no folder of pictures at '{folder}'; check the name")
    if name is not None:
        if name not in LAYOUTS:
            raise StoryjaxError(f"there is no layout '{name}'{nearest(name, list(LAYOUTS))}")
        return LAYOUTS[name]
    if (folder / MANIFEST).is_file() or next(folder.glob(f"*/{MANIFEST}"), None):
        return LAYOUTS["storyboards"]
    inside = _below(folder, "pictures", "generate")
    names = [entry.name for entry in inside.iterdir() if entry.is_dir()]
    if any(FIVE_DIGITS.fullmatch(each) for each in names):
        return LAYOUTS["storyjax"]
    if any(PLAIN.fullmatch(each) for each in names):
        return LAYOUTS["cp_csv"]
    if (folder / "gen_img").is_dir():
        return LAYOUTS["contextual_story"]
    if _pictures(folder.iterdir()):
        return LAYOUTS["storygen"]
    raise StoryjaxError(
        f"'{folder}' has none of the layouts of generated pictures that are known here ({', '.join(LAYOUTS)}); expected such as "
        f"'{folder / '00000' / '0.png'}', story by story"
    )
