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
    """A folder as it is, a shipped model's name as its folder. A folder of that name that holds no model is not meant."""
    folder = Path(folder_or_name)
    shipped = sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()) if SHIPPED.is_dir() else []
    if str(folder_or_name) in shipped and not (folder / "model_index.json").is_file():
        return SHIPPED / str(folder_or_name)
    if folder.is_dir():
        return folder
    raise StoryjaxError(
        f"there is no model folder at '{folder_or_name}' and no shipped model of that name"
        f"{nearest(str(folder_or_name), shipped) if shipped else ''}"
    )


def generate_story(
    story: Any = None,
    *,
    sentences: Sequence[str] = (),
    model: str | Path | None = None,
    out: str | Path | None = None,
    image: str | Path | None = None,
    from_manifest: str | Path | None = None,
    seed: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    sampler: str | None = None,
    negative: str | None = None,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Draw one story into a folder and say where its pictures are (strip, gif, comic, page, manifest, story, frames).

    story: a story file or a `Story`; or `sentences`; or `from_manifest`, which brings story, model and all settings (only the
    model may be given beside it, where its folder has moved).
    image: a first picture to continue from. model: default "cartoon". seed: default 0. steps, guidance, sampler: default the
    model's own. Errors come before any drawing: bad story, bad picture, folder in use.
    """
    from storyjax.story.manifest import Manifest
    from storyjax.story.pictures import read_picture
    from storyjax.story.storyboard import check_folder, write_storyboard

    if sum(given is not None and given != () for given in (story, sentences or None, from_manifest)) != 1:
        raise StoryjaxError("expected one of: a story file, --sentences, --from-manifest")
    again = None if from_manifest is None else Manifest.read(from_manifest)
    if again is not None and from_manifest is not None:
        _refuse_beside_manifest(
            image=image, seed=seed, steps=steps, guidance=guidance, sampler=sampler, negative=negative
        )
        told = again.story(_folder_of(from_manifest))
    else:
        told = _told(story, sentences, image)
    name = str(model or (again.model if again else "cartoon"))
    folder = Path(out) if out is not None else Path("stories") / _slug(told.title or "story")
    check_folder(folder, overwrite)
    pipeline = load(name)
    size = pipeline.config.size
    first = None if told.first_picture is None else read_picture(told.first_picture, size)
    if first is not None and first.note:
        warnings.warn(first.note, stacklevel=2)
    if again is not None:
        for difference in again.differences_here(model_folder(name)):
            warnings.warn(difference, stacklevel=2)
        settings = _settings_again(again)
    else:
        settings = _settings(pipeline.config.defaults, seed, steps, guidance, sampler, negative)
    drawn = pipeline(told, image=None if first is None else first.pixels, output_type="np", **settings).images
    manifest = Manifest.of(
        told,
        model_folder(name),
        system=pipeline.system,
        height=size[0],
        width=size[1],
        **_manifest_fields(settings, continued=first is not None),
    )
    manifest = dataclasses.replace(manifest, model=name)
    return write_storyboard(folder, told, drawn, manifest, overwrite=overwrite, first_picture=first)


def _refuse_beside_manifest(**given: Any) -> None:
    """What the manifest says cannot be said otherwise: the pictures would not be the same."""
    named = [f"--{name}" for name, value in given.items() if value is not None]
    if named:
        raise StoryjaxError(
            f"the manifest brings its own settings; leave out {', '.join(named)}, or draw the story.json beside it anew"
        )


def _settings(
    defaults: Any,
    seed: int | None,
    steps: int | None,
    guidance: float | None,
    sampler: str | None,
    negative: str | None,
) -> dict[str, Any]:
    """The pipeline's arguments: what the person asked for, else what the model does best."""
    from storyjax.diffusion.samplers import Sampler

    return {
        "seed": 0 if seed is None else seed,
        "num_inference_steps": defaults.num_inference_steps if steps is None else steps,
        "guidance_scale": defaults.guidance_scale if guidance is None else guidance,
        "image_guidance_scale": defaults.image_guidance_scale,
        "guidance_rescale": defaults.guidance_rescale,
        "sampler": defaults.sampler if sampler is None else Sampler(sampler),  # type: ignore[arg-type]
        "negative_prompt": negative or "",
    }


def _settings_again(manifest: Any) -> dict[str, Any]:
    """The pipeline's arguments as a manifest keeps them; the inverse of `_manifest_fields`."""
    from storyjax.diffusion.samplers import Sampler

    scale = manifest.image_guidance_scale
    return {
        "seed": manifest.seed,
        "num_inference_steps": manifest.steps,
        "guidance_scale": manifest.guidance_scale,
        "image_guidance_scale": 1.0 if scale is None else scale,
        "guidance_rescale": manifest.guidance_rescale,
        "sampler": Sampler(manifest.sampler, manifest.options.get("eta", 0.0), manifest.options.get("karras", False)),
        "negative_prompt": manifest.negative_prompt,
    }


def _manifest_fields(settings: dict[str, Any], continued: bool) -> dict[str, Any]:
    """What a manifest keeps of the pipeline's arguments."""
    from storyjax.diffusion.guidance import Guidance

    scale, sampler = settings["image_guidance_scale"] if continued else 1.0, settings["sampler"]
    form = Guidance(settings["guidance_scale"], scale).form
    return {
        "seed": settings["seed"],
        "steps": settings["num_inference_steps"],
        "sampler": sampler.name,
        "guidance": form,
        "guidance_scale": float(settings["guidance_scale"]),
        "image_guidance_scale": scale if form == "both" else None,
        "guidance_rescale": settings["guidance_rescale"],
        "negative_prompt": settings["negative_prompt"],
        "options": {"eta": sampler.eta, "karras": sampler.karras},
    }


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

    A stopped run continues in `workdir`; default: runs/evaluate/<name of the model>-<start of its hash>.
    """
    import json

    import numpy as np

    from storyjax.checkpoints.folder import model_hash
    from storyjax.data import open_source
    from storyjax.evals.recogniser import load_recogniser
    from storyjax.evals.story_evaluator import StoryEvaluator

    pipeline, folder = load(model), model_folder(model)
    config, digest = pipeline.config, model_hash(folder)
    if out is not None:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
    source = open_source(data, split, data_dir=data_dir, size=config.size, frames=config.story.frames)
    settings = {
        "num_inference_steps": config.defaults.num_inference_steps if steps is None else steps,
        "guidance_scale": config.defaults.guidance_scale if guidance is None else guidance,
    }

    def generate(told: list[list[str]], key: Any) -> np.ndarray:
        import jax

        seeds = [int(s) for s in jax.random.randint(key, (len(told),), 0, 2**31 - 1)]
        return np.stack(pipeline(told, seed=seeds, output_type="np", **settings).images)

    evaluator = StoryEvaluator(source, load_recogniser(recogniser), stories=stories, batch_size=batch_size, seed=seed)
    place = Path(workdir) if workdir else Path("runs") / "evaluate" / f"{folder.name}-{digest[:8]}"
    evaluation = evaluator.run(generate, place, model_hash=digest, settings=settings, progress=progress)
    evaluation.print()
    if out is not None:
        Path(out).write_text(json.dumps(evaluation.to_json(), indent=1) + "\n")
    return evaluation
