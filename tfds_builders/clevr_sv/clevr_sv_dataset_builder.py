"""TFDS builder of CLEVR-SV; needs no TensorFlow and writes `array_record` files."""

import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders.clevr_sv.layout import FIGURE, SPLITS, ClevrLayout, DrawnLayout
from tfds_builders.clevr_sv.scene import LABELS, NUMBERS
from tfds_builders.manual import ManualBuilder


@dataclasses.dataclass(kw_only=True)
class ClevrConfig(tfds.core.BuilderConfig):
    """drawn: first story and number of stories of each split that are drawn here; None reads the released files."""

    drawn: dict[str, tuple[int, int]] | None = None
    seed: int = 0


class ClevrSV(ManualBuilder):
    """Stories of four objects that appear one after the other; arguments as of `ManualBuilder`."""

    name = "clevr_sv"
    LAYOUT = ClevrLayout
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The released files, and stories drawn without Blender."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put CLEVR_dict.npy and images/ of CLEVR-SV into one folder and give it as --manual-dir; README.md of this builder "
        "says where to get them. The configuration `generated` draws stories of the same kind and needs no files."
    )
    BUILDER_CONFIGS: ClassVar = [
        ClevrConfig(name="released", description="The released files, with the papers' splits."),
        ClevrConfig(name="generated", description="As many stories, drawn here; nothing is needed.", drawn=SPLITS),
        ClevrConfig(
            name="tiny", description="A few drawn stories, for tests.", drawn={"train": (0, 6), "test": (10_000, 2)}
        ),
    ]

    def _split_generators(self, dl_manager):
        config = self.builder_config
        if config.drawn is None:
            return super()._split_generators(dl_manager)
        return self.split_generators(DrawnLayout(config.drawn, config.seed))

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features
        picture = features.Image(shape=(None, None, 4), encoding_format="png")
        frame = {
            "image": picture,
            "figure": picture,
            "sentence": features.Text(),
            "characters": features.Tensor(shape=(len(LABELS),), dtype=np.int32),
            "attributes": features.Tensor(shape=(NUMBERS,), dtype=np.float32),
        }
        story = {
            "story_id": features.Text(),
            "number": features.Scalar(np.int32),
            "frames": features.Sequence(frame),
        }
        return self.dataset_info_from_configs(
            features=features.FeaturesDict(story),
            metadata=tfds.core.MetadataDict(characters=list(LABELS), figure_above=FIGURE),
            disable_shuffling=True,
        )
