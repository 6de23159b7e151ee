"""The journal's entries and what is asked of them, wherever they are kept.

An intent is durable before its call leaves (`begin`), so that after a crash the cloud can be asked what
became of it. The state of the deciders is saved once per tick; a crash inside a tick continues from the end
of the one before.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizer.controller.journal.audit import read_audit
from optimizer.controller.journal.records import InstanceRow, Intent
from optimizer.controller.journal.sqlite import SqliteStore
from optimizer.controller.journal.store import Cursor, Store


class Journal:
    """One controller's journal. Use as a context manager."""

    def __init__(self, where: Path | Store) -> None:
        """Keep it in a store; a path is a SQLite file, opened or begun.

        Raises:
            InputError: See `SqliteStore`.
        """
        self.store: Store = SqliteStore(where) if isinstance(where, Path) else where

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    @property
    def shared(self) -> bool:
        """Whether several controllers keep it together, the leader writing."""
        return self.store.shared

    def lead(self, fence: int) -> None:
        """Write as the leader with this number; writes of leaders before are refused from now on.

        Raises:
            Deposed: There is a later leader.
            JournalLost: The database does not answer.
        """
        self.store.lead(fence)

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
        with self.store.writing() as cursor:
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
        with self.store.writing() as cursor:
            cursor.executemany(
                "UPDATE intents SET state = ?, result = ?, settled_at = ? WHERE token = ?",
                [(state, result, at, token) for token, state, result in outcomes],
            )
            self._put_instances(cursor, rows)

    def open_intents(self, *, shadow: bool = False) -> list[tuple[Intent, float]]:
        """Intents whose outcome is not known, oldest first, with the time they were written.

        Args:
            shadow: Those of shadow mode; by default those of all other modes.
        """
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
            for row in self.store.read(
                "SELECT tick, workload, action, token, request, after, why, guards, usd_per_hour, at, mode "
                "FROM intents WHERE state IN ('pending', 'unknown') ORDER BY id"
            )
            if (row[10] == "shadow") == shadow
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
        with self.store.writing() as cursor:
            cursor.executemany(
                "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT (key) "
                "DO UPDATE SET sha256 = excluded.sha256, content = excluded.content",
                [(key, hashlib.sha256(blob).hexdigest(), blob) for key, blob in blobs],
            )
            cursor.execute(
                "INSERT INTO ticks (tick, at, mode, summary) VALUES (?, ?, ?, ?)",
                (tick, at, mode, json.dumps(summary, sort_keys=True)),
            )
            cursor.executemany(
                "INSERT INTO trips (tick, at, guard, workload, wanted, got) VALUES (?, ?, ?, ?, ?, ?)",
                [(tick, at, *trip) for trip in trips],
            )
            cursor.executemany(
                "INSERT INTO seen (at, pool, price, held, refused) VALUES (?, ?, ?, ?, ?)",
                [(at, pool, price, held, int(refused)) for pool, price, held, refused in seen],
            )
            self._put_instances(cursor, rows)

    def seen(self) -> list[tuple[float, str, float | None, int, bool]]:
        """What the market showed at each tick, oldest first: (time, pool, price, held, refused)."""
        return [
            (row[0], row[1], row[2], row[3], bool(row[4]))
            for row in self.store.read("SELECT at, pool, price, held, refused FROM seen ORDER BY at")
        ]

    def state_keys(self, prefix: str) -> list[str]:
        """Keys of saved state that begin so."""
        found = self.store.read("SELECT key FROM state WHERE key LIKE ? ORDER BY key", (f"{prefix}%",))
        return [str(key) for (key,) in found]

    def load_state(self, key: str) -> dict[str, NDArray[Any]] | None:
        """Arrays saved under a key, None if there are none.

        Raises:
            InputError: They are damaged.
        """
        found = self.store.read("SELECT sha256, content FROM state WHERE key = ?", (key,))
        if not found:
            return None
        row = found[0]
        if hashlib.sha256(row[1]).hexdigest() != row[0]:
            raise self.store.damaged(f"the saved state {key} is not what was written")
        with np.load(io.BytesIO(row[1]), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def last_tick(self) -> tuple[int, float] | None:
        """Number and time of the last tick that was saved."""
        for tick, at in self.store.read("SELECT tick, at FROM ticks ORDER BY rowid DESC LIMIT 1"):
            return int(tick), float(at)
        return None

    def last_decided(self, mode: str, plan: str) -> int | None:
        """Number of the last tick in which decisions were carried out, if in this mode and of this plan.

        Args:
            mode: The controller's.
            plan: Its plan's checksum: ticks are counted from when a plan was created.
        """
        for tick, its_mode, summary in self.store.read(
            "SELECT tick, mode, summary FROM ticks WHERE summary LIKE ? ORDER BY rowid DESC LIMIT 1",
            ('%"decided": true%',),
        ):
            return int(tick) if (its_mode, json.loads(summary).get("plan")) == (mode, plan) else None
        return None

    def last_plan(self, mode: str) -> str | None:
        """Checksum of the plan of the last tick in this mode, None if there is none."""
        for (summary,) in self.store.read(
            "SELECT summary FROM ticks WHERE mode = ? ORDER BY rowid DESC LIMIT 1", (mode,)
        ):
            found = json.loads(summary).get("plan")
            return None if found is None else str(found)
        return None

    def remember(self, **facts: str) -> None:
        """Write named facts.

        Raises:
            JournalFull: They are not written.
        """
        with self.store.writing() as cursor:
            cursor.executemany(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                list(facts.items()),
            )

    def recall(self, key: str) -> str | None:
        """A fact that `remember` wrote."""
        for (value,) in self.store.read("SELECT value FROM meta WHERE key = ?", (key,)):
            return str(value)
        return None

    def ended_since(self, moment: float) -> dict[str, float]:
        """When the first instance of each workload ended or was told to, for those with one after a time."""
        return {
            str(workload): float(ended)
            for workload, ended in self.store.read(
                "SELECT workload, MIN(ended_at) FROM instances WHERE ended_at > ? GROUP BY workload",
                (moment,),
            )
        }

    def live_instances(self) -> list[InstanceRow]:
        """Instances that were held or leaving when last seen."""
        return [
            InstanceRow(*row)
            for row in self.store.read(
                "SELECT id, workload, pool, option, token, launched_at, state, ended_at FROM instances "
                "WHERE state != 'gone'"
            )
        ]

    @staticmethod
    def _put_instances(cursor: Cursor, rows: Iterable[InstanceRow]) -> None:
        cursor.executemany(
            "INSERT INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "workload = excluded.workload, pool = excluded.pool, option = excluded.option, "
            "token = excluded.token, launched_at = excluded.launched_at, state = excluded.state, "
            "ended_at = excluded.ended_at",
            [(r.id, r.workload, r.pool, r.option, r.token, r.launched_at, r.state, r.ended_at) for r in rows],
        )

    # --------------------------------------------------------------------------------------------- audit

    def event(self, at: float, level: str, kind: str, message: str) -> None:
        """Write an event.

        Raises:
            JournalFull: It is not written.
        """
        with self.store.writing() as cursor:
            cursor.execute(
                "INSERT INTO events (at, level, kind, message) VALUES (?, ?, ?, ?)",
                (at, level, kind, message),
            )

    def audit(
        self, *, since: float = 0.0, workload: str | None = None, limit: int = 1000
    ) -> list[dict[str, Any]]:
        """What was done, decided otherwise by a guard, or happened: newest first; see `read_audit`."""
        return read_audit(self.store, since, workload, limit)

    def launched_since(self, since: float) -> dict[str, int]:
        """Instances launched, or possibly launched, per workload since a time."""
        counts: dict[str, int] = {}
        for workload, request in self.store.read(
            "SELECT workload, request FROM intents WHERE at >= ? AND action = 'launch' "
            "AND state IN ('pending', 'unknown', 'done')",
            (since,),
        ):
            counts[workload] = counts.get(workload, 0) + int(json.loads(request)["count"])
        return counts

    def cost_at(self, moment: float, figure: str = "cost_usd") -> float:
        """A figure of the first tick at or after a time that has it, 0 if there is none."""
        for (summary,) in self.store.read(
            "SELECT summary FROM ticks WHERE at >= ? AND summary LIKE ? ORDER BY at LIMIT 1",
            (moment, f'%"{figure}"%'),
        ):
            return float(json.loads(summary)[figure])
        return 0.0

    def last_figure(self, figure: str) -> float:
        """A figure of the last tick that has it, 0 if there is none."""
        for (summary,) in self.store.read(
            "SELECT summary FROM ticks WHERE summary LIKE ? ORDER BY rowid DESC LIMIT 1", (f'%"{figure}"%',)
        ):
            return float(json.loads(summary)[figure])
        return 0.0

    def prune(self, before: float, keep: Collection[str] = ()) -> int:
        """Delete what is older than a time; returns rows.

        Ticks, trips, events, settled intents, gone instances, and state of fleets not looked at since.

        Args:
            before: Seconds since 1970.
            keep: Keys of state that stays whatever its age: that of the present plan.
        """
        old = [key for key in self.state_keys("") if key not in keep and self._looked_at(key) < before]
        with self.store.writing() as cursor:
            cursor.executemany("DELETE FROM state WHERE key = ?", [(key,) for key in old])
            rows = len(old)
            for statement in (
                "DELETE FROM ticks WHERE at < ?",
                "DELETE FROM trips WHERE at < ?",
                "DELETE FROM events WHERE at < ?",
                "DELETE FROM seen WHERE at < ?",
                "DELETE FROM intents WHERE at < ? AND state NOT IN ('pending', 'unknown')",
                "DELETE FROM instances WHERE ended_at < ? AND state = 'gone'",
            ):
                rows += cursor.execute(statement, (before,))
            return rows

    def _looked_at(self, key: str) -> float:
        """When workloads of saved state were looked at last, seconds since 1970; 0 = none has begun."""
        at = (self.load_state(key) or {}).get("at", np.zeros(0))
        return float(np.nan_to_num(at, nan=0.0).max(initial=0.0))

    def back_up(self) -> None:
        """Copy the journal beside itself; a database server's copies are its own business.

        Raises:
            JournalFull: There is no room.
        """
        self.store.back_up()


def _pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})
    return buffer.getvalue()
