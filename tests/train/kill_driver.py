"""Trains the tiny task to the end, killing the trainer with SIGKILL again and again.

    python -m tests.train.kill_driver WORKDIR KILLS SEED

Each trainer is a process of its own, forked before the JAX backend exists so that only the first start-up is paid.
Kills come in turn at a random moment after a step, during a save, and during start-up. Prints one JSON line.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from storyjax.train.config import TrainConfig
from storyjax.train.loop import train
from tests.train.tiny import TinyBatches, tiny_task

STEPS = 60


def trainer(workdir: Path) -> None:
    config = TrainConfig(steps=STEPS, batch_size=8, log_every=1, save_every=2)
    train(tiny_task(), config, TinyBatches(pause=0.03), workdir, config_json={}, progress=False)


def fork(workdir: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            trainer(workdir)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return child


def ended(child: int) -> int | None:
    """Exit status, or None while the process lives."""
    found, status = os.waitpid(child, os.WNOHANG)
    return None if found == 0 else status


def rows(workdir: Path) -> int:
    curve = workdir / "metrics.jsonl"
    return len(curve.read_text().splitlines()) if curve.is_file() else 0


def saving(workdir: Path) -> bool:
    return any(workdir.glob("checkpoints/*.orbax-checkpoint-tmp"))


def kill_once(workdir: Path, aim: str, chance: random.Random) -> str:
    """Start a trainer and kill it; says what it was doing, or that it came to its end first."""
    before, child, began = rows(workdir), fork(workdir), time.monotonic()
    delay = chance.uniform(0, 2.0 if aim == "start" else 0.3)
    while (status := ended(child)) is None:
        stepped = rows(workdir) != before
        if aim == "start" and time.monotonic() - began > delay:
            break
        if aim == "step" and stepped:
            time.sleep(delay)
            break
        if aim == "save" and stepped and saving(workdir):
            time.sleep(delay / 15)
            break
        time.sleep(0.001)
    if status is None:
        doing = "start" if rows(workdir) == before else "save" if saving(workdir) else "step"
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return doing
    if os.WEXITSTATUS(status):
        raise SystemExit("a resumed trainer failed")
    return "end"


def main() -> None:
    workdir, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(seed)
    moments = [kill_once(workdir, ("step", "save", "start")[number % 3], chance) for number in range(kills)]
    for folder in (workdir, workdir.with_name("never_killed")):
        _, status = os.waitpid(fork(folder), 0)
        if status:
            raise SystemExit(f"the last trainer of '{folder}' failed")
    print(json.dumps(moments))


if __name__ == "__main__":
    main()
