"""The HTML page: complete in itself, the text exactly as written, never markup."""

import base64
import html.parser
import io

import numpy as np
from hypothesis import given, settings
from PIL import Image

from storyjax.story import Character, FirstPicture, Manifest, Story, render_page, story_from_sentences
from tests.story.drawn import cartoon_frames
from tests.story.strategies import stories

VOID = {"meta", "img", "link", "br"}


class _Reader(html.parser.HTMLParser):
    """Collects tags, attributes and the text in each tag; fails on tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader


def _manifest(story: Story, **changes: object) -> Manifest:
    values = dict(
        sentences=story.sentences, system="contextual_story", model="models/cartoon", model_sha256="0" * 64, seed=7, steps=30,
        sampler="ddim", guidance="text", guidance_scale=5.0, height=128, width=128, versions={"storyjax": "0.1.0"},
    )  # fmt: skip
    return Manifest(**{**values, **changes})  # type: ignore[arg-type]


def test_every_picture_is_inside_with_its_sentence_as_alternative_text() -> None:
    story = story_from_sentences(["Poppy runs.", "She sleeps."], title="Poppy")
    images = cartoon_frames(2, 128)
    page = _read(render_page(story, images))
    shown = [attrs for tag, attrs in page.tags if tag == "img"]
    assert [attrs["alt"] for attrs in shown] == list(story.sentences) == page.texts["figcaption"]
    for attrs, given_pixels in zip(shown, images, strict=True):
        kind, _, content = str(attrs["src"]).partition(";base64,")
        assert kind == "data:image/jpeg"
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        assert f"{picture.width}x{picture.height}" == f"{attrs['width']}x{attrs['height']}" == "640x640"
        small = np.asarray(picture.resize((128, 128), Image.Resampling.BOX)).astype(int)
        assert np.abs(small - given_pixels).mean() < 2.5


def test_large_pictures_keep_their_size() -> None:
    page = _read(render_page(story_from_sentences(["A."]), cartoon_frames(1, 700, 900)))
    assert next((attrs["width"], attrs["height"]) for tag, attrs in page.tags if tag == "img") == ("900", "700")


def test_the_page_needs_nothing_beside_it() -> None:
    page = render_page(story_from_sentences(["A."], title="T"), cartoon_frames(1, 32))
    reader = _read(page)
    for tag, attrs in reader.tags:
        assert tag not in ("script", "link", "iframe")
        assert str(attrs.get("src", "data:")).startswith("data:")
        assert "href" not in attrs
    assert page.count("url(") == page.count("url(data:font/ttf;base64,") == 2


def test_title_style_and_cast_are_shown_when_there_are_any() -> None:
    story = Story(("A.",), title="The Kite", style="flat colours", cast=(Character("Poppy", "a fox"), Character("Gus")))  # type: ignore[arg-type]
    page = _read(render_page(story, cartoon_frames(1, 32)))
    assert page.texts["title"] == page.texts["h1"] == ["The Kite"]
    assert page.texts["p"] == ["flat colours"]
    assert page.texts["b"] == ["Poppy", "Gus"]
    bare = _read(render_page(story_from_sentences(["A."]), cartoon_frames(1, 32)))
    assert "header" not in bare.texts
    assert "footer" not in bare.texts
    assert bare.texts["title"] == ["A."]


def test_the_foot_tells_how_the_pictures_were_made() -> None:
    story = story_from_sentences(["A."])
    first = FirstPicture("first_picture.png", "0", "photos/fox.jpg", "")
    page = _read(
        render_page(story, cartoon_frames(1, 32), _manifest(story, first_picture=first), "storyjax generate --again")
    )
    facts = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert facts == {
        "Model": "cartoon", "Seed": "7", "Steps": "30 (ddim)", "Guidance": "5 (text)", "First picture": "fox.jpg",
        "Size": "128 × 128", "Made with": "storyjax 0.1.0",
    }  # fmt: skip
    assert page.texts["code"] == ["storyjax generate --again"]
    both = _read(render_page(story, cartoon_frames(1, 32), _manifest(story, guidance="both", image_guidance_scale=2.5)))
    assert "5 and 2.5 (both)" in both.texts["dd"]


@settings(max_examples=40, deadline=None)
@given(story=stories)
def test_any_text_stays_text(story: Story) -> None:
    manifest = _manifest(story, negative_prompt=story.sentences[0])
    page = _read(render_page(story, cartoon_frames(len(story.frames), 4), manifest, story.sentences[-1]))
    assert page.texts["figcaption"] == list(story.sentences)
    assert page.texts["title"] == [story.title or story.sentences[0]]
    assert page.texts.get("h1", [""]) == [story.title]
    assert page.texts.get("b", []) == [character.name for character in story.cast]
    assert page.texts["code"] == [story.sentences[-1]]
    known = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "h1",
        "p",
        "ul",
        "li",
        "b",
        "main",
        "figure",
        "img",
    }
    assert {tag for tag, _ in page.tags} <= known | {"figcaption", "footer", "dl", "div", "dt", "dd", "code"}
