import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from storyjax.data.labels import Labels
from storyjax.errors import StoryjaxError
from storyjax.evals.networks import recogniser_loss
from storyjax.evals.networks.recogniser import (
    KINDS,
    Recogniser,
    RecogniserConfig,
    load_recogniser,
    recogniser_maker,
    save_recogniser,
)
from storyjax.evals.robustness import SPOILERS, shrunk
from storyjax.nn.build import abstract, materialise
from tests.evals.painted import LABELS

CONFIG = RecogniserConfig(LABELS, image_size=16, patch=4, channels=(8, 8), norm_groups=4)


@pytest.fixture(scope="module")
def params():
    return materialise(recogniser_maker(CONFIG), jax.random.key(0))[1]


def pictures(count, size=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def as_dict(reading):
    return {kind: getattr(reading, kind).tolist() for kind in KINDS}


def test_reading_does_not_depend_on_how_frames_are_batched(params):
    one = Recogniser(CONFIG, params, name="a", content_hash="", batch=16)
    other = Recogniser(CONFIG, params, name="b", content_hash="", batch=3)
    found = one.read(pictures(10))
    assert as_dict(found) == as_dict(other.read(pictures(10)))
    assert found.characters.shape == (10, 3)
    assert found.characters.dtype == bool
    assert found.action.shape == (10,)
    assert found.action.max() < len(LABELS.action)


def test_saved_folder_loads_to_the_same_recogniser(params, tmp_path):
    save_recogniser(tmp_path / "mine", CONFIG, params, card={"steps": 3})
    loaded = load_recogniser(tmp_path / "mine")
    assert loaded.config == CONFIG
    assert loaded.labels == LABELS
    assert loaded.name == "mine"
    assert len(loaded.hash) == 64
    halved = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float16).astype(jnp.float32), params)
    direct = Recogniser(CONFIG, halved, name="", content_hash="")
    assert as_dict(loaded.read(pictures(8))) == as_dict(direct.read(pictures(8)))


def test_a_missing_recogniser_is_named(tmp_path):
    with pytest.raises(
        StoryjaxError,
        match="no recogniser 'cartoons': neither a model folder nor a shipped one; did you mean 'cartoon'",
    ):
        load_recogniser("cartoons")
    with pytest.raises(StoryjaxError, match=r"is no model folder: it has no model_index.json"):
        load_recogniser(tmp_path)


def test_a_damaged_recogniser_folder_is_refused(params, tmp_path):
    save_recogniser(tmp_path / "a", CONFIG, params)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b/recogniser/model.safetensors").unlink()
    with pytest.raises(StoryjaxError, match=r"not whole: '.*model.safetensors' is missing"):
        load_recogniser(tmp_path / "b")
    config = tmp_path / "a/recogniser/config.json"
    config.write_text(config.read_text().replace('"norm_groups"', '"groups"'))
    with pytest.raises(StoryjaxError, match="has no field 'groups'; did you mean 'norm_groups'"):
        load_recogniser(tmp_path / "a")


def test_frames_of_another_size_or_type_are_refused(params):
    recogniser = Recogniser(CONFIG, params, name="small", content_hash="")
    with pytest.raises(
        StoryjaxError, match=r"'small' reads uint8 frames of shape \(N, 16, 16, 3\), got uint8 \(2, 32, 32, 3\)"
    ):
        recogniser.read(pictures(2, size=32))
    with pytest.raises(StoryjaxError, match="got float32"):
        recogniser.read(pictures(2).astype(np.float32))


def test_labels_in_another_order_are_another_world(params):
    recogniser = Recogniser(CONFIG, params, name="small", content_hash="")
    recogniser.check_labels(LABELS, "the data")
    with pytest.raises(
        StoryjaxError, match=r"another world than the data: its weather are \[sun, rain\], the data's are \[rain, sun\]"
    ):
        recogniser.check_labels(dataclasses.replace(LABELS, weather=("rain", "sun")), "the data")
    with pytest.raises(StoryjaxError, match="the data's are not given"):
        recogniser.check_labels(Labels(), "the data")


def test_disturbing_with_all_amounts_at_zero_changes_nothing(monkeypatch):
    for name in ("SHIFT", "ZOOM", "TINT", "BLOTCHES", "NOISE"):
        monkeypatch.setattr(recogniser_loss, name, 0.0)
    monkeypatch.setattr(recogniser_loss, "BLUR", (0.05, 0.05))
    images = pictures(3) / 127.5 - 1
    disturb = jax.jit(lambda images, key: recogniser_loss.disturb(images, key))  # traced with the patched amounts
    found = disturb(jnp.asarray(images, jnp.float32), jax.random.key(0))
    np.testing.assert_allclose(found, images, atol=1e-6)


def test_resampling_moves_a_picture_by_whole_pixels_and_repeats_the_border():
    column = jnp.arange(6.0)
    matrix = recogniser_loss._resampling(6, jnp.ones(1), jnp.array([2.0]), jnp.array([0.05]))
    np.testing.assert_allclose(matrix[0] @ column, [2, 3, 4, 5, 5, 5], atol=1e-5)


def test_resampling_blurs_by_the_standard_deviation():
    matrix = recogniser_loss._resampling(41, jnp.ones(1), jnp.zeros(1), jnp.array([2.0]))
    row, pixels = np.asarray(matrix[0, 20]), np.arange(41)
    assert row.sum() == pytest.approx(1)
    assert np.sqrt((row * (pixels - 20) ** 2).sum()) == pytest.approx(2, rel=1e-3)


def test_every_frame_is_disturbed_in_its_own_way_and_stays_in_range():
    images = jnp.tile(jnp.asarray(pictures(1) / 127.5 - 1, jnp.float32), (4, 1, 1, 1))
    disturb = jax.jit(recogniser_loss.disturb)
    found = np.asarray(disturb(images, jax.random.key(1)))
    assert found.min() >= -1
    assert found.max() <= 1
    assert all(np.abs(found[i] - found[j]).mean() > 0.01 for i in range(4) for j in range(i))
    again = disturb(images, jax.random.key(1))
    np.testing.assert_array_equal(found, again)


def batch(**changes):
    truth = {kind: np.zeros((2, 2), np.int32) for kind in KINDS[1:]}
    return (
        {"images": pictures(4).reshape(2, 2, 16, 16, 3), "characters": np.ones((2, 2, 3), np.uint8)} | truth | changes
    )


@jax.jit
def loss_terms(params, batch):
    graphdef = abstract(recogniser_maker(CONFIG))[0]
    loss, metrics = recogniser_loss.recogniser_loss(graphdef, params, batch, jax.random.key(0))
    return metrics | {"loss": loss}


def test_the_loss_of_an_undecided_network_is_that_of_guessing(params):
    silent = {**params, "heads": jax.tree.map(jnp.zeros_like, params["heads"])}
    found = loss_terms(silent, batch())
    assert float(found["loss"]) == pytest.approx(3 * np.log(2) + np.log(2) + np.log(2) + np.log(3), rel=1e-5)
    assert found["characters_right"] == 0
    assert found["place_right"] == 1  # the first of equal scores is class 0


def test_frames_of_unknown_class_add_nothing_to_the_loss(params):
    both, unknown = batch()["place"], np.array([[0, 0], [-1, -1]], np.int32)
    losses = [float(loss_terms(params, batch(place=place))["place_loss"]) for place in (both, unknown, -1 - unknown)]
    assert losses[0] == pytest.approx((losses[1] + losses[2]) / 2, rel=1e-4)
    assert losses[1] != losses[2]
    assert loss_terms(params, batch(place=np.full_like(both, -1)))["place_loss"] == 0


def test_half_size_pictures_lose_what_is_finer_than_two_pixels():
    chess = np.indices((16, 16)).sum(axis=0) % 2 * 255
    grey = np.asarray(shrunk(Image.fromarray(np.repeat(chess[..., None], 3, axis=-1).astype(np.uint8))))
    assert set(grey.ravel()) <= {127, 128}
    picture = Image.fromarray(pictures(1)[0])
    for name, spoil in SPOILERS.items():
        out = np.asarray(spoil(picture))
        assert (out.shape, out.dtype) == ((16, 16, 3), np.uint8), name
        assert not np.array_equal(out, np.asarray(picture)), name
