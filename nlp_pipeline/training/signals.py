"""SIGTERM and Ctrl-C as a wish to stop: the step in hand is finished and saved, then the process ends."""

import os
import signal
import sys
import threading
from typing import Any

from ..devices import launched_processes

WATCHED = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While active, the first signal is noted in `received`; a second one ends the process at once.

    The exit code is 128 plus the signal's number, as a shell has it: 143 for SIGTERM, 130 for Ctrl-C. Outside the main
    thread, where Python lets nobody handle signals, nothing changes.

    An error that leaves one of several processes keeps the handlers: the launcher ends the others with SIGTERM, which
    must not cut short what they report.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}
        self._leaving = False

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in WATCHED}
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is not None and launched_processes() > 1:
            self._leaving = True
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
        if self._leaving:
            return
        name = signal.Signals(number).name
        print(f"\n{name}: saving after this step, then stopping; once more stops at once", file=sys.stderr, flush=True)
