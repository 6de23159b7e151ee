"""The journal of one controller: a SQLite file in WAL mode beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optimizer.controller.journal.records import JournalFull
from optimizer.controller.journal.store import FORMAT, Values
from simulator.errors import InputError

SMALLEST_BYTES = 512
"""SQLite takes a file that is shorter than its smallest page for an empty database."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS ticks (
    tick INTEGER NOT NULL, at REAL NOT NULL, mode TEXT NOT NULL, summary TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS ticks_at ON ticks (at);
CREATE TABLE IF NOT EXISTS intents (
    id INTEGER PRIMARY KEY, tick INTEGER NOT NULL, at REAL NOT NULL, mode TEXT NOT NULL,
    workload TEXT NOT NULL, action TEXT NOT NULL, token TEXT NOT NULL UNIQUE, request TEXT NOT NULL,
    after TEXT, state TEXT NOT NULL, result TEXT NOT NULL DEFAULT '', why TEXT NOT NULL, guards TEXT NOT NULL,
    usd_per_hour REAL NOT NULL, settled_at REAL);
CREATE INDEX IF NOT EXISTS intents_open ON intents (state) WHERE state IN ('pending', 'unknown');
CREATE INDEX IF NOT EXISTS intents_workload ON intents (workload, at);
CREATE INDEX IF NOT EXISTS intents_at ON intents (at);
CREATE TABLE IF NOT EXISTS trips (
    tick INTEGER NOT NULL, at REAL NOT NULL, guard TEXT NOT NULL, workload TEXT NOT NULL,
    wanted TEXT NOT NULL, got TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS trips_at ON trips (at);
CREATE TABLE IF NOT EXISTS events (
    at REAL NOT NULL, level TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_at ON events (at);
CREATE TABLE IF NOT EXISTS instances (
    id TEXT PRIMARY KEY, workload TEXT NOT NULL, pool TEXT NOT NULL, option TEXT NOT NULL,
    token TEXT NOT NULL, launched_at REAL NOT NULL, state TEXT NOT NULL, ended_at REAL);
CREATE TABLE IF NOT EXISTS seen (
    at REAL NOT NULL, pool TEXT NOT NULL, price REAL, held INTEGER NOT NULL, refused INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS seen_at ON seen (at);
CREATE INDEX IF NOT EXISTS instances_live ON instances (state);
"""


class SqliteStore:
    """A file; nobody else writes it.

    Attributes:
        path: The file.
        backup_path: Where `back_up` puts the copy.
        database: The open connection.
    """

    shared = False

    def __init__(self, path: Path) -> None:
        """Open or begin it.

        Raises:
            InputError: It is damaged (the message says how to restore it), of another format, or cannot be
                opened.
        """
        self.path = path
        self.backup_path = path.with_name(f"{path.stem}.backup{path.suffix}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.database = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{path}: the journal cannot be opened ({error})") from error
        try:
            self._check()
            self.database.execute("PRAGMA journal_mode = WAL")
            self.database.execute("PRAGMA synchronous = FULL")
            self.database.executescript(SCHEMA)
            self.database.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (str(FORMAT),))
        except sqlite3.OperationalError as error:
            self.database.close()
            raise InputError(
                f"{path}: the journal cannot be written ({error}); the controller does not start without it. "
                "It is not damaged: leave it where it is, and see to room on the disk, to the right to "
                "write, or to whoever else has it open"
            ) from error
        except sqlite3.DatabaseError as error:
            self.database.close()
            raise self.damaged(str(error)) from error
        except BaseException:
            self.database.close()
            raise
        path.chmod(0o600)

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def lead(self, fence: int) -> None:
        """Nobody else writes here."""

    def _check(self) -> None:
        if 0 < self.path.stat().st_size < SMALLEST_BYTES:
            raise self.damaged("it was cut off")
        found = self.database.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise self.damaged(str(found).splitlines()[-1])
        tables = {
            row[0] for row in self.database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if tables and "meta" not in tables:
            raise InputError(
                f"{self.path}: a database, but no journal of a controller; name another state_dir"
            )
        if tables:
            row = self.database.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
            if row and row[0] != str(FORMAT):
                raise InputError(f"{self.path}: journal of format {row[0]}; this release reads {FORMAT}")

    def damaged(self, what: str) -> InputError:
        """With the commands that put the copy back, or begin a new journal."""
        kept = self.backup_path
        restore = (
            f"put the copy back (mv {self.path} {self.path}.damaged; rm -f {self.path}-wal {self.path}-shm; "
            f"cp {kept} {self.path})"
            if kept.exists()
            else f"there is no copy yet: move it away (mv {self.path} {self.path}.damaged)"
        )
        return InputError(
            f"{self.path}: the journal is damaged ({what}); the controller does not start on it. Nothing was "
            f"changed in the cloud. To restore, {restore} and start again: running instances are found by "
            "their tags and adopted"
        )

    def read(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Rows that a statement gives."""
        return self.database.execute(statement, values).fetchall()

    @contextmanager
    def writing(self) -> Generator[_Cursor, None, None]:
        """A transaction.

        Raises:
            JournalFull: It cannot be written.
        """
        cursor = self.database.cursor()
        try:
            cursor.execute("BEGIN IMMEDIATE")
            yield _Cursor(cursor)
            cursor.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if self.database.in_transaction:
                self.database.rollback()
            raise JournalFull(f"{self.path}: cannot be written ({error})") from error
        except BaseException:
            if self.database.in_transaction:
                self.database.rollback()
            raise
        finally:
            cursor.close()

    def back_up(self) -> None:
        """Copy the journal beside itself, whole or not at all.

        Raises:
            JournalFull: There is no room.
        """
        partial = self.backup_path.with_suffix(".partial")
        try:
            partial.unlink(missing_ok=True)
            copy = sqlite3.connect(partial)
            try:
                self.database.backup(copy)
            finally:
                copy.close()
            partial.chmod(0o600)
            partial.replace(self.backup_path)
        except (OSError, sqlite3.Error) as error:
            partial.unlink(missing_ok=True)
            raise JournalFull(f"{self.backup_path}: cannot be written ({error})") from error


class _Cursor:
    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    def execute(self, statement: str, values: Values = ()) -> int:
        return self._cursor.execute(statement, values).rowcount

    def executemany(self, statement: str, rows: Sequence[Values]) -> None:
        self._cursor.executemany(statement, rows)
