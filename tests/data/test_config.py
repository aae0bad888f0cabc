"""A configuration of data says everything about how training reads them."""

import dataclasses

from storyjax.data import config as room
from storyjax.data.batch import BatchSpec
from storyjax.data.config import DataConfig


def test_every_field_about_reading_reaches_the_stream(monkeypatch):
    asked = {}
    monkeypatch.setattr(room, "make_batches", lambda *args, **options: asked.update(options, args=args))
    config = DataConfig(seed=5, threads=3, workers=2, random_frames=True)
    spec = BatchSpec(text=None)
    config.batches("stories", spec, 8, [0, 1])
    assert asked.pop("args") == ("stories", spec, 8, 5)
    assert asked == {"rows": [0, 1], "threads": 3, "workers": 2, "random_frames": True}
    opening = {"name", "data_dir", "size", "frames", "train_split"}
    assert {field.name for field in dataclasses.fields(DataConfig)} == opening | {"seed"} | (set(asked) - {"rows"})
