"""Drawing the stories of a split for an evaluation: story by story into a folder, by several processes, going on after any stop.

DIR/00012/0.png is frame 0 of story 12. A story's folder appears whole or not at all, so what a killed run leaves is complete, and
the next run draws what is missing. Stories are drawn in groups of `batch_size`: story i is always in group i // batch_size, in the
same place and with the seed that belongs to its number, so a run that goes on gives the bytes of one that never stopped. With
another batch size or number of devices the seeds are the same, but the last bits of the networks may differ.
"""

import concurrent.futures
import functools
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

from storyjax.checkpoints.paths import write_whole
from storyjax.checkpoints.workdir import differences
from storyjax.data.source import StorySource
from storyjax.errors import StoryjaxError
from storyjax.evals.evidence import disk_errors_told
from storyjax.evals.sources.generated import check_frames
from storyjax.parallel.processes import speaks, wait_for_all

DRAWN = "drawn.json"  # what the pictures of a folder were drawn from
SEEDS_AT_ONCE = 8  # seeds are drawn in groups of this size, whatever the batch size

# (sentences of B stories, their seeds, first pictures (B, H, W, 3) uint8 or None) -> uint8 (B, F, H, W, 3)
Draw = Callable[[list[list[str]], list[int], np.ndarray | None], np.ndarray]


def story_seed(seed: int, story: int) -> int:
    """The seed of a story's sampling: a function of the evaluation's seed and the story's number alone."""
    return _seeds(seed, story // SEEDS_AT_ONCE)[story % SEEDS_AT_ONCE]


@functools.lru_cache(maxsize=1024)
def _seeds(seed: int, group: int) -> tuple[int, ...]:
    key = jax.random.fold_in(jax.random.key(seed), group * SEEDS_AT_ONCE)
    return tuple(int(s) for s in jax.random.randint(key, (SEEDS_AT_ONCE,), 0, 2**31 - 1))


def draw_stories(
    source: StorySource,
    draw: Draw,
    folder: str | Path,
    *,
    stories: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Path:
    """Draw the first `stories` stories (None: all) that are not in `folder` yet; returns the folder.

    about: what the pictures depend on besides data, split and seed (model by hash, settings); a folder that was drawn from anything
    else is refused. Of several processes each draws its own groups; all must see the same folder.

    Errors: a folder of other pictures (naming what differs); a disk that is full; frames of another shape than the data's.
    """
    folder, count = Path(folder), len(source) if stories is None else stories
    told = {"data": source.fingerprint(), "given": source.given, "seed": seed, **(about or {})}
    _claim(
        folder,
        json.loads(json.dumps(told, default=str)),
        {"batch_size": batch_size, "devices": jax.local_device_count()},
    )
    groups = [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
    mine = [group for n, group in enumerate(groups) if n % jax.process_count() == jax.process_index()]
    todo = [group for group in mine if not all(story_folder(folder, story).is_dir() for story in group)]
    done = sum(len(group) for group in mine) - sum(len(group) for group in todo)
    total = sum(len(group) for group in mine)
    with tqdm(total=total, initial=done, unit="story", desc="draw", disable=not progress) as bar:
        for group in todo:
            frames = _drawn(source, draw, group, batch_size, seed)
            for story, pictures in zip(group, frames):
                if not story_folder(folder, story).is_dir():
                    write_story(folder, story, pictures)
            bar.update(len(group))
    wait_for_all("all stories are drawn")
    return folder


def _drawn(source: StorySource, draw: Draw, group: range, batch_size: int, seed: int) -> np.ndarray:
    """The frames of a group; a short last group is filled up with its last story, so that the model sees one shape."""
    full = [*group] + [group[-1]] * (batch_size - len(group))
    first = np.stack([source.images(story)[0] for story in full]) if source.given else None
    seeds = [story_seed(seed, group[0] + n) for n in range(batch_size)]
    frames = np.asarray(draw([list(source.sentences(story)) for story in full], seeds, first))
    check_frames(frames, (len(full), source.frames))
    return frames[: len(group)]


def story_folder(folder: Path, story: int) -> Path:
    """Where the frames of a story lie."""
    return folder / f"{story:05d}"


def write_story(folder: Path, story: int, frames: Sequence[np.ndarray] | np.ndarray) -> None:
    """Write the frames (F, H, W, 3) uint8 of a story as PNG files, beside their place and then renamed."""
    place = story_folder(folder, story)
    beside = folder / f".{place.name}.{uuid.uuid4().hex[:8]}.partial"
    with disk_errors_told(folder):
        try:
            beside.mkdir(parents=True)
            with concurrent.futures.ThreadPoolExecutor() as pool:
                list(pool.map(lambda n: _write_picture(beside / f"{n}.png", frames[n]), range(len(frames))))
            beside.rename(place)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise


def _write_picture(path: Path, pixels: np.ndarray) -> None:
    """When this returns the picture is on the disk, also after a power cut."""
    with path.open("wb") as file:
        Image.fromarray(pixels).save(file, "PNG")
        file.flush()
        os.fsync(file.fileno())


def _claim(folder: Path, about: dict[str, Any], run: dict[str, Any]) -> None:
    """Write what is drawn here, or compare with what was; note with which batch size and how many devices."""
    path, before = folder / DRAWN, drawn_from(folder)
    if before is None and any(folder.glob("[0-9]*")):
        raise StoryjaxError(f"'{folder}' holds pictures, but no {DRAWN} that says of what; choose another folder")
    before = before or {"about": about, "runs": []}
    changed = [line for _, line in differences(before["about"], about)]
    if changed:
        raise StoryjaxError(
            f"'{folder}' holds pictures of another evaluation: {'; '.join(changed)}. Choose another folder, or remove it"
        )
    wait_for_all("the folder is ours")  # nobody writes before all have looked
    if speaks():
        for left in folder.glob(".*.partial"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        if run not in before["runs"]:
            with disk_errors_told(folder):
                folder.mkdir(parents=True, exist_ok=True)
                write_whole(path, json.dumps(before | {"runs": [*before["runs"], run]}, indent=1) + "\n")
    wait_for_all("what is drawn is written")


def drawn_from(folder: Path) -> dict[str, Any] | None:
    """What the pictures of a folder were drawn from, {"about": ..., "runs": [...]}; None where it does not say."""
    path = folder / DRAWN
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"about": dict(found["about"]), "runs": list(found["runs"])}
    except (ValueError, KeyError, TypeError) as error:
        raise StoryjaxError(f"'{path}' is damaged ({error!r}); take another folder, or remove this one") from None


def check_drawn_for(folder: Path, source: StorySource) -> None:
    """Error where the pictures of a folder were drawn for other stories than those of `source`."""
    drawn = drawn_from(folder)
    there = dict(drawn["about"].get("data", {})) if drawn else {}
    here = json.loads(json.dumps(source.fingerprint(), default=str)) if there else {}
    changed = [line for name, line in differences(there, here) if name != "size"]  # real frames may be read at any size
    if changed:
        raise StoryjaxError(f"the pictures in '{folder}' were drawn for other stories: {'; '.join(changed)}")
