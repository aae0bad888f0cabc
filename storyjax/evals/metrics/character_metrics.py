"""Char-F1 and Frm-Acc: how well a character classifier finds in generated frames who the data says is in them.

As the field computes them (StoryViz, VLC-StoryGAN, StoryDALL-E; Maharana et al. 2021, 2022): predictions are sigmoids over 1/2,
Char-F1 is the micro average of scikit-learn's classification report over all frames and characters, Frm-Acc the share of frames
whose whole set is right, frames with nobody in them included. The macro average, which that report prints beside it, has its
own name here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from storyjax.data.labels import Labels
from storyjax.data.source import StorySource
from storyjax.errors import StoryjaxError
from storyjax.evals.metric import Evidence, Need, StoryFrames, StoryMetric
from storyjax.evals.metrics.feature_metrics import generated_frames, rows_of
from storyjax.evals.networks.character_classifier import CharacterClassifier, Input, load_classifier


class CharacterMetric(StoryMetric):
    """Evidence, whole numbers, K characters: {"hits", "spurious", "missed": (K,), "right", "frames": (1,)}."""

    better = "higher"
    needs: ClassVar[frozenset[Need]] = frozenset({"characters"})

    def __init__(self, classifier: CharacterClassifier):
        self.classifier = classifier

    @classmethod
    def open(
        cls,
        *,
        classifier: str | Path,
        characters: Sequence[str] | None = None,
        input: Input | None = None,
        batch: int = 16,
    ) -> "CharacterMetric":
        """classifier: a model folder of `storyjax train`, or the authors' file; the rest as `load_classifier`."""
        return cls(load_classifier(classifier, characters=characters, input=input, batch=batch))

    @property
    def about(self) -> dict[str, Any]:
        return self.classifier.about

    def check(self, source: StorySource) -> None:
        self.check_labels(source.labels, f"the data '{source.name}', split '{source.split}'")

    def check_labels(self, labels: Labels, where: str) -> None:
        """Error unless the data's characters are the classifier's, in its order."""
        self.classifier.check_labels(labels, where)

    def measure(self, stories: Sequence[StoryFrames]) -> list[Evidence]:
        found = rows_of(self.classifier.read, [generated_frames(story) for story in stories])
        return [self._counts(story, predicted) for story, predicted in zip(stories, found)]

    def _counts(self, story: StoryFrames, predicted: np.ndarray) -> Evidence:
        if story.characters is None:
            raise StoryjaxError(
                f"story '{story.story_id}' does not say who is in its frames; {self.title} needs data with characters"
            )
        truth = np.asarray(story.characters, bool)[story.given :]
        if truth.shape != predicted.shape:
            raise StoryjaxError(
                f"story '{story.story_id}' says who is in {len(truth)} frames of {truth.shape[-1]} characters, but "
                f"{len(predicted)} frames were generated and the classifier '{self.classifier.name}' knows "
                f"{predicted.shape[-1]} characters"
            )
        return {
            "hits": (predicted & truth).sum(axis=0),
            "spurious": (predicted & ~truth).sum(axis=0),
            "missed": (~predicted & truth).sum(axis=0),
            "right": np.array([(predicted == truth).all(axis=-1).sum()]),
            "frames": np.array([len(truth)]),
        }


def _f1(evidence: Sequence[Evidence], *, together: bool) -> float:
    """2 TP / (2 TP + FP + FN), of all characters together or the mean of each one's; 0 for one who is never there nor seen."""
    if not evidence:
        return float("nan")
    hits, spurious, missed = (
        np.sum([each[name] for each in evidence], axis=0) for name in ("hits", "spurious", "missed")
    )
    if together:
        hits, spurious, missed = hits.sum(), spurious.sum(), missed.sum()
    under = np.asarray(2 * hits + spurious + missed, np.float64)
    if not under.any():
        return float("nan")
    return float(np.divide(2.0 * hits, under, out=np.zeros_like(under), where=under > 0).mean())


class CharF1(CharacterMetric):
    """F1 of the characters, counts of all frames and characters together (micro), as the papers report it."""

    name, title = "char_f1", "Char-F1"

    def score(self, evidence: Sequence[Evidence]) -> float:
        return _f1(evidence, together=True)


class CharF1Macro(CharacterMetric):
    """The mean of each character's own F1, rare ones counting as much as the hero; one who is never there nor seen counts 0."""

    name, title = "char_f1_macro", "Char-F1 (macro)"

    def score(self, evidence: Sequence[Evidence]) -> float:
        return _f1(evidence, together=False)


class FrmAcc(CharacterMetric):
    """The share of frames in which exactly the right characters are seen."""

    name, title = "frm_acc", "Frm-Acc"

    def score(self, evidence: Sequence[Evidence]) -> float:
        frames = sum(int(each["frames"][0]) for each in evidence)
        return sum(int(each["right"][0]) for each in evidence) / frames if frames else float("nan")
