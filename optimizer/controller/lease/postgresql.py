"""A lease in the journal's own database: a row with a time and a number, and the session that holds a lock.

The row says who leads and until when, by the database's clock. A lease is free when its time is over,
whoever holds the lock: a leader whose connection broke may still have calls on their way. The lock tells
which session was the leader's. A successor ends that session first, so that nothing that a stopped leader
left open there stands in its way or takes effect later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from optimizer.controller.journal.records import JournalLost
from optimizer.controller.lease.protocol import Hold

if TYPE_CHECKING:
    from psycopg import Cursor

    from optimizer.controller.journal.postgresql import PostgresStore

ENDING_SECONDS = 1.0
"""A session that was told to end has this long."""


class PostgresLease:
    """The lease of the controllers that keep a journal together.

    Attributes:
        fence: Grows by one with each change of leader; 0 = not held.
        problem: Why the database could not be asked the last time; empty if it could.
    """

    def __init__(
        self,
        store: PostgresStore,
        owner: str,
        *,
        seconds: float,
        steady: Callable[[], float],
        now: Callable[[], float] | None = None,
    ) -> None:
        """Do not hold it yet.

        Args:
            store: The journal's database.
            owner: Unique to this process.
            seconds: The lease lasts so long after a renewal.
            steady: Clock that never jumps, seconds.
            now: Seconds since 1970, instead of the database's clock, on which all controllers agree.
        """
        self._store, self._owner, self._seconds, self._now = store, owner, seconds, now
        self._hold = Hold(seconds, steady)
        self.fence = 0
        self.problem = ""

    def hold(self) -> bool:
        """Renew, or take it if its time is over.

        Without the database it is not held: nothing can be journalled.
        """
        return self._ask(take=True)

    def keep(self) -> bool:
        """Renew it if it is held."""
        return self._ask(take=False)

    def _ask(self, *, take: bool) -> bool:
        asked = self._hold.asking()
        try:
            with self._store.transaction() as cursor:
                fence = self._take(cursor, take)
        except JournalLost as error:
            # the number stays: if nobody else came, the lease goes on when the database is back
            self._hold.lost()
            self.problem = str(error)
            return False
        self.problem = ""
        self.fence = fence
        if fence:
            self._hold.renewed(asked)
        else:
            self._hold.lost()
        return bool(fence)

    def valid(self) -> bool:
        """Whether nobody else can have it yet."""
        return self._hold.valid()

    def fresh(self) -> bool:
        """Whether it will be held for a good while."""
        return self._hold.fresh()

    def release(self) -> None:
        """Let it expire now, if it is held."""
        if not self.fence:
            return
        try:
            with self._store.transaction() as cursor:
                cursor.execute(
                    "UPDATE leader SET expires = 0 WHERE owner = %s AND fence = %s", (self._owner, self.fence)
                )
        except JournalLost as error:
            self.problem = str(error)
        self._hold.lost()
        self.fence = 0

    def _take(self, cursor: Cursor[tuple[Any, ...]], take: bool) -> int:
        """The number under which it is held now, 0 if it is not."""
        # one controller at a time looks and takes
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (self._store.lock ^ 2,))
        found = cursor.execute(
            "SELECT fence, owner, expires, EXTRACT(EPOCH FROM clock_timestamp())::float8 FROM leader"
        ).fetchone()
        assert found is not None  # noqa: S101 -- the table is made with its one row
        fence, owner, expires, database_now = found
        now = self._now() if self._now is not None else database_now
        mine = bool(self.fence) and (fence, owner) == (self.fence, self._owner)
        if not mine and (expires >= now or not take):
            return 0
        if not self._own_session(cursor):
            return 0
        number = int(fence) if mine else int(fence) + 1
        cursor.execute(
            "UPDATE leader SET fence = %s, owner = %s, expires = %s",
            (number, self._owner, now + self._seconds),
        )
        return number

    def _own_session(self, cursor: Cursor[tuple[Any, ...]]) -> bool:
        """Make the lock this session's; a session that has it and leads no more is ended."""
        until = time.monotonic() + ENDING_SECONDS
        while True:
            held = cursor.execute(
                "SELECT pid, pid = pg_backend_pid() FROM pg_locks WHERE locktype = 'advisory' AND granted "
                "AND objsubid = 1 AND ((classid::bigint << 32) | objid::bigint) = %s "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                (self._store.lock,),
            ).fetchone()
            if held is not None and held[1]:
                return True
            if held is not None:
                cursor.execute("SELECT pg_terminate_backend(%s)", (held[0],))
            elif _true(cursor.execute("SELECT pg_try_advisory_lock(%s)", (self._store.lock,)).fetchone()):
                return True
            if time.monotonic() > until:
                return False
            time.sleep(0.01)


def _true(row: tuple[Any, ...] | None) -> bool:
    return row is not None and bool(row[0])
