"""Settings that cannot work are refused with their name."""

import pytest

from storyjax.config import from_json, to_json
from storyjax.errors import StoryjaxError
from storyjax.train.config import FREE_FIELDS, EmaConfig, OptimizerConfig, TrainConfig


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainConfig(steps=0), "steps must be 1 or more, got 0"),
        (lambda: TrainConfig(batch_size=10, accumulation=4), "batch_size 10 is not divisible by accumulation 4"),
        (lambda: TrainConfig(sample_every=-1), "sample_every must be 0 (never) or more, got -1"),
        (lambda: OptimizerConfig(learning_rate=0), "learning_rate must be positive, got 0"),
        (lambda: OptimizerConfig(clip_norm=0.0), "clip_norm must be positive or None, got 0.0"),
        (lambda: EmaConfig(decay=1.0), "ema.decay must be in [0, 1), got 1.0"),
    ],
)
def test_impossible_settings(make, message: str):
    with pytest.raises(StoryjaxError) as caught:
        make()
    assert message in str(caught.value)


def test_config_survives_json():
    config = TrainConfig(steps=7, optimizer=OptimizerConfig(clip_norm=None, schedule="cosine"), ema=EmaConfig(0.5))
    assert from_json(TrainConfig, to_json(config)) == config


def test_free_fields_exist():
    assert set(to_json(TrainConfig())) > FREE_FIELDS
