"""Starting one of several processes that train together: who the others are, and what is said when they do not answer.

`storyjax train ... --distributed auto` reads TPU metadata, Slurm's or Open MPI's environment (JAX's own detection);
`--distributed HOST:PORT,COUNT,INDEX` says it outright: the address of process 0, how many there are, and which this is.
"""

import contextlib
import dataclasses
import os
import re
import sys
import threading
from collections.abc import Iterator

import jax

from storyjax.errors import StoryjaxError
from storyjax.parallel.processes import from_the_runtime, several

ANSWER = 120  # seconds to wait for process 0 and the others to start
HEARTBEAT = 30  # seconds after which a silent process counts as dead, and ends the others
FORM = "expected auto, or HOST:PORT,COUNT,INDEX such as 10.0.0.1:1234,4,0"


@dataclasses.dataclass(frozen=True)
class Peers:
    """Where process 0 listens, how many processes there are, and which of them this is."""

    address: str
    count: int
    index: int

    @classmethod
    def parse(cls, text: str) -> "Peers":
        """From "HOST:PORT,COUNT,INDEX"."""
        found = re.fullmatch(r"(?P<address>[^,\s]+:\d+),(?P<count>\d+),(?P<index>\d+)", text.replace(" ", ""))
        if not found:
            raise StoryjaxError(f"'{text}' does not name processes; {FORM}")
        peers = cls(found["address"], int(found["count"]), int(found["index"]))
        if not peers.index < peers.count:
            raise StoryjaxError(
                f"'{text}': process {peers.index} of {peers.count} does not exist; the last is {peers.count - 1}"
            )
        return peers


def start(where: str, *, answer: float = ANSWER) -> None:
    """Join the other processes; before anything else touches a device. "" stays alone.

    Errors: a text that names no processes, nothing to detect. Where somebody does not answer within `answer` seconds, this process
    says so and ends: the runtime would end it a moment later without a word about the address.
    """
    if not where:
        return
    peers = None if where == "auto" else Peers.parse(where)
    given = dataclasses.asdict(peers) if peers else {}
    named = {"address": "coordinator_address", "count": "num_processes", "index": "process_id"}
    patience = threading.Timer(answer, _give_up, (peers, answer))
    patience.daemon = True
    patience.start()
    try:
        jax.distributed.initialize(
            **{named[name]: value for name, value in given.items()},
            cluster_detection_method="deactivate" if peers else None,
            initialization_timeout=int(answer) + HEARTBEAT,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
        )
    except ValueError as error:
        raise StoryjaxError(
            f"nothing here says which processes train together ({_first_line(error)}); {FORM}"
        ) from None
    finally:
        patience.cancel()


def _give_up(peers: Peers | None, answer: float) -> None:
    place = f"'{peers.address}'" if peers else "the coordinator that the cluster names"
    missing = f"the other {peers.count - 1} processes" if peers and peers.index == 0 else place
    print(
        f"storyjax: no answer from {missing} within {answer:.0f} s; is process 0 running at {place}, do all processes say the "
        "same count, does a firewall close the port?",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


@contextlib.contextmanager
def lost_processes_told(workdir: object) -> Iterator[None]:
    """Within it, what JAX says when another process has gone becomes one sentence, and this process ends at once.

    At once, because the runtime would wait at exit for processes that do not come back.
    """
    try:
        yield
    except Exception as error:
        if not several() or not from_the_runtime(error):
            raise
        print(
            f"storyjax: another process of this training has ended ({_first_line(error)}); start the same command on all of "
            f"them again, it continues from the last checkpoint in '{workdir}'",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


def _first_line(error: BaseException) -> str:
    return (str(error) or repr(error)).splitlines()[0]
