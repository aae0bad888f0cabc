"""Stored outputs of the official ContextualStory code, and the inputs that are functions of their names."""

import zlib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "goldens" / "contextual_story"


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def named(name: str, shape: tuple[int, ...]) -> np.ndarray:
    seed = zlib.crc32(f"input:{name}".encode())
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, dtype=np.float32)


def channels_last(x: np.ndarray) -> np.ndarray:
    """(..., C, F, H, W) -> (..., F, H, W, C)."""
    return np.moveaxis(x, -4, -1)
