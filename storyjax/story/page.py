"""The story as one HTML page that needs nothing beside it: pictures and type lie inside the file."""

import base64
import dataclasses
import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from storyjax.story import lettering, paper
from storyjax.story.manifest import Manifest
from storyjax.story.story import Story

if TYPE_CHECKING:
    import jinja2

WIDTH = 640  # pictures are brought to at least this width: browsers enlarge small ones less well
LONG_WIDTH = 320  # in a story of more than `LONG` frames: the page would grow to a hundred megabytes
LONG = 50


@dataclasses.dataclass(frozen=True)
class _Figure:
    number: int
    sentence: str
    data: str  # a data URI
    width: int
    height: int


def render_page(
    story: Story, images: np.ndarray | Sequence[np.ndarray], manifest: Manifest | None = None, again: str = ""
) -> str:
    """The page's HTML. images: (F,H,W,3) uint8.

    With a manifest its foot tells how the pictures were made, and `again` is the command that makes them once more.
    """
    frames = paper.as_frames(images, len(story.frames))
    width = WIDTH if len(frames) <= LONG else LONG_WIDTH
    figures = [_figure(number, *told, width) for number, told in enumerate(zip(frames, story.sentences), 1)]
    fonts = {name: _font(name) for name in ("text", "title")}
    return _template().render(story=story, figures=figures, facts=_facts(manifest), again=again, fonts=fonts)


def _figure(number: int, pixels: np.ndarray, sentence: str, width: int) -> _Figure:
    picture = paper.at_width(pixels, max(width, pixels.shape[1]))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=92, subsampling=0)
    return _Figure(number, sentence, _data_uri("image/jpeg", file.getvalue()), *picture.size)


def _facts(manifest: Manifest | None) -> list[tuple[str, str]]:
    """What the foot of the page says, in its order."""
    if manifest is None:
        return []
    first, of_picture = manifest.first_picture, manifest.image_guidance_scale
    guidance = f"{manifest.guidance_scale:g}" + ("" if of_picture is None else f" and {of_picture:g}")
    facts = [
        ("Model", Path(manifest.model).name or manifest.model),
        ("Seed", str(manifest.seed)),
        ("Steps", f"{manifest.steps} ({manifest.sampler})"),
        ("Guidance", f"{guidance} ({manifest.guidance})"),
        ("Not wanted", manifest.negative_prompt),
        ("First picture", "" if first is None else Path(first.source or first.file).name),
        ("Size", f"{manifest.width} × {manifest.height}"),
        ("Made with", " ".join(("storyjax", manifest.versions.get("storyjax", "")))),
    ]
    return [(name, value) for name, value in facts if value]


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@functools.lru_cache(maxsize=4)
def _font(face: str) -> str:
    return _data_uri("font/ttf", (Path(lettering.__file__).parent / "fonts" / lettering.FACES[face]).read_bytes())


@functools.lru_cache(maxsize=1)
def _template() -> "jinja2.Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")
