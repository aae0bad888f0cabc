"""Made-up cartoon pictures for the tests of the story room: a round fox walking over hills under a changing sky."""

import numpy as np
from PIL import Image, ImageDraw

_SKIES = ("#9fd8f0", "#f7b267", "#2b3a67", "#b8c4cc", "#cfe8ef")
_HILLS = ("#7fb069", "#8a9a5b", "#3d5a45", "#6c8a6b", "#e9f1f5")
_COATS = ("#e07a3f", "#8a5a3b", "#f2efe9")


def cartoon_frames(count: int, height: int = 128, width: int | None = None) -> np.ndarray:
    """(F,H,W,3) uint8 pictures, all different."""
    return np.stack([np.asarray(_draw(index, count, height, width or height)) for index in range(count)])


def _draw(index: int, count: int, height: int, width: int) -> Image.Image:
    scale = 4
    h, w = height * scale, width * scale
    picture = Image.new("RGB", (w, h), _SKIES[index % len(_SKIES)])
    pen = ImageDraw.Draw(picture)
    pen.ellipse((w * 0.72, h * 0.08, w * 0.72 + h * 0.18, h * 0.26), fill="#fff2b0" if index % 5 != 2 else "#f4f1de")
    pen.ellipse((-w * 0.4, h * 0.62, w * 0.9, h * 1.6), fill=_HILLS[index % len(_HILLS)])
    pen.ellipse((w * 0.3, h * 0.68, w * 1.6, h * 1.7), fill=_HILLS[(index + 1) % len(_HILLS)])
    x, y, r = w * (0.2 + 0.6 * index / max(1, count - 1)), h * 0.6, h * 0.13
    coat = _COATS[index // 5 % len(_COATS)]
    pen.polygon([(x - r * 0.9, y - r * 1.2), (x - r * 0.2, y - r * 2.1), (x - r * 0.1, y - r)], fill=coat)
    pen.polygon([(x + r * 0.9, y - r * 1.2), (x + r * 0.2, y - r * 2.1), (x + r * 0.1, y - r)], fill=coat)
    pen.ellipse((x - r * 0.9, y, x + r * 0.9, y + r * 2.2), fill=coat)
    pen.rectangle((x - r * 0.8, y + r * 0.1, x + r * 0.8, y + r * 0.5), fill="#3f8f5f")
    pen.ellipse((x - r, y - r * 1.6, x + r, y + r * 0.3), fill=coat)
    for side in (-1, 1):
        pen.ellipse(
            (x + side * r * 0.4 - r * 0.12, y - r * 0.9, x + side * r * 0.4 + r * 0.12, y - r * 0.6), fill="#2a2320"
        )
    pen.ellipse((x - r * 0.14, y - r * 0.5, x + r * 0.14, y - r * 0.28), fill="#2a2320")
    return picture.resize((width, height), Image.Resampling.BOX)
