"""Solved tables, kept until there are too many."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from simulator.deadline.observation import FloatArray, IntArray

CACHE_BYTES = 400_000_000
"""Tables kept at most by default; the ones used longest ago go first."""


class Reaching(Protocol):
    """Tables along time left and slack."""

    @property
    def levels(self) -> IntArray:
        """(L,) entries along ticks left."""
        ...

    @property
    def slack_minutes(self) -> FloatArray:
        """(S,) entries along slack."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory they take."""
        ...


Key = TypeVar("Key", bound=Hashable)
Table = TypeVar("Table", bound=Reaching)


@dataclass(eq=False)
class TableCache(Generic[Key, Table]):
    """Tables by what they depend on, solved when first needed or when one does not reach far enough.

    Attributes:
        limit_bytes: Memory that all of them may take; the latest one is kept whatever it takes.
    """

    limit_bytes: int = CACHE_BYTES
    _tables: OrderedDict[Key, Table] = field(default_factory=OrderedDict, repr=False)

    def get(
        self, key: Key, ticks_left: float, slack_minutes: float, solve: Callable[[int, float], Table]
    ) -> Table:
        """The tables of `key`, reaching at least `ticks_left` and `slack_minutes`.

        Args:
            key: What they depend on.
            ticks_left: Ticks left, fractions allowed.
            slack_minutes: Slack.
            solve: Makes tables that reach the ticks and minutes it is given.
        """
        ticks, slack_minutes = max(math.ceil(ticks_left - 1e-9), 1), max(slack_minutes, 0.0)
        found = self._tables.get(key)
        if found is None or found.levels[-1] < ticks or found.slack_minutes[-1] < slack_minutes:
            if found is not None:
                ticks = max(ticks, int(found.levels[-1]))
                slack_minutes = max(slack_minutes, float(found.slack_minutes[-1]))
            found = solve(ticks, slack_minutes)
            self._tables[key] = found
            while len(self._tables) > 1 and self._bytes() > self.limit_bytes:
                self._tables.popitem(last=False)
        self._tables.move_to_end(key)
        return found

    def _bytes(self) -> int:
        return sum(tables.nbytes for tables in self._tables.values())
