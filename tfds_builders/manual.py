"""Base of the builders whose files the user brings (`manual_dir`): one way to read, to skip, to tell, to use every core."""

import collections
import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from tqdm import tqdm

from tfds_builders.layout import BrokenStory, Key, Layout
from tfds_builders.ordered import OrderedBuilder

CHUNK = 16  # stories a reading process takes at a time
TOLD = 20  # broken stories that are listed one by one

Item, Made = TypeVar("Item"), TypeVar("Made")


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(make: Callable[[Item], Made], items: Iterable[Item], processes: int) -> Iterator[Made]:
    """make(item) for each item, in order, by `processes` processes (1: in this one).

    Only a few results wait at any moment, so memory stays small when writing is slower than making.
    """
    if processes == 1:
        yield from map(make, items)
        return
    # Spawned, not forked: the caller may hold the threads of JAX or of TFDS.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
        waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > 4 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Read:
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


class ManualBuilder(OrderedBuilder, skip_registration=True):
    """Reads the user's copy of a data set through the builder's `LAYOUT`.

    Args:
        config: name of one of `BUILDER_CONFIGS`.
        processes: that read; None takes one per core, and one for a few stories.
        skip_broken: leave out stories that cannot be built, and list them at the end; otherwise the first ends the build.
    """

    LAYOUT: ClassVar[type[Layout]]

    def __init__(self, *, processes: int | None = None, skip_broken: bool = False, **kwargs):
        self._processes, self._skip_broken = processes, skip_broken
        self.broken: list[str] = []
        super().__init__(**kwargs)

    def layout(self, folder: str | Path) -> Layout:
        return self.LAYOUT(folder, self.builder_config.name)

    def _split_generators(self, dl_manager):
        layout = self.layout(dl_manager.manual_dir)
        return {split: self._generate_examples(layout, split, keys) for split, keys in layout.splits().items()}

    def _generate_examples(self, layout: Layout, split: str, keys: Sequence[Key]):
        processes = self._processes or (1 if len(keys) <= 200 else cores())
        chunks = (keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK))
        made = in_order(_Read(layout), chunks, processes)
        bar = tqdm(desc=f"{self.name} {split}", total=len(keys), unit="story", mininterval=1.0)
        broken: list[str] = []
        with bar:
            for number, story in enumerate(story for chunk in made for story in chunk):
                bar.update()
                if not isinstance(story, BrokenStory):
                    yield number, story
                elif self._skip_broken:
                    broken.append(str(story))
                else:
                    raise BrokenStory(f"{story}; mend it, or leave such stories out with --skip-broken")
        self._tell(split, broken, len(keys))

    def _tell(self, split: str, broken: list[str], count: int) -> None:
        """Keep and print what was left out."""
        self.broken += broken
        if broken:
            more = [f"... and {len(broken) - TOLD} more"] if len(broken) > TOLD else []
            print(
                "\n  ".join(
                    [f"{self.name}, split {split}: {len(broken)} of {count} stories left out:", *broken[:TOLD], *more]
                )
            )
