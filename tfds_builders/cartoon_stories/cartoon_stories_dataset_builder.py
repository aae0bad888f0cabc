"""TFDS builder of the cartoon stories; needs no TensorFlow and writes `array_record` files."""

import dataclasses
import functools
import io
import itertools
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from tfds_builders.cartoon_stories.drawing import boxes_of, draw_pictures
from tfds_builders.cartoon_stories.grammar import Frame, plan_story
from tfds_builders.cartoon_stories.plan import FRAMES
from tfds_builders.cartoon_stories.world import LABELS
from tfds_builders.ordered import OrderedBuilder
from tfds_builders.reading import cores, in_order

MOST = 3  # characters in a frame; shorter lists are padded with -1: lists inside lists would need TensorFlow
CHUNK = 16  # stories a drawing process makes at a time


@dataclasses.dataclass(kw_only=True)
class CartoonConfig(tfds.core.BuilderConfig):
    """Side of a frame in pixels, frames of a story, and how many stories each split gets."""

    size: int = 128
    frames: int = FRAMES
    stories: tuple[tuple[str, int], ...] = (("train", 20_000), ("validation", 1_000), ("test", 1_000))


def _png(picture) -> bytes:
    """Little compression: the pictures are flat, and building is what takes long."""
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def encode_frame(frame: Frame, size: int) -> dict:
    """One frame as the record's features want it."""
    scene = frame.scene
    picture, mask = draw_pictures(scene, size)
    gap = MOST - len(scene.characters)
    boxes = boxes_of(np.asarray(mask), len(scene.characters)).tolist()
    return {
        "image": _png(picture),
        "mask": _png(mask),
        "sentence": frame.sentence,
        "characters": [LABELS["characters"].index(name) for name in scene.characters] + [-1] * gap,
        "boxes": boxes + [[0.0] * 4] * gap,
        "place": scene.place,
        "weather": scene.weather,
        "action": scene.action,
        "names_characters": frame.names_characters,
        "names_place": frame.names_place,
    }


def encode_stories(split: str, indices: range, size: int, frames: int = FRAMES) -> list[dict]:
    """Plan, draw and encode some stories: the work of one drawing process."""
    records = []
    for story in (plan_story(split, index, frames) for index in indices):
        cast = dict.fromkeys(name for frame in story.frames for name in frame.scene.characters)
        encoded = [encode_frame(frame, size) for frame in story.frames]
        records.append({"story_id": story.story_id, "title": story.title, "cast": list(cast), "frames": encoded})
    return records


def draw_stories(split: str, count: int, size: int, processes: int, frames: int = FRAMES) -> Iterator[dict]:
    """Records of stories 0..count-1 in order, drawn by `processes` processes (1: in this one)."""
    chunks = (range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))
    make = functools.partial(encode_stories, split, size=size, frames=frames)
    yield from itertools.chain.from_iterable(in_order(make, chunks, processes))


class CartoonStories(OrderedBuilder):
    """Stories of eight friends, five frames each by default, drawn from a plan, with the truth of every frame.

    Args:
        config: a `CartoonConfig` or the name of one of `BUILDER_CONFIGS`.
        processes: drawing processes; None takes one per core, and one for a few stories.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Eight friends, eight places, five weathers, ten actions."}
    BUILDER_CONFIGS: ClassVar = [
        CartoonConfig(name="px128", description="Frames of 128 x 128 pixels.", size=128),
        CartoonConfig(name="px64", description="Frames of 64 x 64 pixels.", size=64),
        CartoonConfig(name="px256", description="Frames of 256 x 256 pixels.", size=256),
        CartoonConfig(name="px512", description="Frames of 512 x 512 pixels.", size=512),
        CartoonConfig(
            name="frames50", description="Long stories of fifty frames.", frames=50, stories=(("test", 100),)
        ),
        CartoonConfig(
            name="tiny",
            description="A few small stories, for tests.",
            size=64,
            stories=(("train", 20), ("validation", 4), ("test", 4)),
        ),
    ]

    def __init__(self, *, processes: int | None = None, **kwargs):
        self._processes = processes
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features, size = tfds.features, self.builder_config.size
        frame = {
            "image": features.Image(shape=(size, size, 3), encoding_format="png"),
            "mask": features.Image(shape=(size, size, 1), encoding_format="png"),
            "sentence": features.Text(),
            "characters": features.Tensor(shape=(MOST,), dtype=np.int32),
            "boxes": features.Tensor(shape=(MOST, 4), dtype=np.float32),
            "place": features.ClassLabel(names=LABELS["place"]),
            "weather": features.ClassLabel(names=LABELS["weather"]),
            "action": features.ClassLabel(names=LABELS["action"]),
            "names_characters": features.Scalar(np.bool_),
            "names_place": features.Scalar(np.bool_),
        }
        return self.dataset_info_from_configs(
            features=features.FeaturesDict(
                {
                    "story_id": features.Text(),
                    "title": features.Text(),
                    # Everyone in the story, by first appearance; its label names are those of `frames/characters`, too.
                    "cast": features.Sequence(features.ClassLabel(names=LABELS["characters"])),
                    "frames": features.Sequence(frame),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, count) for split, count in self.builder_config.stories}

    def _generate_examples(self, split: str, count: int):
        processes = self._processes or (1 if count <= 200 else cores())
        config = self.builder_config
        records = draw_stories(split, count, config.size, processes, config.frames)
        yield from enumerate(tqdm(records, desc=f"{self.name} {split}", total=count, unit="story", mininterval=1.0))
