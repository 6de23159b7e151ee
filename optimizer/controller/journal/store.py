"""Where a journal is kept. The statements are the same everywhere; `?` stands for a value."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from simulator.errors import InputError

FORMAT = 1
"""Of the tables; a journal of another format is refused."""

Values = Sequence[Any]


class Cursor(Protocol):
    """Statements of one transaction."""

    def execute(self, statement: str, values: Values = ()) -> int:
        """Carry out a statement; returns how many rows it changed."""
        ...

    def executemany(self, statement: str, rows: Sequence[Values]) -> None:
        """Carry out a statement for each row of values."""
        ...


class Store(Protocol):
    """A database with the journal's tables."""

    @property
    def shared(self) -> bool:
        """Whether several controllers read and write it, one at a time."""
        ...

    @property
    def name(self) -> str:
        """For messages: which one it is, without secrets."""
        ...

    def read(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Rows that a statement gives.

        Raises:
            JournalLost: The database does not answer.
        """
        ...

    def writing(self) -> AbstractContextManager[Cursor]:
        """A transaction: durable when it ends, undone when it raises.

        Raises:
            JournalFull: It cannot be written.
            JournalLost: The database does not answer.
            Deposed: Another controller leads.
        """
        ...

    def lead(self, fence: int) -> None:
        """Write under a leader's number from now on; lower numbers are refused from now on.

        Raises:
            Deposed: The number is lower than one that was seen.
            JournalLost: The database does not answer.
        """
        ...

    def damaged(self, what: str) -> InputError:
        """The error that says what is wrong with it and how to restore it."""
        ...

    def back_up(self) -> None:
        """Copy it, if that is this program's business.

        Raises:
            JournalFull: There is no room.
        """
        ...

    def close(self) -> None:
        """Close it."""
        ...
