"""Which instances there are: what the cloud describes, merged with what the controller itself has just done.

Descriptions lag behind: a new instance may not be shown for a while, one that was terminated may still be.
So an instance that this controller launched is believed in for a grace period, one that it terminated
counts as gone at once, and one that is merely absent from an answer counts as held until it was absent
several times in a row and for a grace period.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from optimizer.controller.journal import InstanceRow
from optimizer.controller.providers import Instance

ABSENT_READS = 3
"""An instance that was shown before is gone when it was absent from this many answers in a row."""

NOTICE_SECONDS = 180.0
"""An instance that was announced to go (two minutes) and still runs after this is held after all."""


@dataclass(slots=True)
class Changes:
    """What one look at the cloud brought.

    Attributes:
        lost: Instances that ended without this controller's doing.
        adopted: Instances with this controller's tag that it did not know.
    """

    lost: list[InstanceRow] = field(default_factory=list)
    adopted: list[InstanceRow] = field(default_factory=list)


class Inventory:
    """Instances by id and by workload."""

    def __init__(self, rows: Iterable[InstanceRow] = ()) -> None:
        """Begin with what the journal knows."""
        self.rows: dict[str, InstanceRow] = {}
        self._live: dict[str, dict[str, InstanceRow]] = {}
        self._absent: dict[str, int] = {}
        self._absent_since: dict[str, float] = {}
        self._seen: set[str] = set()
        self.changed: dict[str, InstanceRow] = {}
        for row in rows:
            self._put(row)
        self.doubt()
        self._unvouched = set(self.rows)
        self.changed.clear()

    def live(self, workload: str) -> Sequence[InstanceRow]:
        """Held instances of a workload, oldest first."""
        return sorted(self._live.get(workload, {}).values(), key=lambda row: (row.launched_at, row.id))

    def all_live(self) -> Iterable[InstanceRow]:
        """Held instances of all workloads."""
        for rows in self._live.values():
            yield from rows.values()

    def doubt(self) -> None:
        """The time in which nobody looked, or another led, counts as one look: two more are enough."""
        for one in self.rows:
            self._absent.setdefault(one, 1)

    def unvouched(self) -> set[str]:
        """Workloads that hold an instance by the journal's word only: it was not shown since the restart."""
        return {self.rows[one].workload for one in self._unvouched if self.rows[one].state == "live"}

    def workloads(self) -> Iterable[str]:
        """Workloads that hold anything."""
        return [name for name, rows in self._live.items() if rows]

    def absent(self) -> frozenset[str]:
        """Workloads that hold an instance which the last look did not show."""
        rows = [self.rows[one] for one in self._absent_since if one in self.rows]
        return frozenset(row.workload for row in rows if row.state == "live")

    def merge(
        self,
        described: Sequence[Instance],
        now: float,
        grace_seconds: float,
        hides: Callable[[InstanceRow], bool] = lambda row: False,
    ) -> Changes:
        """Take in what the cloud describes.

        Args:
            described: The whole answer.
            now: Seconds since 1970.
            grace_seconds: How long a launched instance may be absent from answers.
            hides: Instances about which the answer says nothing.

        Returns:
            What was lost and what was found.
        """
        changes = Changes()
        shown = set()
        for instance in described:
            shown.add(instance.id)
            self._absent.pop(instance.id, None)
            self._absent_since.pop(instance.id, None)
            self._unvouched.discard(instance.id)
            known = self.rows.get(instance.id)
            over = instance.state in ("leaving", "gone")
            if known is None:
                if not over:
                    row = _row(instance, now)
                    self._put(row)
                    changes.adopted.append(row)
                continue
            self._seen.add(instance.id)
            if over and known.state == "live":
                changes.lost.append(self._end(known, instance.ended_at))
            elif over and known.state == "leaving" and instance.state == "gone":
                self._end(known, instance.ended_at)
            elif not over and known.state == "leaving":
                since = known.ended_at if known.ended_at is not None else now
                if now - since > max(grace_seconds, NOTICE_SECONDS):
                    self._put(replace(known, state="live", ended_at=None))
        for row in [row for row in self.rows.values() if row.id not in shown and not hides(row)]:
            patience = row.launched_at + grace_seconds if row.id not in self._seen else 0.0
            self._absent[row.id] = self._absent.get(row.id, 0) + 1
            since = self._absent_since.setdefault(row.id, now)
            waited = now >= patience and now - since >= grace_seconds
            if waited and self._absent[row.id] >= ABSENT_READS:
                ended = self._end(row, None)
                if row.state == "live":
                    changes.lost.append(ended)
        return changes

    def launched(self, rows: Iterable[InstanceRow]) -> None:
        """Take in what a launch gave."""
        for row in rows:
            if row.id not in self.rows:
                self._put(row)

    def leaving(self, ids: Iterable[str], at: float) -> None:
        """Mark instances that this controller tells to go: they no longer count as held."""
        for one in ids:
            row = self.rows.get(one)
            if row is not None and row.state == "live":
                self._put(replace(row, state="leaving", ended_at=at))

    def stays(self, ids: Iterable[str]) -> None:
        """Take back `leaving`: the call did not take effect."""
        for one in ids:
            row = self.rows.get(one)
            if row is not None and row.state == "leaving":
                self._put(replace(row, state="live", ended_at=None))

    def taken(self, instance: str, at: float) -> InstanceRow | None:
        """An instance that the cloud has announced to take back counts as lost; returns it if it was held."""
        row = self.rows.get(instance)
        if row is None or row.state != "live":
            return None
        lost = replace(row, state="leaving", ended_at=at)
        self._put(lost)
        return lost

    def take_changed(self) -> list[InstanceRow]:
        """Rows that changed since the last call, for the journal."""
        changed = list(self.changed.values())
        self.changed = {}
        return changed

    def _put(self, row: InstanceRow) -> None:
        self.rows[row.id] = row
        self.changed[row.id] = row
        mine = self._live.setdefault(row.workload, {})
        if row.state == "live":
            mine[row.id] = row
        else:
            mine.pop(row.id, None)

    def _end(self, row: InstanceRow, at: float | None) -> InstanceRow:
        ended = replace(row, state="gone", ended_at=at if at is not None else row.ended_at)
        self._put(ended)
        del self.rows[row.id]
        self._absent.pop(row.id, None)
        self._absent_since.pop(row.id, None)
        self._seen.discard(row.id)
        self._unvouched.discard(row.id)
        return ended


def _row(instance: Instance, now: float) -> InstanceRow:
    """An instance as the journal has it; a cloud whose clock is ahead launches nothing in the future."""
    return InstanceRow(
        instance.id,
        instance.workload,
        instance.pool,
        instance.option,
        instance.token,
        min(instance.launched_at, now),
        "live",
    )
