"""GPUs of a Slurm cluster, on one node or several: one process for each GPU."""

import dataclasses
import re

from storyjax.errors import StoryjaxError
from storyjax.launch.plan import CHECKOUT, Plan, render
from storyjax.launch.target import check_needed, check_plain, check_positive
from storyjax.launch.training import Training

_TIME = re.compile(r"(\d+-)?\d{1,2}(:\d{2}){1,2}|\d+-\d{1,2}|\d+")


@dataclasses.dataclass(frozen=True)
class Slurm:
    """A job of `nodes` nodes. `shared`: a folder that all of them see.

    With `image` they run that in Pyxis, with `shared` mounted; else the .venv of `checkout`, which is this one by default.
    """

    nodes: int = 1
    gpus_per_node: int = 8
    cpus_per_task: int = 8
    time: str = "24:00:00"
    name: str = "storyjax"
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    image: str = ""
    shared: str = ""
    checkout: str = str(CHECKOUT)

    def plan(self, training: Training, command: str) -> Plan:
        """`sbatch` of a job script."""
        check_positive(self, "nodes", "gpus_per_node", "cpus_per_task")
        check_plain(self)
        check_needed(self, "slurm", name="storyjax", checkout=CHECKOUT.as_posix())
        if self.image:
            check_needed(self, "slurm with an image", shared="/home/you")
        if not _TIME.fullmatch(self.time):
            raise StoryjaxError(f"time={self.time!r}: expected minutes, or such as 24:00:00 or 2-12:00:00 (days-hours)")
        processes = self.nodes * self.gpus_per_node
        training.check(devices=processes, hosts=self.nodes, shared=self.shared)
        values = {
            "command": command,
            "target": self,
            "words": training.words(distributed=processes > 1),
        }
        return Plan(("sbatch",), ("sbatch",), render("slurm/train.sbatch.j2", values))
