"""The verbs that train: `train` here, `launch` on all hosts of a cluster."""

from pathlib import Path

from tyro.conf import Positional


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
