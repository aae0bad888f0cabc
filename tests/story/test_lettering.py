"""Text in pictures: nothing is cut off or lost, and scripts the shipped faces lack find another font or the nearest one."""

import pytest
from hypothesis import given, settings
from PIL import Image, ImageFont

from storyjax.story import lettering
from storyjax.story.lettering import break_lines, font_for, set_text
from tests.story.strategies import texts


@pytest.mark.parametrize("face", ["text", "title", "comic"])
def test_the_shipped_faces_hold_accents_dashes_and_quotes(face: str) -> None:
    font = font_for("Zoé’s “größte” Façade — naïve… 1234", face, 30)
    assert str(font.path).endswith(lettering.FACES[face])


def test_comic_lettering_falls_back_to_the_text_face_for_greek_and_cyrillic() -> None:
    assert str(font_for("Дом και ήλιος", "comic", 30).path).endswith(lettering.FACES["text"])


def test_characters_of_no_shipped_face_are_sought_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_own = ImageFont.load_default(16)
    asked: list[str] = []

    def fonts_here() -> tuple[str, ...]:
        asked.append("yes")
        return ("other.ttf",)

    monkeypatch.setattr(lettering, "_system_fonts", fonts_here)
    monkeypatch.setattr(lettering, "_holds", lambda path, character: path == "other.ttf" or character < "\u3000")
    monkeypatch.setattr(lettering.ImageFont, "truetype", lambda path, size: (path, size))
    lettering._path_for.cache_clear()
    assert font_for("狐狸 runs", "text", 20) == ("other.ttf", 20)
    assert asked
    lettering._path_for.cache_clear()
    assert pillow_own.getlength("fox") > 0


def test_a_machine_without_further_fonts_still_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_system_fonts", lambda: ())
    lettering._path_for.cache_clear()
    with pytest.warns(UserWarning, match="no font on this machine holds all of '狐狸🦊'; they are drawn as boxes"):
        assert str(font_for("狐狸 🦊", "text", 20).path).endswith(lettering.FACES["text"])
    lettering._path_for.cache_clear()


def test_fonts_of_the_machine_are_scalable_and_upright_ones_come_first() -> None:
    found = lettering._system_fonts()
    assert list(found) == list(dict.fromkeys(found))
    for path in found[:3]:
        assert ImageFont.truetype(path, 20).getlength("fox") > 0


@pytest.mark.filterwarnings("ignore:no font on this machine")
@settings(max_examples=100, deadline=None)
@given(text=texts)
def test_no_line_is_wider_than_its_column_and_no_character_is_lost(text: str) -> None:
    font = font_for(text, "text", 40)
    lines = break_lines(text, font, 300)
    assert "".join("".join(lines).split()) == "".join(text.split())
    for line in lines:
        assert (
            len(line) == 1 or font.getlength(line) <= 300 or len(line) < 6
        )  # a wide ligature may be wider than a column


def test_lines_are_made_even_without_taking_more_of_them() -> None:
    text = "Under the stars, Luna reads a big blue book in front of the castle and then sleeps."
    font = font_for(text, "text", 23 * 4)
    greedy = break_lines(text, font, 1000)
    even = set_text(text, "text", 23, 250).lines
    assert len(even) == len(greedy)
    assert min(map(len, even)) >= min(map(len, greedy))
    assert " ".join(even) == text


def test_a_long_text_is_set_smaller_before_it_takes_more_lines() -> None:
    short, long = (
        set_text("word " * 5, "text", 24, 200, smallest=16),
        set_text("word " * 60, "text", 24, 200, smallest=16),
    )
    assert short.font.size == 24 * 4
    assert long.font.size == 16 * 4
    assert long.height == long.leading * len(long.lines) > short.height
    assert long.width <= 200


def test_drawing_puts_ink_into_the_column_only() -> None:
    block = set_text("Poppy flies", "text", 24, 200)
    canvas = Image.new("RGB", (300, 100), "white")
    block.draw(canvas, 50, 30, 200, "black")
    left, top, right, bottom = Image.eval(canvas.convert("L"), lambda value: 255 - value).getbbox() or (0, 0, 0, 0)
    assert 50 <= left < right <= 250
    assert 25 <= top < bottom <= 30 + block.height + 5
    assert abs((left + right) / 2 - 150) <= 2
