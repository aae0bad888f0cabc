"""Draw a story into a folder, or draw again what a manifest says."""

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from storyjax.api.models import load, model_folder, require_stories
from storyjax.errors import StoryjaxError


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
    method: str | None = None,
    overlap: int | None = None,
    anchors: int | None = None,
    windows_at_once: int | None = None,
    mesh: Any = None,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Draw one story into a folder and say where its pictures are (strip, gif, comic, page, manifest, story, frames).

    story: a story file or a `Story`; or `sentences`; or `from_manifest`, which brings story, model and all settings (only the
    model may be given beside it, where its folder has moved).
    image: a first picture to continue from. model: default "cartoon". seed: default 0. steps, guidance, sampler: default the
    model's own. method, overlap, anchors, windows_at_once: how a story of more frames than the model's is drawn
    (`storyjax.systems.contextual_story.long_story.LongStory`). mesh: as for `load`; default: all devices, where there are several.
    Errors come before any drawing: bad story, bad picture, folder in use.
    """
    from storyjax.story.manifest import Manifest
    from storyjax.story.pictures import read_picture
    from storyjax.story.storyboard import check_folder, write_storyboard

    if sum(given is not None and given != () for given in (story, sentences or None, from_manifest)) != 1:
        raise StoryjaxError("expected one of: a story file, --sentences, --from-manifest")
    asked = {"method": method, "overlap": overlap, "anchors": anchors, "windows_at_once": windows_at_once}
    again = None if from_manifest is None else Manifest.read(from_manifest)
    if again is not None and from_manifest is not None:
        _refuse_beside_manifest(
            image=image,
            seed=seed,
            steps=steps,
            guidance=guidance,
            sampler=sampler,
            negative=negative,
            **asked,
        )
        told = again.story(_folder_of(from_manifest))
    else:
        told = _told(story, sentences, image)
    extra = _long(asked) if again is None else {}
    name = str(model or (again.model if again else "cartoon"))
    folder = Path(out) if out is not None else Path("stories") / slug(told.title or "story")
    check_folder(folder, overwrite)
    require_stories(name)
    pipeline = load(name, mesh=_all_devices() if mesh is None else mesh)
    size = pipeline.config.size
    first = None if told.first_picture is None else read_picture(told.first_picture, size)
    if first is not None and first.note:
        warnings.warn(first.note, stacklevel=2)
    if again is not None:
        for difference in again.differences_here(model_folder(name)):
            warnings.warn(difference, stacklevel=2)
        settings = _settings_again(again)
    else:
        settings = _settings(pipeline.config.defaults, seed, steps, guidance, sampler, negative) | extra
    output = pipeline(told, image=None if first is None else first.pixels, output_type="np", **settings)
    for note in output.notes:
        warnings.warn(note, stacklevel=2)
    manifest = Manifest.of(
        told,
        model_folder(name),
        system=pipeline.system,
        height=size[0],
        width=size[1],
        **_manifest_fields(settings, continued=first is not None, long=len(told.frames) > pipeline.config.story.frames),
    )
    manifest = dataclasses.replace(manifest, model=name)
    return write_storyboard(folder, told, output.images, manifest, overwrite=overwrite, first_picture=first)


def _refuse_beside_manifest(**given: Any) -> None:
    """What the manifest says cannot be said otherwise: the pictures would not be the same."""
    named = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
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


def _all_devices() -> str | None:
    """The mesh of a machine with several devices: stories and windows are divided over all of them."""
    import jax

    return "data=-1" if jax.device_count() > 1 else None


def _long(asked: dict[str, Any]) -> dict[str, Any]:
    """The pipeline's argument for long stories, what was not asked for by default."""
    from storyjax.systems.contextual_story.long_story import LongStory

    return {"long": LongStory(**{name: value for name, value in asked.items() if value is not None})}


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
    } | _long(_long_options(manifest.options))


def _long_options(options: dict[str, Any]) -> dict[str, Any]:
    """Those of a manifest's options that say how a long story was drawn."""
    from storyjax.systems.contextual_story.long_story import LongStory

    return {field.name: options.get(field.name) for field in dataclasses.fields(LongStory)}


def _manifest_fields(settings: dict[str, Any], continued: bool, long: bool) -> dict[str, Any]:
    """What a manifest keeps of the pipeline's arguments; how long stories are drawn only of a long one."""
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
        "options": {"eta": sampler.eta, "karras": sampler.karras}
        | (dataclasses.asdict(settings["long"]) if long else {}),
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


def slug(title: str) -> str:
    """A folder name from a title: letters, digits and underscores."""
    words = "".join(c if c.isalnum() else " " for c in title.lower()).split()
    return "_".join(words) or "story"
