"""The folder of a story: everything in it, never over anything else, whole or not at all."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storyjax.errors import StoryjaxError
from storyjax.story import (
    Manifest,
    Picture,
    Story,
    check_folder,
    load_story,
    pixels_sha256,
    story_from_sentences,
    write_storyboard,
)
from tests.disk import no_file_grows_past
from tests.story.drawn import cartoon_frames

STORY = story_from_sentences(["Poppy runs.", "She sleeps."], title="Poppy")
IMAGES = cartoon_frames(2, 16)
OTHER = IMAGES[::-1].copy()


def manifest_of(story: Story) -> Manifest:
    return Manifest(
        story.sentences, title=story.title, system="contextual_story", model="m", model_sha256="0" * 64, seed=7, steps=30,
        sampler="ddim", guidance="text", guidance_scale=5.0, height=16, width=16, versions={"storyjax": "0.1.0"},
    )  # fmt: skip


MANIFEST = manifest_of(STORY)


def _whole(folder: Path, images: np.ndarray = IMAGES) -> None:
    """Raise unless `folder` holds one complete storyboard of `images` and nothing stands beside it."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == sorted(
        [
            "comic.png",
            "frames/000.png",
            "frames/001.png",
            "index.html",
            "manifest.json",
            "story.gif",
            "story.json",
            "strip.png",
        ]
    )
    manifest = Manifest.read(folder)
    assert manifest.differing_frames(images) == []
    for name, digest in manifest.pictures.items():
        if name.endswith(".png"):
            assert pixels_sha256(np.asarray(Image.open(folder / name))) == digest
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_everything_is_written_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "board"
    paths = write_storyboard(folder, STORY, IMAGES, MANIFEST)
    _whole(folder)
    assert {key: path.relative_to(folder).as_posix() for key, path in paths.items()} == {
        "strip": "strip.png", "gif": "story.gif", "comic": "comic.png", "page": "index.html", "manifest": "manifest.json",
        "story": "story.json", "frames": "frames",
    }  # fmt: skip
    assert all(path.exists() for path in paths.values())
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "frames/001.png")), IMAGES[1])
    assert load_story(paths["story"]) == STORY
    assert Manifest.read(folder).story(folder) == STORY
    page = paths["page"].read_text()
    assert "Poppy runs." in page
    assert "storyjax generate --from-manifest manifest.json" in page
    assert oct(folder.stat().st_mode & 0o777) == oct(0o777 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_same_story_gives_the_same_files_byte_for_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_storyboard(tmp_path / name, STORY, IMAGES, MANIFEST)
    for path in (p for p in (tmp_path / "a").rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_a_continued_story_keeps_its_first_picture(tmp_path: Path) -> None:
    story = story_from_sentences(STORY.sentences, title="Poppy", first_picture="photos/fox.jpg")
    given = Picture(cartoon_frames(1, 16)[0], "first picture 'fox.jpg' resized")
    folder = tmp_path / "board"
    write_storyboard(folder, story, IMAGES, MANIFEST, first_picture=given)
    first = Manifest.read(folder).first_picture
    assert first is not None
    assert (first.source, first.note) == ("photos/fox.jpg", given.note)
    assert first.sha256 == pixels_sha256(given.pixels)
    for told in (load_story(folder / "story.json"), Manifest.read(folder).story(folder)):
        assert told.first_picture == str(folder / "first_picture.png")
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "first_picture.png")), given.pixels)
    again = Manifest.read(folder).story(folder)
    write_storyboard(tmp_path / "again", again, IMAGES, Manifest.read(folder), first_picture=Picture(given.pixels, ""))
    assert (tmp_path / "again" / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()
    with pytest.raises(StoryjaxError, match=r"the story is continued from 'photos/fox.jpg'; pass first_picture="):
        write_storyboard(tmp_path / "other", story, IMAGES, MANIFEST)


def test_an_existing_storyboard_is_not_overwritten_unasked(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    write_storyboard(folder, STORY, IMAGES, MANIFEST)
    with pytest.raises(StoryjaxError) as error:
        write_storyboard(folder, STORY, OTHER, MANIFEST)
    assert (
        str(error.value) == f"the folder '{folder}' holds a storyboard already; choose another one or pass --overwrite"
    )
    _whole(folder)


def test_with_overwrite_the_old_storyboard_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    long = story_from_sentences(["A."] * 4)
    write_storyboard(folder, long, cartoon_frames(4, 16), manifest_of(long))
    write_storyboard(folder, STORY, OTHER, MANIFEST, overwrite=True)
    _whole(folder, OTHER)
    assert len(list((folder / "frames").iterdir())) == len(OTHER)  # and none of the longer one before


@pytest.mark.parametrize(
    "name", ["notes.md", "frames/mine.png", "more/a.txt", "frames/000.png/a", "strip.png/a", ".hidden"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_foreign_files_is_never_replaced(tmp_path: Path, name: str, overwrite: bool) -> None:
    folder = tmp_path / "board"
    path = folder / name
    path.parent.mkdir(parents=True)
    path.write_text("keep me")
    with pytest.raises(StoryjaxError, match="holds files that are no part of a storyboard"):
        write_storyboard(folder, STORY, IMAGES, MANIFEST, overwrite)
    assert path.read_text() == "keep me"
    assert [p.name for p in tmp_path.iterdir()] == ["board"]


def test_foreign_files_are_named_but_not_all_of_a_thousand(tmp_path: Path) -> None:
    for index in range(9):
        (tmp_path / f"photo{index}.jpg").touch()
    with pytest.raises(StoryjaxError) as error:
        check_folder(tmp_path, overwrite=True)
    assert "(photo0.jpg, photo1.jpg, photo2.jpg and 6 more); choose another folder, it is not replaced" in str(
        error.value
    )
    with pytest.raises(StoryjaxError, match="no part of a storyboard"):
        check_folder("/", overwrite=True)


def test_pictures_without_a_manifest_are_no_storyboard(tmp_path: Path) -> None:
    mine = tmp_path / "film" / "frames" / "000.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep me")
    with pytest.raises(StoryjaxError, match=r"has no manifest.json, so it is no storyboard; .* even with --overwrite"):
        write_storyboard(tmp_path / "film", STORY, IMAGES, MANIFEST, overwrite=True)
    assert mine.read_text() == "keep me"


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    folder.mkdir()
    (folder / ".DS_Store").touch()
    before = folder.stat().st_ino
    write_storyboard(folder, STORY, IMAGES, MANIFEST)
    assert folder.stat().st_ino == before
    (folder / ".DS_Store").unlink()
    _whole(folder)


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "board")
    write_storyboard(tmp_path / "link", STORY, IMAGES, MANIFEST)
    assert (tmp_path / "link").is_symlink()
    assert Manifest.read(tmp_path / "board").differing_frames(IMAGES) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "board").write_text("a letter")
    with pytest.raises(StoryjaxError, match="is a file; name a folder for the pictures"):
        write_storyboard(tmp_path / "board", STORY, IMAGES, MANIFEST, overwrite=True)
    with pytest.raises(StoryjaxError, match=r"cannot write .*; nothing that was there before has been changed"):
        write_storyboard(tmp_path / "board" / "inside", STORY, IMAGES, MANIFEST)
    assert (tmp_path / "board").read_text() == "a letter"


@pytest.mark.parametrize(
    ("story", "images", "message"),
    [
        (STORY, cartoon_frames(3, 16), "the story has 2 frames, but 3 pictures came"),
        (STORY, IMAGES.astype(np.float32), "expected pictures"),
        (
            story_from_sentences(["Poppy runs.", "He sleeps."], title="Poppy"),
            IMAGES,
            "the manifest has another sentences",
        ),
        (dataclasses.replace(STORY, title="Gus"), IMAGES, "the manifest has another title than the story"),
    ],
)
def test_pictures_and_manifest_must_be_of_the_story(
    tmp_path: Path, story: Story, images: np.ndarray, message: str
) -> None:
    with pytest.raises(StoryjaxError, match=message):
        write_storyboard(tmp_path / "board", story, images, MANIFEST)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("room", [100, 12_000, 200_000])
def test_a_disk_that_fills_up_leaves_the_old_storyboard(tmp_path: Path, room: int) -> None:
    """A limit on the size of any file makes the real write calls fail, at another file each time."""
    folder = tmp_path / "board"
    write_storyboard(folder, STORY, IMAGES, MANIFEST)
    with pytest.raises(StoryjaxError) as error, no_file_grows_past(room):
        write_storyboard(folder, STORY, OTHER, MANIFEST, overwrite=True)
    assert str(error.value) == (
        f"cannot write '{folder}': the disk is full; make room and try again; nothing that was there before has been changed"
    )
    _whole(folder)


def test_an_empty_folder_is_empty_again_when_filling_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "board"
    folder.mkdir()
    from storyjax.story import storyboard

    moves: list[object] = []
    real_move = storyboard.shutil.move

    def move(source: Path, target: Path) -> None:
        moves.append(source)
        if len(moves) == 5:
            raise OSError(28, "No space left on device")
        real_move(source, target)

    monkeypatch.setattr(storyboard.shutil, "move", move)
    with pytest.raises(StoryjaxError, match="the disk is full"):
        write_storyboard(folder, STORY, IMAGES, MANIFEST)
    assert [path.name for path in tmp_path.rglob("*")] == ["board"]


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from PIL import Image
from storyjax.story import storyboard
from storyjax.story.files import write_whole
from tests.story.test_storyboard import IMAGES, OTHER, MANIFEST, STORY

# Drawing does not touch the disk; small pictures make a hundred runs quick.
storyboard.draw_strip = storyboard.draw_comic = lambda story, frames: Image.new("RGB", (8, 8))
storyboard.render_page = lambda *arguments: "page"
storyboard.write_gif = lambda path, *arguments, **settings: write_whole(path, b"gif") or path

def run(folder, fatal):
    calls = 0
    def hook(event, arguments):
        nonlocal calls
        writes = event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
        if writes or event in ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree", "shutil.move"):
            calls += 1
            if calls == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    storyboard.write_storyboard(folder, STORY, OTHER, MANIFEST, overwrite=True)

base = Path(sys.argv[1])
storyboard.write_storyboard(base / "first", STORY, IMAGES, MANIFEST)
for fatal in range(1, 200):
    folder = base / str(fatal) / "board"
    shutil.copytree(base / "first", folder)
    child = os.fork()
    if not child:
        run(folder, fatal)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        print(fatal - 1)
        break
"""


def test_a_kill_at_any_step_leaves_one_whole_storyboard(tmp_path: Path) -> None:
    """The writer is killed before its first, second, ... change to the disk, until it gets through."""
    found = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert found.returncode == 0, found.stderr
    steps = int(found.stdout)
    assert steps > 30
    kept = {"old": 0, "new": 0}
    for step in range(1, steps + 1):
        folder = tmp_path / str(step) / "board"
        with pytest.raises(
            StoryjaxError, match="holds a storyboard already"
        ):  # which also brings back what a kill set aside
            check_folder(folder)
        manifest = Manifest.read(folder)
        kept["old" if manifest.differing_frames(IMAGES) == [] else "new"] += 1
        assert manifest.differing_frames(IMAGES) == [] or manifest.differing_frames(OTHER) == []
        assert len(json.loads((folder / "story.json").read_text())["frames"]) == 2
        if step % 15 == 0:
            write_storyboard(folder, STORY, OTHER, MANIFEST, overwrite=True)
            _whole(folder, OTHER)  # and what the kill left beside the folder is gone
    assert kept["old"] > 20
    assert kept["new"] > 3


def test_a_folder_being_written_by_a_living_process_is_left_alone(tmp_path: Path) -> None:
    living = tmp_path / f".board.writing-{os.getppid()}"
    living.mkdir()
    write_storyboard(tmp_path / "board", STORY, IMAGES, MANIFEST)
    assert living.is_dir()
