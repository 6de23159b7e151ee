"""Ctrl-C and SIGTERM, noted so that a run can end where it can be gone on with."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptions() -> Iterator[Callable[[], int]]:
    """Note the first Ctrl-C or SIGTERM, by number, instead of raising it; a second one is raised.

    Outside the main thread no signal arrives, and nothing is noted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if seen:
            raise KeyboardInterrupt(number)
        seen.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: seen[0] if seen else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
