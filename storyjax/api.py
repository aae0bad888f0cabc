"""The public functions behind the command: load a model, draw a story into a folder, score a model.

pipeline = storyjax.load("cartoon")
frames = pipeline(["One night, Poppy reads a book in the forest.", ...]).images
"""

import dataclasses
import importlib
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from storyjax.config import nearest
from storyjax.errors import StoryjaxError

SHIPPED = Path(__file__).parent / "shipped"
EXAMPLES = Path(__file__).parents[1] / "examples"
STORY_SYSTEMS = ("contextual_story",)
HUB_NAME = re.compile(r"\w[\w.-]*/[\w./-]+")  # "org/name" or "org/name/file", unless a folder "org" lies here


def load(
    model: str | Path = "cartoon",
    *,
    dtype: Any = "float32",
    variant: str | None = None,
    revision: str | None = None,
    ema: bool = False,
    prediction: str | None = None,
    tokenizer: str | Path | None = None,
    sharding: Any = None,
    allow_unused: Sequence[str] = (),
    mesh: Any = None,
) -> Any:
    """The pipeline of a model: one that ships ("cartoon"), a folder (ours or diffusers'), a single Stable Diffusion file, a
    Hugging Face Hub name ("org/name"), or a folder in a bucket ("gs://bucket/model").

    dtype: of the parameters, "float32", "bfloat16" or "float16". sharding: (dotted path, shape) -> jax.sharding.Sharding; each
    parameter is created once, in its dtype, where it says. mesh: devices that share the work of drawing a story, a
    jax.sharding.Mesh or its text ("data=8"). The rest: as `storyjax.convert`.

    Errors: nothing of that name (naming the nearest), no model, one that no system here reads, a missing or damaged file.
    """
    from storyjax.weights.finite import dtype_named
    from storyjax.weights.layouts import recognise

    wanted = dtype_named(dtype) if isinstance(dtype, str) else dtype
    place = model_folder(model, variant=variant, revision=revision)
    checkpoint = recognise(place, variant=variant, ema=ema, prediction=prediction, tokenizer=tokenizer)
    module = importlib.import_module(f"storyjax.systems.{checkpoint.system.name}.pipeline")
    if mesh is not None and checkpoint.system.name not in STORY_SYSTEMS:
        raise StoryjaxError(
            f"'{model}' draws single pictures, on one device; leave mesh out, or place its parameters by sharding"
        )
    shared = {} if mesh is None else {"mesh": _mesh_of(mesh)}
    return module.Pipeline.of(checkpoint, dtype=wanted, sharding=sharding, allow_unused=allow_unused, **shared)


def _require_stories(model: str | Path) -> None:
    """Raise, before gigabytes are read, unless the model draws stories."""
    from storyjax.weights.layouts import recognise

    system = recognise(model_folder(model)).system.name
    if system not in STORY_SYSTEMS:
        raise StoryjaxError(
            f"'{model}' is a model of system '{system}', which draws single pictures; use `storyjax image`, or a story model here"
        )


def _mesh_of(mesh: Any) -> Any:
    """A mesh from its text."""
    from storyjax.parallel.mesh import make_mesh

    return make_mesh(mesh) if isinstance(mesh, str) else mesh


def model_folder(model: str | Path, *, variant: str | None = None, revision: str | None = None) -> Path:
    """Where a model lies: a path as it is, a shipped model's name as its folder, a hub name or a gs:// address as what
    was downloaded of it.

    A folder of a shipped model's name that holds no model is not meant.
    """
    from storyjax.checkpoints.paths import is_local
    from storyjax.checkpoints.remote import fetched

    if not is_local(model):
        return fetched(model)
    path = Path(model)
    shipped = sorted(folder.name for folder in SHIPPED.iterdir() if folder.is_dir()) if SHIPPED.is_dir() else []
    if str(model) in shipped and not (path / "model_index.json").is_file():
        return SHIPPED / str(model)
    if path.exists():
        return path
    if HUB_NAME.fullmatch(str(model)) and not Path(path.parts[0]).is_dir():
        from storyjax.weights.hub import locate

        return locate(str(model), revision=revision, variant=variant)
    raise StoryjaxError(
        f"there is no model folder at '{model}' and no shipped model of that name"
        f"{nearest(str(model), shipped) if shipped else ''}"
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
    folder = Path(out) if out is not None else Path("stories") / _slug(told.title or "story")
    check_folder(folder, overwrite)
    _require_stories(name)
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


def _slug(title: str) -> str:
    """A folder name from a title: letters, digits and underscores."""
    words = "".join(c if c.isalnum() else " " for c in title.lower()).split()
    return "_".join(words) or "story"


def evaluate(
    subject: str | Path = "cartoon",
    *,
    data: str | Path = "cartoon_stories",
    data_dir: str | Path | None = None,
    split: str = "test",
    metrics: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    stories: int | None = None,
    given: int | None = None,
    size: int | None = None,
    layout: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    batch_size: int = 8,
    workdir: str | Path | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Any:
    """Score a model, or a folder of generated pictures, on the stories of a split; prints tables and returns the `Evaluation`.

    subject: a model as for `load`, whose stories are drawn first; or a folder in one of `storyjax.evals.layouts` (layout: which).
    metrics: by name; default: what the shipped recogniser sees, where it knows the data. options: metric -> what it is opened with.
    stories: the first so many; default: all. given: how many first frames are given (0 or 1); default: as the data say.
    size: of the real frames in pixels; default: the generated ones'. batch_size: stories drawn together.
    workdir: where a stopped run goes on; default: runs/evaluate/<subject>-<start of its hash>-<data>-<split>. out: another copy of
    the result's JSON.
    """
    from storyjax.checkpoints.paths import local, name_of, write_whole
    from storyjax.data import open_source
    from storyjax.evals.drawing import draw_stories
    from storyjax.evals.picture_folders import PictureFolder
    from storyjax.evals.registry import open_metrics
    from storyjax.evals.story_evaluator import StoryEvaluator
    from storyjax.parallel.processes import speaks
    from storyjax.story.manifest import device_here, versions_here

    place = None if workdir is None else local(workdir, "the work directory of an evaluation")
    chosen = open_metrics(metrics, options)
    about: dict[str, Any] = {"versions": versions_here(), "device": device_here()}
    drawer: Any = None
    pictures: PictureFolder | None = None
    opened: dict[str, Any] = {"data_dir": data_dir}
    if _is_pictures(subject):
        pictures = PictureFolder(subject, layout)
        frames = pictures.frames_per_story
        opened |= {"size": size or pictures.size, "frames": frames, "any_length": frames is None}
        called = name_of(Path(subject).resolve())
    else:
        drawer, digest = _story_drawer(subject, steps, guidance)
        config = drawer.pipeline.config
        opened |= {"size": size or config.size, "frames": config.story.frames}
        called = f"{model_folder(subject).name}-{digest[:8]}"
        about |= {"settings": drawer.settings, "model_hash": digest}
    source = open_source(data, split, **opened)
    source.given = source.given if given is None else given
    evaluator = StoryEvaluator(source, chosen, stories, seed, options=options or {})
    try:
        evaluator.check()
    except StoryjaxError as error:
        hint = (
            "" if metrics else "; for other data say what to measure by --metrics (--metrics help lists what there is)"
        )
        raise StoryjaxError(f"{error}{hint}") from None
    place = place or Path("runs") / "evaluate" / f"{called}-{_slug(source.name)}-{_slug(split)}"
    if pictures is None:
        drawer.check(source)
        told = {"model_hash": about["model_hash"], "settings": drawer.settings}
        counted = {"stories": stories, "batch_size": batch_size, "seed": seed, "progress": progress}
        pictures = PictureFolder(draw_stories(source, drawer, place / "pictures", about=told, **counted))
        pictures.about |= {"name": str(subject)}
    found = evaluator.run(pictures.of(source), place, about=about, progress=progress)
    if speaks():
        found.print()
        if out is not None:
            Path(out).parent.mkdir(parents=True, exist_ok=True)
            write_whole(out, found.json_text())
    return found


def _is_pictures(subject: str | Path) -> bool:
    """Whether it is a folder of pictures, not a model."""
    path = Path(subject)
    shipped = SHIPPED / str(subject) / "model_index.json"
    return path.is_dir() and not (path / "model_index.json").is_file() and not shipped.is_file()


def _story_drawer(model: str | Path, steps: int | None, guidance: float | None) -> tuple[Any, str]:
    """What draws stories with a model on the devices of this process, and the hash of its weights."""
    import jax

    from storyjax.parallel.mesh import make_mesh
    from storyjax.systems.contextual_story.evaluation import StoryDrawer
    from storyjax.weights.checkpoint import weights_hash
    from storyjax.weights.layouts import recognise

    _require_stories(model)
    several = jax.local_device_count() > 1
    pipeline = load(model, mesh=make_mesh("data=-1", jax.local_devices()) if several else None)
    return StoryDrawer(pipeline, steps, guidance), weights_hash(recognise(model_folder(model)))


def generate_image(
    prompt: str,
    *,
    model: str | Path,
    out: str | Path | None = None,
    images: int = 1,
    negative: str | None = None,
    image: str | Path | None = None,
    mask: str | Path | None = None,
    height: int | None = None,
    width: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    guidance_rescale: float | None = None,
    sampler: str | None = None,
    seed: int = 0,
    dtype: str | None = None,
    variant: str | None = None,
    revision: str | None = None,
    ema: bool = False,
    prediction: str | None = None,
    tokenizer: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Draw pictures of a prompt with a Stable Diffusion model, write them as PNG files and say where they are.

    model: as for `load`. out: a .png; several are numbered (fox-1.png, ...); default: images/<the prompt's words>.png. images: how
    many, with the seeds n, n + 1, ... image, mask: for inpainting models, files: the picture, and white where to paint anew.
    dtype: of the networks; default: bfloat16 on an accelerator, float32 on a CPU. variant, revision, ema, prediction, tokenizer: as
    for `load`. The rest: the model's own where None.

    Each file's text fields (`storyjax.story.picture_files.read_said`) hold prompt, seed, settings and the SHA-256 of the model's
    weights. Errors come before any drawing: a file that exists (without `overwrite`), a model of another system, a bad setting.
    """
    import jax
    from tqdm import tqdm

    from storyjax.diffusion.samplers import Sampler
    from storyjax.story.picture_files import check_free, picture_paths, write_picture
    from storyjax.systems.stable_diffusion.pipeline import StableDiffusionPipeline
    from storyjax.weights.checkpoint import weights_hash
    from storyjax.weights.finite import dtype_named
    from storyjax.weights.layouts import recognise

    if images < 1:
        raise StoryjaxError(f"expected at least 1 picture, got images={images}")
    if sampler is not None:
        Sampler(sampler)  # type: ignore[arg-type]  # a wrong name is told before gigabytes are read
    paths = picture_paths(Path("images") / f"{_slug(prompt)[:60]}.png" if out is None else out, images)
    check_free(paths, overwrite)
    place = model_folder(model, variant=variant, revision=revision)
    checkpoint = recognise(place, variant=variant, ema=ema, prediction=prediction, tokenizer=tokenizer)
    if checkpoint.system.name != "stable_diffusion":
        raise StoryjaxError(
            f"'{model}' is a model of system '{checkpoint.system.name}', which draws stories; use `storyjax generate`, or a "
            "Stable Diffusion model here"
        )
    chosen = dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    pipeline = StableDiffusionPipeline.of(checkpoint, dtype=dtype_named(chosen))
    settings = {
        "negative_prompt": negative,
        "image": image,
        "mask_image": mask,
        "height": height,
        "width": width,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "guidance_rescale": guidance_rescale,
        "sampler": sampler,
    }
    said = _said_of_picture(pipeline.config, prompt, settings) | {
        "dtype": chosen,
        "model": str(model),
        "model_hash": weights_hash(checkpoint),
    }
    for i, path in enumerate(tqdm(paths, desc="drawing", unit="picture", disable=not progress)):
        drawn = pipeline(prompt, seed=seed + i, output_type="np", **settings)
        for note in drawn.notes if i == 0 else ():
            warnings.warn(note, stacklevel=2)
        write_picture(path, drawn.images[0], said | {"seed": str(seed + i)})
    return paths


def _said_of_picture(config: Any, prompt: str, settings: dict[str, Any]) -> dict[str, str]:
    """What a picture file says of how it was made: every setting as it was used."""
    from storyjax import __version__
    from storyjax.config import to_json

    used = {
        name: getattr(config.defaults, name) for name in ("num_inference_steps", "guidance_scale", "guidance_rescale")
    }
    used |= {"height": config.size[0], "width": config.size[1], "sampler": config.defaults.sampler}
    used |= {name: value for name, value in settings.items() if value is not None}
    sampler = used.pop("sampler")
    if not isinstance(sampler, str):
        set_options = {name: value for name, value in to_json(sampler).items() if name != "name" and value}
        sampler = " ".join([sampler.name, *(f"{name}={value}" for name, value in set_options.items())])
    used = {"steps" if name == "num_inference_steps" else name: str(value) for name, value in used.items()}
    return {"prompt": prompt, **used, "sampler": sampler, "software": f"storyjax {__version__}"}
