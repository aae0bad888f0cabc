"""Sizes of a ContextualStory model: the UNet and the parts the paper adds."""

import dataclasses

from storyjax.config import nearest
from storyjax.errors import StoryjaxError
from storyjax.models.unet import UNetConfig

FIRST_FRAME_MODES = ("none", "conv2d")


@dataclasses.dataclass(frozen=True)
class ContextualStoryConfig:
    """ContextualStory (AAAI 2025). `first_frame` "none" is story visualization, "conv2d" story continuation."""

    unet: UNetConfig = UNetConfig()
    frames: int = 5  # F, the length of a story
    temporal_heads: int = 8  # heads of the temporal attention outside the mid block
    temporal_norm_groups: int = 32  # groups in the temporal convolutions, in the released models whatever the UNet has
    contextualizer_layers: int = 4  # 0: no storyline contextualizer (the ablation)
    contextualizer_heads: int = 8
    contextualizer_positions: int = 1024  # rows of its position table, at least the number of text tokens
    first_frame: str = "none"
    alpha_start: float = (
        1.0  # of the temporal gates: 1 begins as the pretrained 2D UNet, less where nothing is pretrained
    )

    def __post_init__(self) -> None:
        if self.first_frame not in FIRST_FRAME_MODES:
            raise StoryjaxError(
                f"first_frame cannot be '{self.first_frame}'{nearest(self.first_frame, list(FIRST_FRAME_MODES))}"
            )

    @classmethod
    def visualization(cls) -> "ContextualStoryConfig":
        """The released story-visualization models (PororoSV, FlintstonesSV)."""
        return cls()

    @classmethod
    def continuation(cls) -> "ContextualStoryConfig":
        """The released story-continuation models."""
        return cls(first_frame="conv2d")
