"""Spatially-enhanced temporal attention of ContextualStory (SETA): every frame's 3x3 window around each pixel."""

from storyjax.kernels.story_attention.api import IMPLEMENTATIONS, story_attention

__all__ = ["IMPLEMENTATIONS", "story_attention"]
