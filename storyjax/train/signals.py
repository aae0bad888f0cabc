"""SIGTERM and Ctrl-C ask the loop to stop at the next step border instead of ending the process.

In a run of several processes the runtime watches for SIGTERM (a machine that is to be taken away sends it to its own process
only) and all of them stop before the same step.
"""

import signal
import threading
from types import FrameType
from typing import Any

from storyjax.parallel.processes import several, told_to_stop


class StopSignals:
    """Context manager; `name` is the signal that came, or None. The second one acts as it did before."""

    HANDLED = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.name: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        # Python allows handlers in the main thread only; one for SIGTERM would take it from the runtime.
        if threading.current_thread() is threading.main_thread() and not several():
            self._before = {number: signal.signal(number, self._note) for number in self.HANDLED}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def asked(self, step: int) -> bool:
        """Whether to stop before the step after `step`; in several processes the answer is the same in all."""
        if self.name is None and told_to_stop(step):
            self.name = signal.SIGTERM.name
        return self.name is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
