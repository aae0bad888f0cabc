"""Drawing the stories of a split with a ContextualStory pipeline, as `storyjax.evals.sources.drawing` asks for them."""

from typing import Any

import numpy as np

from storyjax.data.source import StorySource
from storyjax.errors import StoryjaxError
from storyjax.systems.contextual_story.pipeline import ContextualStoryPipeline


class StoryDrawer:
    """Sentences of B stories, their seeds and given first pictures -> uint8 (B, F, H, W, 3).

    `settings` says, as JSON values, everything that the frames depend on besides weights, sentences and seeds.
    """

    def __init__(self, pipeline: ContextualStoryPipeline, steps: int | None = None, guidance: float | None = None):
        """steps, guidance: default: the model's own."""
        defaults = pipeline.config.defaults
        self.pipeline = pipeline
        self._asked = {
            "num_inference_steps": defaults.num_inference_steps if steps is None else steps,
            "guidance_scale": defaults.guidance_scale if guidance is None else guidance,
        }
        self.settings: dict[str, Any] = self._asked | {
            "image_guidance_scale": defaults.image_guidance_scale,
            "guidance_rescale": defaults.guidance_rescale,
            "sampler": defaults.sampler.name,
            "size": list(pipeline.config.size),
        }

    def __call__(self, sentences: list[list[str]], seeds: list[int], first: np.ndarray | None) -> np.ndarray:
        drawn = self.pipeline(
            sentences, image=None if first is None else list(first), seed=seeds, output_type="np", **self._asked
        )
        return np.stack(drawn.images)

    def check(self, source: StorySource) -> None:
        """Errors, before anything is drawn: a model that needs the first picture, on data that give none; more given frames."""
        needs = self.pipeline.config.story.first_frame == "conv2d"
        if source.given > 1 or (needs and not source.given):
            raise StoryjaxError(
                f"this model draws stories {'from their first picture' if needs else 'from sentences, or from the first picture'}, "
                f"but '{source.name}' gives {source.given} frames; take its configuration for story "
                f"{'continuation' if needs else 'visualization'}, or say --given {int(needs)}"
            )
