"""The journal of several controllers: a schema in PostgreSQL that only the leader may write.

The leader's number stands in the table `leader`. Each transaction that writes reads it under a lock and goes
on only if it is the writer's own; a successor raises it. So the database itself refuses a leader that was
deposed, however late its writes arrive. A connection that is lost is made anew by the next statement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

from optimizer.controller.journal.records import Deposed, JournalLost
from optimizer.controller.journal.store import FORMAT, Values
from simulator.errors import InputError

T = TypeVar("T")

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE leader (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one), fence BIGINT NOT NULL, owner TEXT NOT NULL,
    expires DOUBLE PRECISION NOT NULL);
CREATE TABLE state (key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, content BYTEA NOT NULL);
CREATE TABLE ticks (
    rowid BIGSERIAL PRIMARY KEY, tick BIGINT NOT NULL, at DOUBLE PRECISION NOT NULL, mode TEXT NOT NULL,
    summary TEXT NOT NULL);
CREATE INDEX ticks_at ON ticks (at);
CREATE TABLE intents (
    id BIGSERIAL PRIMARY KEY, tick BIGINT NOT NULL, at DOUBLE PRECISION NOT NULL, mode TEXT NOT NULL,
    workload TEXT NOT NULL, action TEXT NOT NULL, token TEXT NOT NULL UNIQUE, request TEXT NOT NULL,
    after TEXT, state TEXT NOT NULL, result TEXT NOT NULL DEFAULT '', why TEXT NOT NULL, guards TEXT NOT NULL,
    usd_per_hour DOUBLE PRECISION NOT NULL, settled_at DOUBLE PRECISION);
CREATE INDEX intents_open ON intents (state) WHERE state IN ('pending', 'unknown');
CREATE INDEX intents_workload ON intents (workload, at);
CREATE INDEX intents_at ON intents (at);
CREATE TABLE trips (
    rowid BIGSERIAL PRIMARY KEY, tick BIGINT NOT NULL, at DOUBLE PRECISION NOT NULL, guard TEXT NOT NULL,
    workload TEXT NOT NULL, wanted TEXT NOT NULL, got TEXT NOT NULL);
CREATE INDEX trips_at ON trips (at);
CREATE TABLE events (
    rowid BIGSERIAL PRIMARY KEY, at DOUBLE PRECISION NOT NULL, level TEXT NOT NULL, kind TEXT NOT NULL,
    message TEXT NOT NULL);
CREATE INDEX events_at ON events (at);
CREATE TABLE instances (
    id TEXT PRIMARY KEY, workload TEXT NOT NULL, pool TEXT NOT NULL, option TEXT NOT NULL,
    token TEXT NOT NULL, launched_at DOUBLE PRECISION NOT NULL, state TEXT NOT NULL,
    ended_at DOUBLE PRECISION);
CREATE INDEX instances_live ON instances (state);
CREATE TABLE seen (
    at DOUBLE PRECISION NOT NULL, pool TEXT NOT NULL, price DOUBLE PRECISION, held BIGINT NOT NULL,
    refused INTEGER NOT NULL);
CREATE INDEX seen_at ON seen (at);
INSERT INTO leader (fence, owner, expires) VALUES (0, '', 0);
"""

LOST = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    errors.InsufficientPrivilege,
    errors.UndefinedTable,
)
"""What says that the database cannot be used now. Anything else is an error of this program."""


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose statements end: a server behind a dead network never answers.

    Attributes:
        patience_seconds: A statement that takes longer has lost the connection.
    """

    patience_seconds = 10.0

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Take the steps of a statement, as long as there is time."""
        try:
            return super().wait(gen, interval, self.patience_seconds if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                # nobody can say anything more on it, not even that the transaction is undone
                self.close()
            raise


class PostgresStore:
    """One schema of one database. Use it from one thread."""

    shared = True

    def __init__(
        self, url: str, controller: str, *, answer_seconds: float = 10.0, begin: bool = True
    ) -> None:
        """Open or begin the journal; nothing is written until `lead`.

        Args:
            url: `postgresql://...` without a password; empty: libpq's environment (PGHOST, PGPASSWORD, ...).
            controller: The controllers' common name; its schema is `spotwise_` and this.
            answer_seconds: A database that takes longer has lost the connection.
            begin: Make the tables where there are none.

        Raises:
            InputError: The tables are of another format or not there, or the server does not write durably.
            JournalLost: The database does not answer.
        """
        self._url, self._seconds = url, answer_seconds
        self.schema = f"spotwise_{controller.replace('-', '_')}"
        digest = hashlib.sha256(self.schema.encode()).digest()
        self.lock = int.from_bytes(digest[:8], "big", signed=True)
        """Advisory lock that the leader's session holds."""
        self._db: _Connection | None = None
        self._fence: int | None = None
        self._check(begin)

    @property
    def name(self) -> str:
        """The schema; the address may hold more than a log should."""
        return f"journal {self.schema} in PostgreSQL"

    @property
    def session_id(self) -> int:
        """The server's number of this session, 0 if there is none."""
        return self._db.info.backend_pid if self._db is not None and not self._db.closed else 0

    def close(self) -> None:
        """Close the connection, and with it the leader's session."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def read(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Rows that a statement gives.

        Raises:
            JournalLost: The database does not answer.
        """
        with self._session() as session:
            return session.execute(_marked(statement), values).fetchall()

    @contextmanager
    def transaction(self) -> Generator[psycopg.Cursor[tuple[Any, ...]], None, None]:
        """A transaction whoever leads.

        Raises:
            JournalLost: The database does not answer; whether a commit took is not known.
        """
        with self._session() as session, session.transaction(), session.cursor() as cursor:
            yield cursor

    @contextmanager
    def writing(self) -> Generator[_Cursor, None, None]:
        """A transaction of the leader; see `Store`."""
        with self.transaction() as cursor:
            cursor.execute("SELECT fence FROM leader FOR SHARE")
            found = cursor.fetchone()
            if self._fence is None or found is None or found[0] != self._fence:
                raise Deposed(
                    f"{self.name}: number {found[0] if found else '?'} leads; "
                    f"the write of number {self._fence} was refused"
                )
            yield _Cursor(cursor)

    def lead(self, fence: int) -> None:
        """Write under this number from now on; see `Store`."""
        with self.transaction() as cursor:
            cursor.execute("UPDATE leader SET fence = %s WHERE fence <= %s", (fence, fence))
            if not cursor.rowcount:
                raise Deposed(
                    f"{self.name}: a leader with a higher number than {fence} has written here; if the lease "
                    f"was begun anew on purpose, set fence in {self.schema}.leader to 0"
                )
        self._fence = fence

    def damaged(self, what: str) -> InputError:
        """What was saved is not what was written: the database's copies restore it."""
        return InputError(
            f"{self.name}: the journal is damaged ({what}); the controller does not start on it. Nothing was "
            f"changed in the cloud. Restore the schema from the database's own copies, or move it away "
            f"(ALTER SCHEMA {self.schema} RENAME TO {self.schema}_damaged) and start again: running "
            "instances are found by their tags and adopted"
        )

    def back_up(self) -> None:
        """The server's copies are its own business."""

    # -------------------------------------------------------------------------------------------- inside

    @contextmanager
    def _session(self) -> Generator[_Connection, None, None]:
        try:
            if self._db is None or self._db.closed:
                self._db = self._connect()
            yield self._db
        except LOST as error:
            self.close()
            raise JournalLost(f"{self.name}: {_first_line(error)}") from error

    def _connect(self) -> _Connection:
        milliseconds = int(1000 * self._seconds)
        try:
            made = _Connection.connect(
                self._url,
                autocommit=True,
                application_name=self.schema,
                connect_timeout=max(int(self._seconds), 2),
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=2 * milliseconds,
                target_session_attrs="read-write",
            )
        except psycopg.ProgrammingError:
            # its message repeats the address, and that may hold a password
            raise InputError(
                f"{self.name}: journal.url is no address; accepted: postgresql://USER@HOST:PORT/DATABASE"
            ) from None
        made.patience_seconds = self._seconds
        made.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        try:
            # a role or a database may have a weaker habit
            made.execute("SET synchronous_commit = on")
            made.execute(f"SET lock_timeout = {milliseconds // 2}")
            # a leader that was stopped inside a transaction must not keep its locks
            made.execute(f"SET idle_in_transaction_session_timeout = {milliseconds}")
            made.execute(f"SET search_path = {self.schema}")
        except BaseException:
            made.close()
            raise
        return made

    def _check(self, begin: bool) -> None:
        try:
            with self.transaction() as cursor:
                if _one(cursor, "SHOW fsync") != "on":
                    raise InputError(
                        f"{self.name}: the server runs with fsync off, so that nothing written there is "
                        "durable; accepted: fsync = on"
                    )
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", (self.lock ^ 1,))
                if _one(cursor, "SELECT to_regclass('meta') IS NULL"):
                    self._begin(cursor, begin)
                found = _one(cursor, "SELECT value FROM meta WHERE key = 'format'")
                if found != str(FORMAT):
                    raise InputError(f"{self.name}: of format {found}; this release reads {FORMAT}")
        except BaseException:
            self.close()
            raise

    def _begin(self, cursor: psycopg.Cursor[tuple[Any, ...]], begin: bool) -> None:
        if not begin:
            raise InputError(f"{self.name}: there is no journal yet; `spotwise controller run` begins one")
        if _one(cursor, "SELECT to_regnamespace(%s) IS NULL", self.schema):
            cursor.execute(f"CREATE SCHEMA {self.schema}")
        cursor.execute(TABLES)
        cursor.execute("INSERT INTO meta VALUES ('format', %s)", (str(FORMAT),))


class _Cursor:
    def __init__(self, cursor: psycopg.Cursor[tuple[Any, ...]]) -> None:
        self._cursor = cursor

    def execute(self, statement: str, values: Values = ()) -> int:
        return self._cursor.execute(_marked(statement), _clean(values)).rowcount

    def executemany(self, statement: str, rows: Sequence[Values]) -> None:
        if rows:
            self._cursor.executemany(_marked(statement), [_clean(values) for values in rows])


def _marked(statement: str) -> str:
    return statement.replace("?", "%s")


def _clean(values: Values) -> list[Any]:
    """PostgreSQL's text has no NUL; a message from a cloud may have one."""
    return [one.replace("\0", "\ufffd") if isinstance(one, str) else one for one in values]


def _one(cursor: psycopg.Cursor[tuple[Any, ...]], statement: str, *values: Any) -> Any:
    found = cursor.execute(statement, values).fetchone()
    return None if found is None else found[0]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
