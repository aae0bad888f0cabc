"""One of several processes that train the tiny task together.

    python -m tests.parallel.train_in_processes PEERS MESH WORKDIR STEPS [PAUSE]

PEERS as in `storyjax train --distributed`, or "" for one process. Prints the step reached and what stopped it.
"""

import json
import sys

from storyjax.parallel import distributed, rules
from storyjax.parallel.placement import Placement
from storyjax.train.config import TrainConfig
from storyjax.train.loop import train
from tests.train.tiny import TinyBatches, tiny_task

STORIES = 8


class Rows(TinyBatches):
    """The rows of the tiny batches that a process reads."""

    def __init__(self, rows: tuple[int, ...], pause: float):
        super().__init__(size=STORIES, pause=pause)
        self.rows = rows

    def __next__(self) -> dict:
        return {name: value[list(self.rows)] for name, value in super().__next__().items()}


def main(peers: str, mesh: str, workdir: str, steps: str, pause: str = "0") -> None:
    distributed.start(peers, answer=60)
    rules.WHOLE = 8  # so that this task's leaves are cut too
    placement = Placement.of(mesh)
    config = TrainConfig(steps=int(steps), batch_size=STORIES, log_every=1, save_every=2)
    batches = Rows(placement.rows(STORIES), float(pause))
    result = train(tiny_task(), config, batches, workdir, config_json={}, progress=False, placement=placement)
    print(json.dumps({"step": result.step, "stopped_by": result.stopped_by, "rows": batches.rows}))


if __name__ == "__main__":
    main(*sys.argv[1:])
