"""The manifest: written and read back, what a damaged one says, and what is noticed when something has changed."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from safetensors.numpy import load_file, save_file

from storyjax.api import SHIPPED
from storyjax.errors import StoryjaxError
from storyjax.story import Character, FirstPicture, Frame, Manifest, Story, model_sha256, pixels_sha256
from storyjax.story import manifest as manifest_file
from tests.story.drawn import cartoon_frames
from tests.story.strategies import stories
from tests.weights.folders import diffusers_folder

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
COUNTED = ("config.json", "scheduler_config.json", "tokenizer_config.json", "vocab.json", "merges.txt")
STORY = Story((Frame("One.", "photos/fox.png"), Frame("Two.")), "T", "flat", (Character("Poppy", "a fox"),))
SETTINGS = dict(
    system="contextual_story",
    seed=7,
    steps=30,
    sampler="ddim",
    guidance="text",
    guidance_scale=5.5,
    height=128,
    width=128,
)


@pytest.fixture(scope="module")
def whole_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return diffusers_folder(tmp_path_factory.mktemp("model") / "pororo", "contextual_story")


@pytest.fixture
def model(whole_model: Path, tmp_path: Path) -> Path:
    """A model folder, to be changed."""
    return shutil.copytree(whole_model, tmp_path / "pororo")


@pytest.fixture
def manifest(model: Path) -> Manifest:
    return Manifest.of(
        STORY,
        model,
        **SETTINGS,
        options={"noise": "mixed", "alpha": 0.1},
        first_picture=FirstPicture("first_picture.png", "0" * 64),
    )


def _broken(path: Path, **changes: object) -> str:
    fields = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in fields.items() if value is not ...}))
    with pytest.raises(StoryjaxError) as error:
        Manifest.read(path)
    assert str(error.value).startswith(str(path))
    return str(error.value)


def test_a_manifest_is_read_back_as_it_was_written(manifest: Manifest, tmp_path: Path) -> None:
    path = manifest.write(tmp_path / "manifest.json")
    assert Manifest.read(path) == Manifest.read(tmp_path) == manifest


@settings(max_examples=40, deadline=None)
@given(story=stories)
def test_any_text_survives(story: Story) -> None:
    import tempfile

    told = Manifest(
        story.sentences, model="m", model_sha256="", title=story.title, style=story.style, cast=story.cast, **SETTINGS
    )  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        again = Manifest.read(told.write(Path(folder) / "manifest.json"))
        assert again == told
        assert again.story(folder) == story


def test_it_records_story_model_versions_and_device(manifest: Manifest, model: Path) -> None:
    assert (manifest.sentences, manifest.title, manifest.style, manifest.cast) == (
        STORY.sentences,
        "T",
        "flat",
        STORY.cast,
    )
    assert manifest.model_sha256 == model_sha256(model)
    assert set(manifest.versions) == {"storyjax", "jax", "jaxlib", "flax", "numpy"}
    assert manifest.versions["numpy"] == np.__version__
    assert manifest.device.startswith("cpu, ")


def test_its_story_has_the_picture_kept_beside_it(manifest: Manifest, tmp_path: Path) -> None:
    story = manifest.story(tmp_path)
    assert story.first_picture == str(tmp_path / "first_picture.png")
    assert story.sentences == STORY.sentences
    assert dataclasses.replace(manifest, first_picture=None).story(tmp_path).first_picture is None


def test_nothing_differs_where_it_was_made(manifest: Manifest, model: Path) -> None:
    assert manifest.differences_here(model) == []


def test_other_weights_versions_and_devices_are_noticed(manifest: Manifest, model: Path) -> None:
    change_a_number(model / WEIGHTS)
    changed = dataclasses.replace(manifest, versions={**manifest.versions, "jax": "0.0.1"}, device="TPU v5e")
    weights, versions, device = changed.differences_here(model)
    assert f"the weights in '{model}' are not those of the manifest" in weights
    assert f"jax {manifest.versions['jax']} now, 0.0.1 then" in versions
    assert "numpy" not in versions
    assert f"another device ({manifest.device} now, TPU v5e then)" in device


def test_frames_that_differ_are_counted_from_one(manifest: Manifest) -> None:
    frames = cartoon_frames(2, 16)
    drawn = dataclasses.replace(
        manifest, pictures={f"frames/00{i}.png": pixels_sha256(f) for i, f in enumerate(frames)}
    )
    assert drawn.differing_frames(frames) == []
    changed = frames.copy()
    changed[1, 0, 0, 0] ^= 1
    assert drawn.differing_frames(changed) == [2]
    assert manifest.differing_frames(frames) == [1, 2]


def test_pixel_sums_tell_shapes_apart_and_not_memory_layouts() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert pixels_sha256(pixels) != pixels_sha256(pixels.reshape(4, 2, 3))
    assert pixels_sha256(pixels) == pixels_sha256(np.asfortranarray(pixels))


def change_a_number(weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def test_the_model_sum_covers_weights_and_settings_but_no_notes(model: Path) -> None:
    before = model_sha256(model)
    (model / "README.md").write_text("a card")
    (model / "metrics.json").write_text("{}")
    shutil.copyfile(model / WEIGHTS, (model / WEIGHTS).with_suffix(".fp16.safetensors"))  # another variant
    assert model_sha256(model) == before
    change_a_number(model / WEIGHTS)
    changed = model_sha256(model)
    assert changed != before
    scheduler = model / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text() + " ")
    assert model_sha256(model) not in (before, changed)


def test_the_model_sum_covers_weights_of_pytorch(model: Path) -> None:
    """What a file is, its content tells: a .bin may hold what a .safetensors file holds."""
    binary = model / "unet" / "diffusion_pytorch_model.bin"
    (model / WEIGHTS).rename(binary)
    before = model_sha256(model)
    change_a_number(binary)
    assert model_sha256(model) != before


def test_the_model_sum_covers_every_shard(model: Path) -> None:
    tensors = list(load_file(model / WEIGHTS).items())
    (model / WEIGHTS).unlink()
    shards = {"a.safetensors": dict(tensors[:5]), "b.safetensors": dict(tensors[5:])}
    for name, part in shards.items():
        save_file(part, model / "unet" / name)
    names = {key: name for name, part in shards.items() for key in part}
    (model / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    before = model_sha256(model)
    for name in shards:
        change_a_number(model / "unet" / name)
        assert model_sha256(model) != before
        before = model_sha256(model)


def test_the_sum_of_a_folder_of_ours_stays_what_it_was() -> None:
    """Manifests keep it for years: over `name, NUL, sha256 of the file, newline` of these files, in the order of their names."""
    folder, digest = SHIPPED / "cartoon", hashlib.sha256()
    for file in sorted(file for file in folder.glob("*/*") if file.suffix == ".safetensors" or file.name in COUNTED):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    assert model_sha256(folder) == digest.hexdigest()


def test_a_folder_without_weights_has_no_sum(model: Path, tmp_path: Path) -> None:
    (model / WEIGHTS).unlink()
    with pytest.raises(StoryjaxError, match=r"expected weights .* in '.*unet', found none"):
        model_sha256(model)
    with pytest.raises(StoryjaxError, match="there is no checkpoint at"):
        model_sha256(tmp_path / "none")


def test_missing_fields_are_named_together(manifest: Manifest, tmp_path: Path) -> None:
    path = manifest.write(tmp_path / "manifest.json")
    assert "the manifest lacks seed, steps; it is damaged" in _broken(path, seed=..., steps=...)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sede": 3}, "the manifest has no field 'sede'; did you mean 'seed'?"),
        ({"seed": "seven"}, "field 'seed': Input should be a valid integer, got 'seven'"),
        ({"seed": 7.5}, "field 'seed'"),
        ({"sentences": "One."}, "field 'sentences'"),
        ({"sentences": []}, "the story has no frames"),
        ({"sentences": ["One.", " "]}, "frame 2 has no sentence"),
        ({"first_picture": {"file": "a.png"}}, "field 'first_picture.sha256': Field required"),
        ({"format": 99}, "format 99 is newer than this storyjax reads (1); update storyjax"),
        ({"format": ...}, "this is no manifest: it has no 'format' number"),
    ],
)
def test_a_changed_manifest_is_refused(
    manifest: Manifest, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    assert message in _broken(manifest.write(tmp_path / "manifest.json"), **changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"seed": 7,\n"steps', "line 2: not valid JSON"),
        (b"[]", "this is no manifest"),
        (b"\x89PNG\xff", "this is no manifest"),
        (b'{"title": "T", "frames": ["One."]}', "it has no 'format' number; give the manifest.json of a storyboard"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(StoryjaxError) as error:
        Manifest.read(path)
    assert message in str(error.value)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoryjaxError, match=f"there is no manifest at '{tmp_path / manifest_file.NAME}'"):
        Manifest.read(tmp_path)
