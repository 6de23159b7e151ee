"""Instances that carry the controller's tag although the journal did not launch them, or no plan has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from optimizer.controller.journal import InstanceRow, Journal
from optimizer.controller.observe import Tell


class Strangers:
    """Tells of each once per process.

    Attributes:
        unplanned: Ids of held instances whose workload the plan does not have; they are left alone.
    """

    def __init__(self, planned: AbstractSet[str], journal: Journal, tell: Tell) -> None:
        """Know the plan's workloads; calls in doubt are read from the journal."""
        self._planned, self._journal, self._tell = planned, journal, tell
        self.unplanned: set[str] = set()
        self._told: set[str] = set()

    def look(self, adopted: Sequence[InstanceRow], live: Iterable[InstanceRow]) -> None:
        """Tell what a look brought.

        Args:
            adopted: Instances that count as the controller's own from now on.
            live: All that are held.
        """
        tokens = {intent.token for intent, _ in self._journal.open_intents()} if adopted else set()
        for row in adopted:
            if row.workload in self._planned and row.token not in tokens:
                self._tell(
                    "warning",
                    "adopted",
                    f"{row.id} carries this controller's tag for {row.workload}, but this journal did not "
                    "launch it: it counts as the controller's own from now on, and may be terminated",
                )
        nobodys = [row for row in live if row.workload not in self._planned]
        self.unplanned = {row.id for row in nobodys}
        for row in nobodys:
            if row.id not in self._told:
                self._told.add(row.id)
                self._tell(
                    "warning",
                    "unplanned",
                    f"{row.id} carries this controller's tag for {row.workload}, which the plan does not "
                    "have; it is left alone: terminate it, or plan its workload",
                )
