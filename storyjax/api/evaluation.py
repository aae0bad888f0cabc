"""Score a model, or a folder of pictures, against held-out stories."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from storyjax.api.models import SHIPPED, load, model_folder, require_stories
from storyjax.api.stories import slug
from storyjax.errors import StoryjaxError


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

    subject: a model as for `load`, whose stories are drawn first; or a folder of pictures (layout: which of
    `storyjax.evals.sources.layouts`).
    metrics: by name; default: what the shipped recogniser sees, where it knows the data. options: metric -> what it is opened with.
    stories: the first so many; default: all. given: how many first frames are given (0 or 1); default: as the data say.
    size: of the real frames in pixels; default: the generated ones'. batch_size: stories drawn together.
    workdir: where a stopped run goes on; default: runs/evaluate/<subject>-<start of its hash>-<data>-<split>. out: another copy of
    the result's JSON.
    """
    from storyjax.checkpoints.paths import local, name_of, write_whole
    from storyjax.data import open_source
    from storyjax.evals.registry import open_metrics
    from storyjax.evals.sources.drawing import draw_stories
    from storyjax.evals.sources.picture_folders import PictureFolder
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
    place = place or Path("runs") / "evaluate" / f"{called}-{slug(source.name)}-{slug(split)}"
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

    require_stories(model)
    several = jax.local_device_count() > 1
    pipeline = load(model, mesh=make_mesh("data=-1", jax.local_devices()) if several else None)
    return StoryDrawer(pipeline, steps, guidance), weights_hash(recognise(model_folder(model)))
