"""The data room: stories in, batches of numpy arrays out.

`open_source` opens a built dataset or the user's own folder, `make_batches` turns it into the endless, resumable stream
that training reads, `iterate_once` into one ordered pass for evaluation. `build_cache` and `CachedSource` take frozen
encoders out of the training step. `docs/data.md` tells the formats.

Names are resolved on first use, so importing this package costs nothing (no tfds, grain or transformers).
"""

import importlib
from typing import Any

_HOMES = {
    "BatchSpec": "batch",
    "TRUTH": "batch",
    "CachedSource": "cache",
    "build_cache": "cache",
    "weights_hash": "cache",
    "FolderSource": "folder",
    "fit_picture": "images",
    "read_picture": "images",
    "stretch_picture": "images",
    "Labels": "labels",
    "Batches": "pipeline",
    "iterate_once": "pipeline",
    "make_batches": "pipeline",
    "story_tokens": "pipeline",
    "RecordSource": "records",
    "open_source": "records",
    "StorySource": "source",
    "TokensCutWarning": "tokenizer",
    "load_tokenizer": "tokenizer",
    "tokenize": "tokenizer",
    "train_tokenizer": "tokenizer",
    "Windows": "windows",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'storyjax.data' has no attribute '{name}'")
    return getattr(importlib.import_module(f"storyjax.data.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
