"""Several processes as one program: which one speaks, waiting for each other, stopping together."""

import jax
from jax.experimental import multihost_utils


def several() -> bool:
    """Whether this program runs in more than one process (`storyjax.parallel.distributed`)."""
    return jax.process_count() > 1


def speaks() -> bool:
    """Whether this process writes what exists once: the log, pictures, model folders."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Until every process is here; `name` tells the places apart."""
    if several():
        multihost_utils.sync_global_devices(name)


def from_the_runtime(error: BaseException | None) -> bool:
    """Whether JAX's runtime failed, here or in what led to this error: in a run of several processes, another one is gone."""
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError):
            return True
        error = error.__cause__ or error.__context__
    return False


def told_to_stop(step: int) -> bool:
    """Whether a process was sent SIGTERM: true in all processes before the same step. Ask at every step, in all processes."""
    return several() and multihost_utils.reached_preemption_sync_point(step)
