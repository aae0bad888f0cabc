"""TFDS builder of PororoSV; needs no TensorFlow and writes `array_record` files."""

import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders.manual import ManualBuilder
from tfds_builders.pororo_sv.layout import CHARACTERS, PororoLayout


@dataclasses.dataclass(kw_only=True)
class PororoConfig(tfds.core.BuilderConfig):
    """given: first frames of a story that a model is given. strips: the original strips instead of the ready frames."""

    given: int = 0
    strips: bool = False


class PororoSV(ManualBuilder):
    """Stories of five clips; arguments as of `ManualBuilder`."""

    name = "pororo_sv"
    LAYOUT = PororoLayout
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Ready frames with the BLIP-2 captions, and the original strips."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put the files of PororoSV into one folder and give it as --manual-dir; README.md of this builder says where to get "
        "them, and `storyjax data check FOLDER` says what is missing."
    )
    BUILDER_CONFIGS: ClassVar = [
        PororoConfig(name="visualization", description="Ready frames and BLIP-2 captions; all five frames are drawn."),
        PororoConfig(name="continuation", description="The same; the first frame is given.", given=1),
        PororoConfig(name="visualization_strips", description="The original strips and captions.", strips=True),
        PororoConfig(
            name="continuation_strips", description="The same; the first frame is given.", given=1, strips=True
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        features, config = tfds.features, self.builder_config
        frame = {
            "frame_id": features.Text(),
            "image": features.Image(shape=(None, None, 3), encoding_format="png"),
            "sentence": features.Text(),
            "characters": features.Tensor(shape=(len(CHARACTERS),), dtype=np.int32),
        }
        if config.strips:
            frame["strip"] = features.Tensor(shape=(3,), dtype=np.int32)  # pictures, height, width of one
            frame["figure"] = features.Text()  # a PNG of the size of the strip; empty where the tree has none
        story = {
            "story_id": features.Text(),
            "number": features.Scalar(np.int32),  # in the caches of the distribution
            "labelled": features.Scalar(np.bool_),
            "frames": features.Sequence(frame),
        }
        return self.dataset_info_from_configs(
            features=features.FeaturesDict(story),
            metadata=tfds.core.MetadataDict(
                characters=list(CHARACTERS),
                given_frames=config.given,
                pictures="strips" if config.strips else "one for each frame",
            ),
            disable_shuffling=True,
        )
