"""Things that happen at a time, in order."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

TICK, RECOMMEND, WARN, HEAL = range(4)
"""At the same moment: capacity changes, recommendations and warnings are sent, groups react."""


class Schedule:
    """A queue of events by time; `settle` runs all that are due, each at its own time.

    Attributes:
        now: Milliseconds since 1970; inside an event, the event's time. Never goes back.
    """

    def __init__(self, now: int) -> None:
        self.now = now
        self._events: list[tuple[int, int, int, Callable[[], None]]] = []
        self._number = count()

    def at(self, ms: int, order: int, event: Callable[[], None]) -> None:
        """Run `event` at `ms`, or as soon as possible."""
        heapq.heappush(self._events, (max(ms, self.now), order, next(self._number), event))

    def settle(self, ms: int) -> None:
        """Run everything that is due until `ms`; a time before the last one changes nothing."""
        while self._events and self._events[0][0] <= ms:
            due, _, _, event = heapq.heappop(self._events)
            self.now = max(self.now, due)
            event()
        self.now = max(self.now, ms)
