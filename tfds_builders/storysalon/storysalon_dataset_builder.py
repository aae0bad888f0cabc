"""TFDS builder of StorySalon; needs no TensorFlow and writes `array_record` files."""

from typing import ClassVar

import tensorflow_datasets as tfds

from tfds_builders.manual import ManualBuilder
from tfds_builders.storysalon.layout import StorySalonLayout


class StorySalon(ManualBuilder):
    """Stories of any length from picture books and videos; arguments as of `ManualBuilder`."""

    name = "storysalon"
    LAYOUT = StorySalonLayout
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Libraries and videos, single frames and whole stories."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put the folders of StorySalon and its two lists of test stories into one folder and give it as --manual-dir; README.md "
        "of this builder says where to get them, and `storyjax data check FOLDER` says what is missing."
    )
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="story", description="Whole stories, each once; StoryGen's second stage."),
        tfds.core.BuilderConfig(
            name="image", description="Single frames, each a story of one; StoryGen's first stage."
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features
        frame = {
            "frame_id": features.Text(),
            "image": features.Image(shape=(None, None, 3)),
            "figure": features.Image(shape=(None, None, 3)),
            "sentence": features.Text(),
            "narrative": features.Text(),  # empty where the tree has none
        }
        story = {
            "story_id": features.Text(),
            "title": features.Text(),
            "source": features.Text(),
            "frames": features.Sequence(frame),
        }
        return self.dataset_info_from_configs(features=features.FeaturesDict(story), disable_shuffling=True)
