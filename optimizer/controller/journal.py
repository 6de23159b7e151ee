"""The journal: what the controller meant to do before it did it, and what came of it. SQLite in WAL mode.

An intent is durable before its call leaves (`begin`), so that after a crash the cloud can be asked what
became of it. The state of the deciders is saved once per tick; a crash inside a tick continues from the end
of the one before.
"""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizer.controller.audit import read_audit
from simulator.errors import InputError, SpotwiseError

FORMAT = 1
SMALLEST_BYTES = 512
"""SQLite takes a file that is shorter than its smallest page for an empty database."""

_SCHEMA = """
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


class JournalFull(SpotwiseError):  # noqa: N818 -- reads as what it says in `except JournalFull`
    """Nothing can be written: no space, or no right to. Nothing may be done that is not journalled."""


@dataclass(frozen=True, slots=True)
class Intent:
    """One call that is about to leave.

    Attributes:
        tick: Tick it was decided in.
        workload: Whom it is for.
        action: `launch`, `terminate`, `shape` or `remove`.
        token: Client token; unique in the journal.
        request: What is asked, JSON-able.
        after: Token of the launch that must succeed first.
        why: Reason in words.
        guards: Guards that changed the decision behind it.
        usd_per_hour: Change of the cost rate that is expected of it.
    """

    tick: int
    workload: str
    action: str
    token: str
    request: Mapping[str, Any]
    why: str
    guards: Sequence[str] = ()
    usd_per_hour: float = 0.0
    after: str | None = None


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """What the controller knows of an instance; see `providers.Instance`."""

    id: str
    workload: str
    pool: str
    option: str
    token: str
    launched_at: float
    state: str
    ended_at: float | None = None


class Journal:
    """One controller's journal. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open or begin the journal.

        Raises:
            InputError: It is damaged (the message says how to restore it), of another format, or cannot be
                opened.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{path}: the journal cannot be opened ({error})") from error
        try:
            self._check()
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (str(FORMAT),))
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise self._damaged(str(error)) from error
        except BaseException:
            self._db.close()
            raise
        path.chmod(0o600)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def backup_path(self) -> Path:
        """Where `back_up` puts the copy."""
        return self.path.with_name(f"{self.path.stem}.backup{self.path.suffix}")

    def _check(self) -> None:
        if 0 < self.path.stat().st_size < SMALLEST_BYTES:
            raise self._damaged("it was cut off")
        found = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise self._damaged(str(found).splitlines()[-1])
        tables = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "meta" not in tables:
            raise InputError(
                f"{self.path}: a database, but no journal of a controller; name another state_dir"
            )
        if tables:
            row = self._db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
            if row and row[0] != str(FORMAT):
                raise InputError(f"{self.path}: journal of format {row[0]}; this release reads {FORMAT}")

    def _damaged(self, what: str) -> InputError:
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

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Cursor, None, None]:
        cursor = self._db.cursor()
        try:
            cursor.execute("BEGIN IMMEDIATE")
            yield cursor
            cursor.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if self._db.in_transaction:
                self._db.rollback()
            raise JournalFull(f"{self.path}: cannot be written ({error})") from error
        except BaseException:
            if self._db.in_transaction:
                self._db.rollback()
            raise
        finally:
            cursor.close()

    # ------------------------------------------------------------------------------------------- intents

    def begin(self, at: float, mode: str, intents: Sequence[Intent], *, state: str = "pending") -> None:
        """Write intents; when this returns they are durable and their calls may leave.

        Args:
            at: Now, seconds since 1970.
            mode: The controller's mode.
            intents: The intents.
            state: `dry-run` for those that will not leave.

        Raises:
            JournalFull: They are not; the calls must not leave.
        """
        if not intents:
            return
        with self._writing() as cursor:
            cursor.executemany(
                "INSERT INTO intents (tick, at, mode, workload, action, token, request, after, state, why, "
                "guards, usd_per_hour) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        one.tick,
                        at,
                        mode,
                        one.workload,
                        one.action,
                        one.token,
                        json.dumps(dict(one.request), sort_keys=True),
                        one.after,
                        state,
                        one.why,
                        json.dumps(list(one.guards)),
                        one.usd_per_hour,
                    )
                    for one in intents
                ],
            )

    def settle(
        self, at: float, outcomes: Sequence[tuple[str, str, str]], rows: Iterable[InstanceRow]
    ) -> None:
        """Record what became of calls: (token, state, result) with state done, failed, unknown or dropped.

        Raises:
            JournalFull: It is not recorded; the intents stay open and are resolved by reading the cloud.
        """
        with self._writing() as cursor:
            cursor.executemany(
                "UPDATE intents SET state = ?, result = ?, settled_at = ? WHERE token = ?",
                [(state, result, at, token) for token, state, result in outcomes],
            )
            self._put_instances(cursor, rows)

    def open_intents(self) -> list[tuple[Intent, float]]:
        """Intents whose outcome is not known, oldest first, with the time they were written."""
        return [
            (
                Intent(
                    tick=row[0],
                    workload=row[1],
                    action=row[2],
                    token=row[3],
                    request=json.loads(row[4]),
                    after=row[5],
                    why=row[6],
                    guards=tuple(json.loads(row[7])),
                    usd_per_hour=row[8],
                ),
                row[9],
            )
            for row in self._db.execute(
                "SELECT tick, workload, action, token, request, after, why, guards, usd_per_hour, at "
                "FROM intents WHERE state IN ('pending', 'unknown') ORDER BY id"
            )
        ]

    # --------------------------------------------------------------------------------------------- state

    def save_tick(
        self,
        tick: int,
        at: float,
        mode: str,
        summary: Mapping[str, Any],
        state: Mapping[str, Mapping[str, NDArray[Any]]],
        rows: Iterable[InstanceRow] = (),
        trips: Sequence[tuple[str, str, str, str]] = (),
        seen: Sequence[tuple[str, float | None, int, bool]] = (),
    ) -> None:
        """End a tick: the deciders' state, what is known of instances, and which guards changed what.

        Args:
            tick: The tick.
            at: Its time.
            mode: The mode.
            summary: Figures of the tick.
            state: Arrays by decider and name; replaces what was saved under the same key.
            rows: Instances whose row changed.
            trips: (guard, workload, wanted, got).
            seen: What the market showed: (pool, price, spot instances held, whether it refused or took back).

        Raises:
            JournalFull: It is not saved; a restart would redo the tick.
        """
        blobs = [(key, _pack(arrays)) for key, arrays in state.items()]
        with self._writing() as cursor:
            cursor.executemany(
                "INSERT OR REPLACE INTO state VALUES (?, ?, ?)",
                [(key, hashlib.sha256(blob).hexdigest(), blob) for key, blob in blobs],
            )
            cursor.execute(
                "INSERT INTO ticks VALUES (?, ?, ?, ?)", (tick, at, mode, json.dumps(summary, sort_keys=True))
            )
            cursor.executemany(
                "INSERT INTO trips VALUES (?, ?, ?, ?, ?, ?)", [(tick, at, *trip) for trip in trips]
            )
            cursor.executemany("INSERT INTO seen VALUES (?, ?, ?, ?, ?)", [(at, *one) for one in seen])
            self._put_instances(cursor, rows)

    def seen(self) -> list[tuple[float, str, float | None, int, bool]]:
        """What the market showed at each tick, oldest first: (time, pool, price, held, refused)."""
        return [
            (row[0], row[1], row[2], row[3], bool(row[4]))
            for row in self._db.execute("SELECT at, pool, price, held, refused FROM seen ORDER BY at")
        ]

    def load_state(self, key: str) -> dict[str, NDArray[Any]] | None:
        """Arrays saved under a key, None if there are none.

        Raises:
            InputError: They are damaged.
        """
        row = self._db.execute("SELECT sha256, content FROM state WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        if hashlib.sha256(row[1]).hexdigest() != row[0]:
            raise self._damaged(f"the saved state {key} is not what was written")
        with np.load(io.BytesIO(row[1]), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def last_tick(self) -> tuple[int, float] | None:
        """Number and time of the last tick that was saved."""
        row = self._db.execute("SELECT tick, at FROM ticks ORDER BY rowid DESC LIMIT 1").fetchone()
        return (int(row[0]), float(row[1])) if row else None

    def last_decided(self) -> int | None:
        """Number of the last tick in which decisions were carried out."""
        row = self._db.execute(
            "SELECT tick FROM ticks WHERE json_extract(summary, '$.decided') ORDER BY rowid DESC LIMIT 1"
        ).fetchone()
        return int(row[0]) if row else None

    def remember(self, **facts: str) -> None:
        """Write named facts.

        Raises:
            JournalFull: They are not written.
        """
        with self._writing() as cursor:
            cursor.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(facts.items()))

    def recall(self, key: str) -> str | None:
        """A fact that `remember` wrote."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def live_instances(self) -> list[InstanceRow]:
        """Instances that were held or leaving when last seen."""
        return [
            InstanceRow(*row)
            for row in self._db.execute(
                "SELECT id, workload, pool, option, token, launched_at, state, ended_at FROM instances "
                "WHERE state != 'gone'"
            )
        ]

    @staticmethod
    def _put_instances(cursor: sqlite3.Cursor, rows: Iterable[InstanceRow]) -> None:
        cursor.executemany(
            "INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(r.id, r.workload, r.pool, r.option, r.token, r.launched_at, r.state, r.ended_at) for r in rows],
        )

    # --------------------------------------------------------------------------------------------- audit

    def event(self, at: float, level: str, kind: str, message: str) -> None:
        """Write an event.

        Raises:
            JournalFull: It is not written.
        """
        with self._writing() as cursor:
            cursor.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (at, level, kind, message))

    def audit(
        self, *, since: float = 0.0, workload: str | None = None, limit: int = 1000
    ) -> list[dict[str, Any]]:
        """What was done, decided otherwise by a guard, or happened: newest first; see `read_audit`."""
        return read_audit(self._db, since, workload, limit)

    def launched_since(self, since: float) -> dict[str, int]:
        """Instances launched, or possibly launched, per workload since a time."""
        counts: dict[str, int] = {}
        for workload, request in self._db.execute(
            "SELECT workload, request FROM intents WHERE at >= ? AND action = 'launch' "
            "AND state IN ('pending', 'unknown', 'done')",
            (since,),
        ):
            counts[workload] = counts.get(workload, 0) + int(json.loads(request)["count"])
        return counts

    def cost_at(self, moment: float) -> float:
        """USD of the first tick at or after a time, 0 if there is none."""
        row = self._db.execute(
            "SELECT summary FROM ticks WHERE at >= ? ORDER BY at LIMIT 1", (moment,)
        ).fetchone()
        return float(json.loads(row[0])["cost_usd"]) if row else 0.0

    def prune(self, before: float) -> int:
        """Delete ticks, trips, events, settled intents and gone instances older than a time; returns rows."""
        with self._writing() as cursor:
            rows = 0
            for statement in (
                "DELETE FROM ticks WHERE at < ?",
                "DELETE FROM trips WHERE at < ?",
                "DELETE FROM events WHERE at < ?",
                "DELETE FROM seen WHERE at < ?",
                "DELETE FROM intents WHERE at < ? AND state NOT IN ('pending', 'unknown')",
                "DELETE FROM instances WHERE ended_at < ? AND state = 'gone'",
            ):
                rows += cursor.execute(statement, (before,)).rowcount
            return rows

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
                self._db.backup(copy)
            finally:
                copy.close()
            partial.chmod(0o600)
            partial.replace(self.backup_path)
        except (OSError, sqlite3.Error) as error:
            partial.unlink(missing_ok=True)
            raise JournalFull(f"{self.backup_path}: cannot be written ({error})") from error


def _pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})
    return buffer.getvalue()
