"""storyjax: a written story becomes pictures that belong together, in JAX and Flax NNX.

>>> import storyjax
>>> pipeline = storyjax.load("cartoon")
>>> frames = pipeline(["One night, Poppy reads a book in the forest.", "Then she dances.", ...]).images
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load": "api",
    "convert": "weights.conversion",
    "export": "weights.export",
    "generate_story": "api",
    "generate_image": "api",
    "evaluate": "api",
    "Story": "story.story",
    "load_story": "story.story_file",
    "StoryjaxError": "errors",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'storyjax' has no attribute '{name}'")
    return getattr(importlib.import_module(f"storyjax.{_HOMES[name]}"), name)
