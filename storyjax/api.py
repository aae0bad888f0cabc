"""The public functions behind the command: load a model, draw a story into a folder, score a model.

pipeline = storyjax.load("cartoon")
frames = pipeline(["One night, Poppy reads a book in the forest.", ...]).images
"""

import dataclasses
import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from storyjax.config import nearest
from storyjax.errors import StoryjaxError

SHIPPED = Path(__file__).parent / "shipped"
EXAMPLES = Path(__file__).parents[1] / "examples"


def load(folder_or_name: str | Path = "cartoon") -> Any:
    """The pipeline of a model folder, or of a model that ships with storyjax ("cartoon").

    Errors: no such folder or name (naming the nearest), a folder that is no model, a missing or damaged file.
    """
    from storyjax.checkpoints.folder import model_index

    folder = model_folder(folder_or_name)
    system = model_index(folder).get("system")
    if system not in ("contextual_story",):
        raise StoryjaxError(f"'{folder}' holds a model of system '{system}', which this storyjax cannot draw with")
    module = importlib.import_module(f"storyjax.systems.{system}.pipeline")
    return module.Pipeline.load(folder)


def model_folder(folder_or_name: str | Path) -> Path:
    """A folder as it is, a shipped model's name as its folder."""
    folder = Path(folder_or_name)
    if folder.is_dir():
        return folder
    shipped = sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()) if SHIPPED.is_dir() else []
    if str(folder_or_name) in shipped:
        return SHIPPED / str(folder_or_name)
    raise StoryjaxError(
        f"there is no model folder at '{folder_or_name}' and no shipped model of that name"
        f"{nearest(str(folder_or_name), shipped) if shipped else ''}"
    )


def generate_story(
    story: Any = None,
    *,
    sentences: Sequence[str] = (),
    model: str | Path = "cartoon",
    out: str | Path | None = None,
    image: str | Path | None = None,
    from_manifest: str | Path | None = None,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    sampler: str | None = None,
    negative: str = "",
    overwrite: bool = False,
) -> dict[str, Path]:
    """Draw one story into a folder and say where its pictures are (strip, gif, comic, page, manifest, story, frames).

    story: a story file or a `Story`; or `sentences`; or `from_manifest`, which brings story, model and all settings.
    image: a first picture to continue from. Errors come before any drawing: bad story, bad picture, folder in use.
    """
    from storyjax.story.manifest import Manifest
    from storyjax.story.pictures import read_picture
    from storyjax.story.storyboard import check_folder, write_storyboard

    if sum(given is not None and given != () for given in (story, sentences or None, from_manifest)) != 1:
        raise StoryjaxError("expected one of: a story file, --sentences, --from-manifest")
    if from_manifest is not None:
        again = Manifest.read(from_manifest)
        told = again.story(_folder_of(from_manifest))
        model, seed, steps, guidance = again.model, again.seed, again.steps, again.guidance_scale
        sampler, negative = again.sampler, again.negative_prompt
    else:
        told = _told(story, sentences, image)
        again = None
    folder = Path(out) if out is not None else Path("stories") / _slug(told.title or "story")
    check_folder(folder, overwrite)
    pipeline = load(model)
    first = None if told.first_picture is None else read_picture(told.first_picture, pipeline.config.size)
    if first is not None and first.note:
        warnings.warn(first.note, stacklevel=2)
    if again is not None:
        for difference in again.differences_here(model_folder(model)):
            warnings.warn(difference, stacklevel=2)
    defaults = pipeline.config.defaults
    settings = {
        "seed": seed,
        "steps": steps or defaults.num_inference_steps,
        "sampler": sampler or defaults.sampler.name,
        "guidance_scale": defaults.guidance_scale if guidance is None else guidance,
    }
    drawn = pipeline(
        told,
        image=None if first is None else first.pixels,
        negative_prompt=negative,
        num_inference_steps=settings["steps"],
        guidance_scale=settings["guidance_scale"],
        sampler=settings["sampler"],
        seed=seed,
        output_type="np",
    ).images
    height, width = pipeline.config.size
    manifest = Manifest.of(
        told,
        model_folder(model),
        system=pipeline.system,
        guidance="text" if settings["guidance_scale"] > 1 else "none",
        negative_prompt=negative,
        height=height,
        width=width,
        **settings,
    )
    manifest = dataclasses.replace(manifest, model=str(model))
    return write_storyboard(folder, told, drawn, manifest, overwrite=overwrite, first_picture=first)


def _told(story: Any, sentences: Sequence[str], image: str | Path | None) -> Any:
    """The story to draw, with its first picture if one is given."""
    from storyjax.story.story import Story, story_from_sentences
    from storyjax.story.story_file import load_story, with_first_picture

    if sentences:
        return story_from_sentences(list(sentences), first_picture=None if image is None else str(image))
    told = story if isinstance(story, Story) else load_story(story)
    return told if image is None else with_first_picture(told, str(image))


def _folder_of(manifest: str | Path) -> Path:
    path = Path(manifest)
    return path if path.is_dir() else path.parent


def _slug(title: str) -> str:
    """A folder name from a title: letters, digits and underscores."""
    words = "".join(c if c.isalnum() else " " for c in title.lower()).split()
    return "_".join(words) or "story"


def evaluate_model(
    model: str | Path = "cartoon",
    *,
    data: str = "cartoon_stories",
    data_dir: str | Path | None = None,
    split: str = "test",
    stories: int = 500,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    batch_size: int = 8,
    recogniser: str | Path = "cartoon",
    workdir: str | Path | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Any:
    """Score frames drawn for held-out stories; prints the table and returns the `Evaluation`.

    A stopped run continues in `workdir`.
    """
    import json

    import numpy as np

    from storyjax.checkpoints.folder import model_hash
    from storyjax.data import open_source
    from storyjax.evals.recogniser import load_recogniser
    from storyjax.evals.story_evaluator import StoryEvaluator

    pipeline, folder = load(model), model_folder(model)
    config = pipeline.config
    source = open_source(data, split, data_dir=data_dir, size=config.size, frames=config.story.frames)
    settings = {
        "num_inference_steps": steps or config.defaults.num_inference_steps,
        "guidance_scale": config.defaults.guidance_scale if guidance is None else guidance,
    }

    def generate(told: list[list[str]], key: Any) -> np.ndarray:
        import jax

        seeds = [int(s) for s in jax.random.randint(key, (len(told),), 0, 2**31 - 1)]
        return np.stack(pipeline(told, seed=seeds, output_type="np", **settings).images)

    evaluator = StoryEvaluator(source, load_recogniser(recogniser), stories=stories, batch_size=batch_size, seed=seed)
    place = Path(workdir) if workdir else Path("runs") / "evaluate" / folder.name
    evaluation = evaluator.run(generate, place, model_hash=model_hash(folder), settings=settings, progress=progress)
    evaluation.print()
    if out is not None:
        Path(out).write_text(json.dumps(evaluation.to_json(), indent=1) + "\n")
    return evaluation
