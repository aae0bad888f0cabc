"""The benchmarks, by name. Each takes a `Setting` and returns its rows; a benchmark's docstring says what it measures."""

from collections.abc import Callable

from benchmarks.measure import Row, Setting
from benchmarks.suite import (
    attention,
    communication,
    fid_features,
    memory,
    scaling,
    sd21_train,
    sdxl_sample,
    story_attention,
    story_sample,
    story_train,
    unet_forward,
)

BENCHMARKS: dict[str, Callable[[Setting], list[Row]]] = {
    "story_train": story_train.run,
    "story_sample": story_sample.run,
    "story_forward": unet_forward.story,
    "sd21_forward": unet_forward.sd21,
    "sd21_train": sd21_train.run,
    "sdxl_forward": unet_forward.sdxl,
    "sdxl_sample": sdxl_sample.run,
    "attention": attention.run,
    "story_attention": story_attention.run,
    "memory": memory.run,
    "scaling": scaling.run,
    "communication": communication.run,
    "fid_features": fid_features.run,
}
