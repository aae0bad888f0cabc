"""TFDS builder of FlintstonesSV; needs no TensorFlow and writes `array_record` files."""

import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders.flintstones_sv.layout import CHARACTERS, FlintstonesLayout
from tfds_builders.manual import ManualBuilder


@dataclasses.dataclass(kw_only=True)
class FlintstonesConfig(tfds.core.BuilderConfig):
    """given: first frames of a story that a model is given. clips: all frames of each clip instead of one."""

    given: int = 0
    clips: bool = False


class FlintstonesSV(ManualBuilder):
    """Stories of five clips; arguments as of `ManualBuilder`."""

    name = "flintstones_sv"
    LAYOUT = FlintstonesLayout
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "One frame of each clip, chosen by its id, or all of them."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put the files of FlintstonesSV into one folder and give it as --manual-dir; README.md of this builder says where to "
        "get them, and `storyjax data check FOLDER` says what is missing."
    )
    BUILDER_CONFIGS: ClassVar = [
        FlintstonesConfig(name="visualization", description="One frame of each clip; all five frames are drawn."),
        FlintstonesConfig(name="continuation", description="The same; the first frame is given.", given=1),
        FlintstonesConfig(name="visualization_clips", description="All frames of each clip, as a strip.", clips=True),
        FlintstonesConfig(
            name="continuation_clips", description="The same; the first frame is given.", given=1, clips=True
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        features, config = tfds.features, self.builder_config
        frame = {
            "frame_id": features.Text(),
            "image": features.Image(shape=(None, None, 3), encoding_format="png"),
            "sentence": features.Text(),
            "setting": features.Text(),
            "characters": features.Tensor(shape=(len(CHARACTERS),), dtype=np.int32),
        }
        if config.clips:
            frame["strip"] = features.Tensor(shape=(3,), dtype=np.int32)  # pictures, height, width of one
        else:
            frame["boxes"] = features.Tensor(shape=(len(CHARACTERS), 4), dtype=np.float32)
        return self.dataset_info_from_configs(
            features=features.FeaturesDict({"story_id": features.Text(), "frames": features.Sequence(frame)}),
            metadata=tfds.core.MetadataDict(
                characters=list(CHARACTERS),
                given_frames=config.given,
                pictures="strips" if config.clips else "one for each frame",
            ),
            disable_shuffling=True,
        )
