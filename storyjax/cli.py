"""The command `storyjax`. Every verb is a thin shell around a public function; mistakes become one line."""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from storyjax.errors import StoryjaxError

app = tyro.extras.SubcommandApp()
data_app = tyro.extras.SubcommandApp()
app.command(data_app, name="data", help="Data sets: build one, check a copy of one before that.")

# Those of storyjax.diffusion.samplers, which takes long to import.
SamplerName = Literal["ddim", "plms", "euler", "euler_a", "dpm++"]


@app.command
def generate(
    story: Annotated[Path | None, arg(name="story")] = None,
    /,
    *,
    sentences: tuple[str, ...] = (),
    model: str | None = None,
    out: Path | None = None,
    image: Path | None = None,
    from_manifest: Path | None = None,
    seed: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    sampler: SamplerName | None = None,
    negative: str | None = None,
    method: Literal["windows", "chain"] | None = None,
    overlap: int | None = None,
    anchors: int | None = None,
    windows_at_once: int | None = None,
    mesh: str | None = None,
    overwrite: bool = False,
) -> None:
    """Draw a story: a strip, a comic page, a GIF, a web page and the manifest that makes it again.

    Args:
        story: A story file (JSON or YAML).
        sentences: The sentences themselves, one for each frame (1 to 1,000), instead of a file.
        model: A model folder, or the name of a model that ships; default: cartoon.
        out: Where to write; default: stories/<name of the story>.
        image: A first picture to continue from (story continuation).
        from_manifest: Draw again what this manifest (or the folder it lies in) says, with all its settings.
        seed: The same seed gives the same pictures; default: 0.
        steps: Sampling steps; default: the model's.
        guidance: Scale of the text guidance; default: the model's.
        sampler: Sampling method; default: the model's.
        negative: What should not be seen.
        method: For stories longer than the model's: windows (default; all frames together) or chain (one part after the other).
        overlap: Frames that neighbouring windows share; default: every frame is in two.
        anchors: Earlier frames that each window sees besides its own; default: 0.
        windows_at_once: Windows that a device denoises at a time; fewer take less memory; default: 8.
        mesh: Devices that share the work, such as data=4; default: all.
        overwrite: Replace an earlier storyboard in the same folder.
    """
    from storyjax.api import generate_story

    paths = generate_story(
        story,
        sentences=sentences,
        model=model,
        out=out,
        image=image,
        from_manifest=from_manifest,
        seed=seed,
        steps=steps,
        guidance=guidance,
        sampler=sampler,
        negative=negative,
        method=method,
        overlap=overlap,
        anchors=anchors,
        windows_at_once=windows_at_once,
        mesh=mesh,
        overwrite=overwrite,
    )
    width = max(map(len, paths))
    for name, path in paths.items():
        print(f"{name:<{width}}  {path}")


@app.command
def image(
    prompt: Positional[str],
    /,
    *,
    model: str,
    out: Path | None = None,
    images: int = 1,
    negative: str | None = None,
    image: Path | None = None,
    mask: Path | None = None,
    height: int | None = None,
    width: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    guidance_rescale: float | None = None,
    sampler: SamplerName | None = None,
    seed: int = 0,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    variant: str | None = None,
    revision: str | None = None,
    ema: bool = False,
    prediction: Literal["epsilon", "v_prediction"] | None = None,
    tokenizer: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Draw a picture of a prompt with Stable Diffusion 1.x, 2.x or XL: `storyjax image "a fox in the snow" --model FOLDER`.

    Args:
        prompt: What should be seen.
        model: A Stable Diffusion model: a diffusers or storyjax folder, a single checkpoint file, or a Hugging Face Hub name.
        out: The picture file, ending in .png; default: images/<words of the prompt>.png.
        images: How many pictures, with the seeds that follow each other.
        negative: What should not be seen.
        image: For inpainting models: the picture to paint in.
        mask: For inpainting models: a picture that is white where to paint anew.
        height: In pixels, a multiple of 8; default: the model's.
        width: In pixels, a multiple of 8; default: the model's.
        steps: Sampling steps; default: 50.
        guidance: Scale of the text guidance; default: the model's.
        guidance_rescale: Share (0..1) of the guided contrast that is set back; default: 0.
        sampler: Sampling method; default: the checkpoint's own.
        seed: The same seed gives the same picture.
        dtype: Of the networks; default: bfloat16 on an accelerator, float32 on a CPU.
        variant: Which of several weight files of a folder, such as fp16.
        revision: Branch, tag or commit of a model on the hub.
        ema: The averaged weights of a single file that has both.
        prediction: What a single file's UNet predicts, where the file does not say.
        tokenizer: A folder with CLIP's tokenizer for a single file, which has none; default: from the hub.
        overwrite: Replace a picture file that exists.
    """
    from storyjax.api import generate_image

    paths = generate_image(
        prompt,
        model=model,
        out=out,
        images=images,
        negative=negative,
        image=image,
        mask=mask,
        height=height,
        width=width,
        steps=steps,
        guidance=guidance,
        guidance_rescale=guidance_rescale,
        sampler=sampler,
        seed=seed,
        dtype=dtype,
        variant=variant,
        revision=revision,
        ema=ema,
        prediction=prediction,
        tokenizer=tokenizer,
        overwrite=overwrite,
    )
    print("\n".join(map(str, paths)))


@app.command
def train(
    config: Positional[Path],
    /,
    *,
    workdir: str,
    set: tuple[str, ...] = (),
    mesh: str = "data=-1",
    distributed: str = "",
) -> None:
    """Train what a configuration file says, or continue it: the work directory alone is enough to go on.

    Args:
        config: A Python file with get_config(), such as configs/contextual_story/cartoon.py.
        workdir: A folder, or gs://bucket/folder, for checkpoints, learning curve, samples, and the finished model ("model").
        set: Changes to the configuration, such as `--set train.steps=1000 story.unet.remat=blocks`.
        mesh: Devices along the axes data, fsdp, frame and tensor, such as data=2,fsdp=4; -1 takes the rest.
        distributed: On several machines: auto (TPU pod, Slurm, Open MPI), or HOST:PORT,COUNT,INDEX of this process.
    """
    from storyjax.config import load_config
    from storyjax.parallel import distributed as processes
    from storyjax.parallel.placement import Placement

    processes.start(distributed)
    load_config(config, set).start(workdir, placement=Placement.of(mesh))


@app.command
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
            out.write_text(found.json_text(), encoding="utf-8")
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


@app.command
def convert(
    source: Positional[str],
    dest: Positional[Path],
    /,
    *,
    variant: str | None = None,
    revision: str | None = None,
    ema: bool = False,
    prediction: Literal["epsilon", "v_prediction"] | None = None,
    tokenizer: Path | None = None,
    dtype: Literal["float32", "float16", "bfloat16"] | None = None,
    allow_unused: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Write a PyTorch checkpoint as a storyjax folder, every tensor in its place or nothing.

    Args:
        source: A diffusers folder, a single Stable Diffusion file, or a Hugging Face Hub name.
        dest: The folder to write.
        variant: Which of several weight files, such as fp16.
        revision: Branch, tag or commit on the hub.
        ema: The averaged weights of a single file that has both.
        prediction: What a single file's UNet predicts, where the file does not say.
        tokenizer: A folder with CLIP's tokenizer for a single file, which has none; default: from the hub.
        dtype: What to store the weights as; default: as the source has them.
        allow_unused: Patterns (full-match regexes) of original names that may be left over.
        overwrite: Replace the model folder that stands at dest.
    """
    from storyjax.weights.conversion import convert as converted

    done = converted(
        source,
        dest,
        variant=variant,
        revision=revision,
        ema=ema,
        prediction=prediction,
        tokenizer=tokenizer,
        dtype=dtype,
        allow_unused=allow_unused,
        overwrite=overwrite,
    )
    print(done.text())


@app.command
def export(
    folder: Positional[Path],
    dest: Positional[Path],
    /,
    *,
    dtype: Literal["float32", "float16", "bfloat16"] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a storyjax folder as a diffusers folder; a converted one goes back byte for byte.

    Args:
        folder: A storyjax folder.
        dest: The folder to write.
        dtype: What to store the weights as; default: as the folder has them.
        overwrite: Replace the model folder that stands at dest.
    """
    from storyjax.weights.export import export as exported

    print(exported(folder, dest, dtype=dtype, overwrite=overwrite).text())


@data_app.command(name="build")
def data_build(
    name: Positional[str],
    /,
    *,
    manual_dir: Path | None = None,
    data_dir: Path | None = None,
    config: str | None = None,
    processes: int | None = None,
    skip_broken: bool = False,
    overwrite: bool = False,
    runner: Literal["direct", "dataflow", "flink"] | None = None,
    beam_option: tuple[str, ...] = (),
) -> None:
    """Build a dataset: `storyjax data build cartoon_stories`.

    Args:
        name: A folder of tfds_builders/.
        manual_dir: The folder of your copy, for published data sets.
        data_dir: Where built datasets lie.
        config: A named configuration of the dataset, such as its size.
        processes: Processes that draw or read; default: one for each core.
        skip_broken: Leave out stories that cannot be built, and list them at the end.
        overwrite: Build again what is built already.
        runner: Build on Apache Beam (an environment of its own: `make beam`), on this machine or on a cluster.
        beam_option: Options for Beam, such as `--beam-option flink_master=host:8081 parallelism=64`.
    """
    from storyjax.data.build import build

    folder = build(
        name,
        data_dir=data_dir,
        config=config,
        processes=processes,
        overwrite=overwrite,
        manual_dir=manual_dir,
        skip_broken=skip_broken,
        runner=runner,
        beam_options=beam_option,
    )
    print(folder)


@data_app.command(name="bench")
def data_bench(
    name: Positional[str],
    /,
    *,
    split: str = "train",
    data_dir: Path | None = None,
    size: int | None = None,
    frames: int | None = None,
    batch_size: int = 16,
    threads: tuple[int, ...] = (4,),
    workers: tuple[int, ...] | None = None,
    step_ms: float | None = None,
    cache: tuple[Path, ...] = (),
    seconds: float = 3.0,
    out: Path | None = None,
) -> None:
    """Say whether reading keeps up with training: frames a second of the input, and what a step needs.

    Args:
        name: A built dataset, or a folder of your own stories.
        split: Which stories.
        data_dir: Where built datasets lie.
        size: Pixels on a side as trained on; default: as the pictures are.
        frames: Use the first frames of every story; default: all.
        batch_size: Stories that one process reads for a step.
        threads: Threads that read; each number is measured.
        workers: Processes that read; each number is measured, 0 leaves them out; default: one for each core.
        step_ms: What a training step takes; default: 13 ms a story.
        cache: Folders with cached latents or states of the text, as training keeps them.
        seconds: How long each way of reading is measured.
        out: Also write what was found as JSON here.
    """
    from rich import print as show

    from storyjax.data.bench import bench

    report = bench(
        name,
        split=split,
        data_dir=data_dir,
        size=size,
        frames=frames,
        batch_size=batch_size,
        threads=threads,
        workers=workers,
        step_ms=step_ms,
        caches=cache,
        seconds=seconds,
        out=out,
    )
    show(report.table())


@data_app.command(name="check")
def data_check(
    folder: Positional[Path], /, *, name: str | None = None, config: str | None = None, pictures: bool = False
) -> None:
    """Say what is missing or broken in your copy of a published dataset; exit status 1 if anything is.

    Args:
        folder: The copy.
        name: Which dataset it is; default: recognised by the names of its files.
        config: Which configuration of its builder; default: the first.
        pictures: Decode every picture, too (minutes).
    """
    from storyjax.data.check import check

    report = check(folder, name, config, pictures=pictures)
    print(report.text())
    if not report.whole:
        sys.exit(1)


@app.command
def launch(
    target: Positional[str],
    config: Positional[Path],
    /,
    *,
    workdir: str,
    set: tuple[str, ...] = (),
    mesh: str = "data=-1",
    on: tuple[str, ...] = (),
    dry_run: bool = False,
) -> None:
    """Start `storyjax train` on all hosts of a cluster: `storyjax launch slurm CONFIG --workdir W --on nodes=2 --dry-run`.

    Args:
        target: tpu-vm, gke or slurm.
        config: As of `storyjax train`; a file of this checkout.
        workdir: As of `storyjax train`; a folder that all hosts share, as they see it.
        set: As of `storyjax train`.
        mesh: As of `storyjax train`.
        on: What to run on, such as `--on nodes=4 partition=gpu`; docs/launch.md lists the fields of each target.
        dry_run: Print a shell script that does the same, with all files in it, and start nothing.
    """
    from storyjax.config import load_config
    from storyjax.launch.start import launch as launched
    from storyjax.launch.training import Training

    load_config(config, set)  # a mistake in it is found here, not on the hosts
    launched(target, Training.of(config, workdir, set, mesh), on, dry_run=dry_run)


def main(args: list[str] | None = None) -> None:
    """Entry point: run the verb; a user's mistake is one line on stderr and exit status 2."""
    _use_compile_cache()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            app.cli(prog="storyjax", args=args)
        except StoryjaxError as error:
            sys.exit(_fail(error))


def _fail(error: StoryjaxError) -> int:
    print(f"storyjax: {error}", file=sys.stderr)
    return 2


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """What concerns the user's input as one line, without the place in the code; the rest as Python shows it."""
    if issubclass(category, UserWarning):
        print(f"storyjax: warning: {message}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _use_compile_cache() -> None:
    """Compiled programs are kept between runs, unless the environment says otherwise."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / "storyjax" / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1")


if __name__ == "__main__":
    main()
