"""Do characters stay themselves over fifty frames? Long cartoon stories are drawn by a model of five frames, and a recogniser reads
the first and the last ten frames of each: Char-F1, Frm-Acc, place and weather, with 95 % bootstrap intervals over stories.

    python -m benchmarks.long_stories --stories 20
    python -m benchmarks.long_stories --ways windows windows,anchors=1 windows,captions=window chain chain,captions=window

Every story is kept in the work directory as soon as it is read, so a stopped run goes on where it was.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from storyjax.api import load, model_folder
from storyjax.checkpoints.folder import model_hash
from storyjax.config import nearest
from storyjax.data.labels import Labels
from storyjax.errors import StoryjaxError
from storyjax.evals.metrics.counts import story_metrics, summary
from storyjax.evals.metrics.readings import StoryLog, labels_of, names_of
from storyjax.evals.networks.recogniser import Recogniser, load_recogniser
from storyjax.systems.contextual_story.long_story import LongStory
from tfds_builders.cartoon_stories.grammar import Story, plan_story

METRICS = ("char_f1", "frm_acc", "place_acc", "weather_acc", "action_acc")


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    model: str = "cartoon"
    ways: tuple[str, ...] = ("windows", "chain")  # a method, then settings of `LongStory`: windows,anchors=1
    stories: int = 20
    frames: int = 50
    ends: int = 10  # frames at the beginning and at the end that are compared
    steps: int | None = None  # default: the model's
    seed: int = 0
    workdir: Path = Path("runs/long_stories")


def way_of(text: str) -> LongStory:
    """A way to draw from its text. Errors: a setting that does not exist or does not fit."""
    method, *settings = text.split(",")
    known = {field.name: field.type for field in dataclasses.fields(LongStory)}
    chosen: dict[str, Any] = {}
    for name, _, value in (setting.partition("=") for setting in settings):
        if name not in known:
            raise StoryjaxError(f"'{text}': a long story has no setting '{name}'{nearest(name, list(known))}")
        chosen[name] = int(value) if value.isdigit() else value
    return LongStory(method=method, **chosen)  # type: ignore[arg-type]  # LongStory says what is wrong


def truth_of(story: Story, labels: Labels) -> dict[str, np.ndarray]:
    """What is in each of the F frames, as `story_metrics` takes it."""
    scenes = [frame.scene for frame in story.frames]
    names = {"characters": [list(scene.characters) for scene in scenes]}
    names |= {kind: [getattr(scene, kind) for scene in scenes] for kind in ("place", "weather", "action")}
    told = {name: np.array([getattr(f, name) for f in story.frames]) for name in ("names_characters", "names_place")}
    return labels_of(names, labels) | told


def read_stories(options: Options, way: str, recogniser: Recogniser) -> list[dict[str, np.ndarray]]:
    """What the recogniser sees in every story drawn this way, labels (F, ...); drawn only where it is not known yet."""
    long, pipeline = way_of(way), load(options.model)
    told = {name: value for name, value in dataclasses.asdict(options).items() if name in ("frames", "steps", "seed")}
    told |= {"way": way, "model_hash": model_hash(model_folder(options.model)), "recogniser": recogniser.hash}
    log = StoryLog(options.workdir / way, told)
    for index in tqdm(range(options.stories), desc=way, unit="story"):
        if log.has(range(index, index + 1)):
            continue
        sentences = [frame.sentence for frame in plan_story("test", index, options.frames).frames]
        drawn = pipeline(
            sentences, seed=options.seed + index, num_inference_steps=options.steps, long=long, output_type="np"
        )
        reading = recogniser.read(np.asarray(drawn.images))
        log.add({index: {"seen": names_of(reading, slice(0, options.frames), recogniser.labels)}})
    return [labels_of(log[index]["seen"], recogniser.labels) for index in range(options.stories)]


def states_of(seen: Sequence[dict], truth: Sequence[dict], part: slice) -> list[Any]:
    """The state of all metrics on some frames of each story."""
    cut = [tuple({name: value[part] for name, value in side.items()} for side in pair) for pair in zip(seen, truth)]
    return [story_metrics(read, said) for read, said in cut]


def difference(first: Sequence[Any], last: Sequence[Any], seed: int = 0, resamples: int = 1000) -> tuple[float, ...]:
    """Char-F1 of the last frames minus that of the first, with the ends of its 95 % interval over stories."""
    counts = np.array([[state.char_f1__all.counts() for state in side] for side in (first, last)], float)  # (2, S, 2)
    chosen = np.random.default_rng(seed).integers(0, counts.shape[1], (resamples, counts.shape[1]))
    sums = np.concatenate([counts.sum(1)[:, None], counts[:, chosen].sum(2)], axis=1)  # (2, 1 + resamples, 2)
    gaps = np.subtract(*(sums[..., 0] / sums[..., 1])[::-1])
    return float(gaps[0]), *(float(x) for x in np.quantile(gaps[1:], [0.025, 0.975]))


def main(options: Options) -> None:
    console, recogniser = Console(), load_recogniser("cartoon")
    truth = [truth_of(plan_story("test", i, options.frames), recogniser.labels) for i in range(options.stories)]
    parts = {"first": slice(0, options.ends), "last": slice(options.frames - options.ends, None), "all": slice(None)}
    table = Table("way", "frames", *METRICS, title=f"{options.stories} stories of {options.frames} frames")
    for way in options.ways:
        seen = read_stories(options, way, recogniser)
        states = {name: states_of(seen, truth, part) for name, part in parts.items()}
        for name, part in states.items():
            found = summary(part)
            table.add_row(way, name, *(_shown(**found[metric]["all"]) for metric in METRICS))
        gap, low, high = difference(states["first"], states["last"])
        table.add_row(way, "last - first", f"{gap:+.3f} [{low:+.3f}, {high:+.3f}]")
    console.print(table)


def _shown(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main(tyro.cli(Options))
