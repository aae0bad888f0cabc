"""Attention over all tokens without the scores in memory: the fused kernels of the platforms, and our own for a TPU."""

from storyjax.kernels.flash_attention.api import IMPLEMENTATIONS, choose, flash_attention

__all__ = ["IMPLEMENTATIONS", "choose", "flash_attention"]
