"""TFDS builder of any user's folder of stories; needs no TensorFlow and writes `array_record` files."""

import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders.image_folder_story.layout import FIELDS, MOST, ImageFolderLayout
from tfds_builders.layout import Layout
from tfds_builders.manual import ManualBuilder


class ImageFolderStory(ManualBuilder):
    """Stories of the user's own; arguments as of `ManualBuilder`."""

    name = "image_folder_story"
    LAYOUT = ImageFolderLayout
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "stories.json, or one folder a story."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Give your own folder as --manual-dir: pictures with a stories.json, or one folder a story with a .txt beside each "
        "picture. README.md of this builder tells the format."
    )
    BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name="stories", description="Stories of any folder.")]

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features
        frame = {
            "image": features.Image(shape=(None, None, 3)),
            "sentence": features.Text(),
            "characters": features.Tensor(shape=(MOST,), dtype=np.int32),  # padded with -1
            **{name: features.Scalar(np.int32) for name in FIELDS},  # -1 where the frame does not say
            "names_characters": features.Scalar(np.bool_),
            "names_place": features.Scalar(np.bool_),
        }
        story = {"story_id": features.Text(), "title": features.Text(), "frames": features.Sequence(frame)}
        return self.dataset_info_from_configs(
            features=features.FeaturesDict(story), metadata=tfds.core.MetadataDict(), disable_shuffling=True
        )

    def split_generators(self, layout: Layout):
        """As of any layout; the names behind the numbers are those of this folder."""
        assert isinstance(layout, ImageFolderLayout)
        splits = super().split_generators(layout)
        names = dataclasses.asdict(layout.labels)
        self.info.metadata.update({name: list(values) for name, values in names.items()})
        return splits
