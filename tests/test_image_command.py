"""`storyjax image` as a person uses it, on a model of toy size: the files, what they say, and what is refused."""

from typing import get_args

import numpy as np
import pytest
from PIL import Image

from storyjax import cli
from storyjax.checkpoints.folder import model_hash
from storyjax.cli.drawing import SamplerName
from storyjax.diffusion.samplers import Name
from storyjax.story.picture_files import read_said
from tests import tiny, tiny_sd
from tests.test_cli import refused

PROMPT = "Ada swims in the lake."
pytestmark = pytest.mark.usefixtures("quick_compiles")


@pytest.fixture(scope="module")
def model(tokenizer, tmp_path_factory):
    return tiny_sd.folder("sd15", tokenizer, tmp_path_factory.mktemp("image") / "sd15")


@pytest.fixture(scope="module")
def drawn(model, tmp_path_factory):
    """Two pictures of seeds 5 and 6."""
    folder = tmp_path_factory.mktemp("drawn")
    cli.main(["image", PROMPT, "--model", str(model), "--out", str(folder / "ada.png"), "--images", "2", "--seed", "5"])
    return folder


def pixels(path):
    return np.asarray(Image.open(path))


def test_pictures_are_numbered_and_say_how_they_were_made(model, drawn):
    assert sorted(path.name for path in drawn.iterdir()) == ["ada-1.png", "ada-2.png"]
    said = read_said(drawn / "ada-2.png")
    told = {"prompt": PROMPT, "seed": "6", "steps": "3", "sampler": "plms", "guidance_scale": "7.5", "dtype": "float32"}
    assert told.items() <= said.items()
    assert said["model_hash"] == model_hash(model)
    assert pixels(drawn / "ada-1.png").shape == (tiny_sd.SIZE, tiny_sd.SIZE, 3)


def test_what_a_picture_says_draws_it_again(model, drawn, tmp_path, capsys):
    said = read_said(drawn / "ada-2.png")
    words = ["--seed", said["seed"], "--steps", said["steps"], "--sampler", said["sampler"]]
    cli.main(["image", said["prompt"], "--model", said["model"], "--out", str(tmp_path / "again.png"), *words])
    np.testing.assert_array_equal(pixels(tmp_path / "again.png"), pixels(drawn / "ada-2.png"))
    assert capsys.readouterr().out.strip() == str(tmp_path / "again.png")


def test_a_picture_is_not_written_over_without_leave(model, drawn, capsys):
    before = (drawn / "ada-1.png").read_bytes()
    words = ["image", "Ada goes home.", "--model", model, "--out", drawn / "ada-1.png"]
    assert "ada-1.png' exists; choose another name, or allow overwriting" in refused(capsys, *words)
    assert (drawn / "ada-1.png").read_bytes() == before
    cli.main([str(word) for word in [*words, "--overwrite"]])
    assert read_said(drawn / "ada-1.png")["prompt"] == "Ada goes home."


def test_what_cannot_be_drawn_is_one_line(model, tokenizer, tmp_path, capsys):
    def said(*words, model=model, out="new.png"):
        return refused(capsys, "image", PROMPT, "--model", model, "--out", tmp_path / out, *words)

    assert "expected a file name ending in .png" in said(out="new.jpg")
    assert "divisible by 2, got 16x15" in said("--height", "15")
    assert "at least 1 picture, got images=0" in said("--images", "0")
    assert "draws from text alone" in said("--image", "a.png", "--mask", "b.png")
    tiny.pipeline(tokenizer).save(tmp_path / "story", tokenizer)
    assert "draws stories; use `storyjax generate`" in said(model=tmp_path / "story")
    inpaint = tiny_sd.folder("inpaint", tokenizer, tmp_path / "inpaint")
    assert "--image and --mask" in said(model=inpaint)
    assert not (tmp_path / "new.png").exists()


def test_a_model_of_single_pictures_draws_no_story(model, tmp_path, capsys):
    words = ["--sentences", PROMPT, "--model", model, "--out", tmp_path / "story"]
    assert "draws single pictures; use `storyjax image`" in refused(capsys, "generate", *words)
    assert not (tmp_path / "story").exists()


def test_the_command_offers_every_sampler():
    assert get_args(SamplerName) == get_args(Name)
