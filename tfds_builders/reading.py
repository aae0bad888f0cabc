"""Reading and drawing in several processes, in order. Imports nothing large: the processes are started anew."""

import collections
import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from tfds_builders.layout import BrokenStory, Key, Layout

Item = TypeVar("Item")
Made = TypeVar("Made")

_make: Callable[[Any], Any] | None = None  # what this process makes, set as it starts


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(make: Callable[[Item], Made], items: Iterable[Item], processes: int) -> Iterator[Made]:
    """make(item) for each item, in order, by `processes` processes (1: in this one).

    `make` is sent to each process once, so it may hold tables and remember what it read. Only a few results wait at any
    moment, so memory stays small when writing is slower than making.
    """
    if processes == 1:
        yield from map(make, items)
        return
    # Spawned, not forked: the caller may hold the threads of JAX or of TFDS.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(make,)) as pool:
        waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(_go_on, item))
                if len(waiting) > 4 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # a caller that stops early, or an error, does not wait for the rest
            for future in waiting:
                future.cancel()


def _begin(make: Callable[[Any], Any]) -> None:
    global _make
    _make = make


def _go_on(item: Any) -> Any:
    assert _make is not None
    return _make(item)


class ReadStories:
    """The records of some stories, or what is wrong with them: the work of one reading process."""

    def __init__(self, layout: Layout):
        self.layout = layout

    def __call__(self, keys: Sequence[Key]) -> list[dict[str, Any] | BrokenStory]:
        return [self._one(key) for key in keys]

    def _one(self, key: Key) -> dict[str, Any] | BrokenStory:
        try:
            return self.layout.story(key)
        except BrokenStory as broken:
            return broken
