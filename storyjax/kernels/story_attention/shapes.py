"""The shapes (B, F, H, W, N, D) that matter: SETA of ContextualStory at 256 x 256 pixels, eight heads at every level."""

SHAPES = {
    "level 0, 5 frames": (6, 5, 32, 32, 8, 40),
    "level 1, 5 frames": (6, 5, 16, 16, 8, 80),
    "level 2, 5 frames": (6, 5, 8, 8, 8, 160),
    "level 0, 64 frames": (1, 64, 32, 32, 8, 40),
    "level 2, 64 frames": (1, 64, 8, 8, 8, 160),
}
