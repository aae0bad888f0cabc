"""What the compiled training step of ContextualStory says to its neighbours on eight devices, in bytes, beside arithmetic.

Only compiled, from shapes: neither the state nor the devices need to be there, so the released size can be looked at on a CPU.
"""

import dataclasses
import time

import jax

from benchmarks.measure import Row, Setting, notes
from benchmarks.sides import NAME, program, program_bytes
from benchmarks.suite.scaling import expected, said
from benchmarks.training import story_training
from storyjax.parallel.collectives import communication
from storyjax.parallel.mesh import make_mesh
from storyjax.parallel.placement import Placement

MESHES, TOY_MESHES = ("data={n}", "fsdp={n}"), ("fsdp={n}",)


def run(setting: Setting) -> list[Row]:
    """Training step of ContextualStory, compiled for all devices: bytes exchanged, against arithmetic; time is the compiler's."""
    count = len(jax.devices())
    return [_row(setting, mesh.format(n=count), count) for mesh in (MESHES if setting.full else TOY_MESHES)]


def _row(setting: Setting, mesh: str, devices: int) -> Row:
    training, placement = story_training(setting.full), Placement.of(make_mesh(mesh))
    each = setting.batch or (6 if setting.full else 1)
    config = training.config(setting, each * devices)
    state = placement.targets(training.abstract_state(config))
    batch = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement.stories)
        for name, leaf in jax.eval_shape(lambda: training.draw(each * devices)).items()
    }
    places = placement.shardings(state), placement.everywhere
    before = time.perf_counter()
    with jax.set_mesh(placement.mesh):
        flops, compiled = program(setting, training.step(config), state, batch, donate_argnums=0, out_shardings=places)
    seconds = time.perf_counter() - before
    talk = {kind: dataclasses.asdict(traffic) for kind, traffic in communication(compiled).items()}
    return Row(
        "training step, compiled",
        NAME,
        {"dtype": setting.dtype, "devices": devices, "mesh": mesh, "stories a device": each},
        seconds,
        seconds,
        seconds,
        1,
        tflop=flops.total / 1e12,
        peak_bytes=program_bytes(compiled),
        communication=talk,
        notes=(*notes(flops), *(f"{mesh}: {text}" for text in said(talk, expected(setting, training, placement)))),
    )
