"""The command as a person uses it, on a model of toy size: what it writes, and what it says when something is wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from storyjax.cli import main
from storyjax.story.manifest import Manifest
from tests import tiny

pytestmark = pytest.mark.usefixtures("quick_compiles")


@pytest.fixture(scope="module")
def model(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    tiny.pipeline(tokenizer).save(folder / "model", tokenizer)
    return str(folder / "model")


def frames(folder):
    return [np.asarray(Image.open(path)) for path in sorted((folder / "frames").glob("*.png"))]


def refused(capsys, *words):
    """The one line that a mistake ends in."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    return said.splitlines()[-1]


def test_a_story_is_drawn_and_its_manifest_draws_it_again(model, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    main(["generate", "--sentences", *tiny.SENTENCES, "--model", model, "--out", str(first), "--seed", "5"])
    names = {path.name for path in first.iterdir()}
    assert {"strip.png", "story.gif", "comic.png", "index.html", "manifest.json", "story.json", "frames"} <= names
    main(["generate", "--from-manifest", str(first), "--out", str(again)])
    for one, other in zip(frames(first), frames(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert Manifest.read(first).differing_frames(frames(again)) == []
    assert (first / "manifest.json").read_bytes() == (again / "manifest.json").read_bytes()


@pytest.mark.parametrize("method", ["windows", "chain"])
def test_a_long_story_is_drawn_and_its_manifest_draws_it_again(model, tmp_path, method):
    first, again = tmp_path / "first", tmp_path / "again"
    sentences = [tiny.SENTENCES[n % 3] for n in range(7)]
    words = ["--method", method, *(["--overlap", "1"] if method == "windows" else [])]
    main(["generate", "--sentences", *sentences, "--model", model, "--out", str(first), *words])
    main(["generate", "--from-manifest", str(first), "--out", str(again)])
    assert len(frames(first)) == 7
    assert Manifest.read(first).options["method"] == method
    for one, other in zip(frames(first), frames(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_draws_other_pictures(model, tmp_path):
    for seed in ("1", "2"):
        main(
            [
                "generate",
                "--sentences",
                *tiny.SENTENCES,
                "--model",
                model,
                "--out",
                str(tmp_path / seed),
                "--seed",
                seed,
            ]
        )
    assert not np.array_equal(frames(tmp_path / "1")[0], frames(tmp_path / "2")[0])


def test_a_first_picture_of_another_size_is_named_and_becomes_frame_0(model, tmp_path, capsys):
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "first.png")
    words = ["--image", str(tmp_path / "first.png"), "--model", model, "--out", str(tmp_path / "out")]
    main(["generate", "--sentences", *tiny.SENTENCES, *words])
    assert "64x64 -> 32x32 LANCZOS" in capsys.readouterr().err
    assert (frames(tmp_path / "out")[0] == 200).all()


def test_a_sentence_over_the_limit_is_drawn_and_what_was_cut_is_shown(model, tmp_path, capsys):
    long = "Ada walks to the lake " + "and swims " * 40 + "until the lighthouse."
    main(["generate", "--sentences", long, *tiny.SENTENCES[1:], "--model", model, "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert "cut off" in said
    assert "until the lighthouse." in said


def test_an_existing_storyboard_is_replaced_only_when_asked(model, tmp_path, capsys):
    words = ["generate", "--sentences", *tiny.SENTENCES, "--model", model, "--out", tmp_path / "out"]
    main([str(word) for word in words])
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    assert "--overwrite" in refused(capsys, *words, "--seed", 9)
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    main([str(word) for word in [*words, "--seed", 9, "--overwrite"]])
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["seed"] == 9


def test_mistakes_are_one_line(model, tmp_path, capsys):
    out = ["--model", model, "--out", tmp_path / "out"]
    (tmp_path / "empty.yaml").write_text("title: Nothing\nframes: []\n")
    assert "no frames" in refused(capsys, "generate", tmp_path / "empty.yaml", *out)
    (tmp_path / "silent.yaml").write_text("frames: [Ada walks., '', Ada sleeps.]\n")
    assert "frame 2" in refused(capsys, "generate", tmp_path / "silent.yaml", *out)
    many = ["generate", "--sentences", *["Ada sleeps."] * 1001]
    assert "1,001 frames, at most 1,000" in refused(capsys, *many, *out)
    long = ["generate", "--sentences", *["Ada sleeps."] * 7]
    assert "got an overlap of 3; take 2" in refused(capsys, *long, "--overlap", 3, *out)
    assert "leave overlap and anchors out" in refused(capsys, *long, "--method", "chain", "--anchors", 1, *out)
    (tmp_path / "no.png").write_text("not a picture")
    image = ["--image", tmp_path / "no.png"]
    assert "not a picture" in refused(capsys, "generate", "--sentences", *tiny.SENTENCES, *image, *out)
    assert "no model folder" in refused(
        capsys, "generate", "--sentences", *tiny.SENTENCES, "--model", tmp_path / "none"
    )
    assert "one of" in refused(capsys, "generate", *out)
    assert not (tmp_path / "out").exists()


def test_a_damaged_model_folder_is_named(model, tmp_path, capsys):
    import shutil

    shutil.copytree(model, tmp_path / "model")
    weights = tmp_path / "model" / "unet" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    said = refused(capsys, "generate", "--sentences", *tiny.SENTENCES, "--model", tmp_path / "model")
    assert "unet/model.safetensors" in said


def test_unknown_names_get_the_nearest(tmp_path, capsys):
    assert "cartoon_stories" in refused(capsys, "data", "build", "cartoon_storys", "--data-dir", tmp_path)
    config = ["train", "configs/contextual_story/cartoon.py", "--workdir", tmp_path / "run", "--set"]
    assert "train.steps" in refused(capsys, *config, "train.stpes=3")
