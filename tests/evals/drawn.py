"""Cartoon stories drawn when they are asked for, as a story source: no data set needs to be built."""

from typing import Any

import numpy as np

from storyjax.data.labels import Labels
from storyjax.data.source import StorySource, StoryTable
from tfds_builders.cartoon_stories.drawing import draw_frame
from tfds_builders.cartoon_stories.grammar import Story, plan_story
from tfds_builders.cartoon_stories.world import LABELS


class DrawnSource(StorySource):
    """The first `count` stories of a split at `size` pixels."""

    def __init__(self, split: str, count: int, size: int = 128):
        self.name, self.split, self.labels = "drawn", split, Labels(**LABELS)
        self._stories = [plan_story(split, index) for index in range(count)]
        sentences = [[frame.sentence for frame in story.frames] for story in self._stories]
        ids = [story.story_id for story in self._stories]
        titles = [story.title for story in self._stories]
        self.table = StoryTable(ids, titles, sentences, truth_of(self._stories))
        self.frames, self.size = len(sentences[0]), (size, size)

    def images(self, index: int) -> np.ndarray:
        return np.stack([draw_frame(frame, self.size[0])[0] for frame in self._stories[index].frames])

    def fingerprint(self) -> dict[str, Any]:
        return {"dataset": self.name, "split": self.split, "stories": len(self)}


def truth_of(stories: list[Story]) -> dict[str, np.ndarray]:
    """The labels of all frames as `StoryTable` wants them."""
    scenes = [[frame.scene for frame in story.frames] for story in stories]
    present = [[[name in scene.characters for name in LABELS["characters"]] for scene in story] for story in scenes]
    truth = {"characters": np.array(present, np.uint8)}
    for kind in ("place", "weather", "action"):
        numbers = [[LABELS[kind].index(getattr(scene, kind)) for scene in story] for story in scenes]
        truth[kind] = np.array(numbers, np.int32)
    for flag in ("names_characters", "names_place"):
        truth[flag] = np.array([[getattr(frame, flag) for frame in story.frames] for story in stories])
    return truth
