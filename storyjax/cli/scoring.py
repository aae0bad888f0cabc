"""The verb that scores: `evaluate`."""

from pathlib import Path


def evaluate(
    subject: str = "cartoon",
    /,
    *,
    data: str = "cartoon_stories",
    data_dir: Path | None = None,
    split: str = "test",
    metrics: tuple[str, ...] = (),
    set: tuple[str, ...] = (),
    stories: int | None = None,
    given: int | None = None,
    size: int | None = None,
    layout: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    batch_size: int = 8,
    workdir: str | None = None,
    out: Path | None = None,
    compare: tuple[Path, ...] = (),
    distributed: str = "",
) -> None:
    """Score a model, or a folder of generated pictures, on the stories of a held-out split; or compare results.

    Args:
        subject: A model folder, the name of a model that ships, or a folder of generated pictures.
        data: A built dataset, such as pororo_sv/visualization, or a folder of your own stories.
        data_dir: Where built datasets lie.
        split: The split whose sentences are drawn.
        metrics: Such as fid clip_t char_f1, or help; default: what the shipped recogniser sees in its own world.
        set: Options of metrics, such as char_f1.classifier=runs/classifier/model.
        stories: Only the first so many; default: all of the split.
        given: Frames at the beginning that are given, 0 or 1; default: as the data say.
        size: Of the real frames, in pixels; default: that of the generated ones.
        layout: Of a folder of pictures: storyjax, storyboards, cp_csv, contextual_story, storygen; default: found out.
        steps: Sampling steps; default: the model's.
        guidance: Scale of the text guidance; default: the model's.
        seed: Of the sampling and of the intervals.
        batch_size: Stories drawn together by a process.
        workdir: Keeps what is done, so that a stopped evaluation goes on; default: under runs/evaluate.
        out: Also write the result as JSON here.
        compare: Results (evaluation.json or its folder) to put beside each other, instead of an evaluation.
        distributed: On several machines that share the work directory: auto, or HOST:PORT,COUNT,INDEX.
    """
    from storyjax.evals.registry import HELP, listing, parse_options

    if compare:
        from storyjax.evals.compare import compare as compared

        found = compared(compare, seed=seed)
        found.print()
        if out is not None:
            from storyjax.checkpoints.paths import write_whole

            write_whole(out, found.json_text())
        return
    if HELP in metrics:
        print(listing())
        return
    from storyjax.api import evaluate as evaluated
    from storyjax.parallel import distributed as processes

    processes.start(distributed)
    evaluated(
        subject,
        data=data,
        data_dir=data_dir,
        split=split,
        metrics=metrics,
        options=parse_options(set),
        stories=stories,
        given=given,
        size=size,
        layout=layout,
        steps=steps,
        guidance=guidance,
        seed=seed,
        batch_size=batch_size,
        workdir=workdir,
        out=out,
    )
