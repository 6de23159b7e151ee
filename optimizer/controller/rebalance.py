"""Rebalance recommendations: how often they come true, and when following one pays.

Staying costs a restart and the unsaved work, if the interruption comes; leaving costs a restart for sure.
So a job leaves when P(restart + unsaved) > restart, with P the share of recommendations that were followed
by an interruption within an hour, as measured here. Most are not: the prior is 3 of 10.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from optimizer.controller.inventory import Inventory
from optimizer.controller.jobs import JobFleet
from optimizer.controller.journal import Journal, JournalFull
from optimizer.controller.providers import Notice
from simulator.deadline import FIRST_SPOT
from simulator.deadline.observation import BoolArray

WINDOW_SECONDS = 3600.0
PRIOR_FOLLOWED, PRIOR_ALL = 3.0, 10.0
COUNTS = ("recommended", "followed", "interrupted", "preceded")


class Rebalance:
    """Counts recommendations and interruptions; both survive a restart.

    Attributes:
        counts: `recommended` instances whose hour is over or that were interrupted, `followed` those of
            them that were interrupted, `interrupted` instances, `preceded` those of them that had a
            recommendation.
        open: When each instance was recommended, for those whose hour is not over.
    """

    def __init__(self, journal: Journal) -> None:
        """Continue counting."""
        self._journal = journal
        saved = json.loads(journal.recall("rebalance") or "{}")
        self.counts: dict[str, int] = {name: int(saved.get(name, 0)) for name in COUNTS}
        self.open: dict[str, float] = dict(saved.get("open", {}))

    @property
    def precision(self) -> float:
        """Share of recommendations that came true; none before one is over."""
        return self.counts["followed"] / max(self.counts["recommended"], 1)

    @property
    def recall(self) -> float:
        """Share of interruptions that a recommendation preceded."""
        return self.counts["preceded"] / max(self.counts["interrupted"], 1)

    @property
    def chance(self) -> float:
        """Chance that a recommendation comes true, the prior included."""
        return (PRIOR_FOLLOWED + self.counts["followed"]) / (PRIOR_ALL + self.counts["recommended"])

    def note(self, notices: Iterable[Notice], lost: Iterable[str], inventory: Inventory, now: float) -> None:
        """Count what a look brought; a recommendation that comes again counts once.

        Args:
            notices: Messages.
            lost: Spot instances that ended by themselves.
            inventory: Only instances in it are counted.
            now: Seconds since 1970.
        """
        before = (dict(self.counts), dict(self.open))
        for notice in notices:
            if notice.kind == "rebalance" and notice.instance in inventory.rows:
                self.open.setdefault(notice.instance, min(notice.at, now))
        for instance in lost:
            self.counts["interrupted"] += 1
            if self.open.pop(instance, None) is not None:
                self.counts["preceded"] += 1
                self.counts["followed"] += 1
                self.counts["recommended"] += 1
        for instance, at in list(self.open.items()):
            if now - at > WINDOW_SECONDS or instance not in inventory.rows:
                del self.open[instance]
                # one that the controller itself ended in time says nothing
                self.counts["recommended"] += now - at > WINDOW_SECONDS
        if (self.counts, self.open) != before:
            try:
                self._journal.remember(rebalance=json.dumps({**self.counts, "open": self.open}))
            except JournalFull:
                # counts only: the tick itself tells of the journal
                return

    def leaving(self, fleet: JobFleet, inventory: Inventory) -> BoolArray:
        """(N,) jobs on a recommended spot instance for which leaving is worth a restart."""
        leave = np.zeros(fleet.size, np.bool_)
        for instance in self.open:
            held = inventory.rows.get(instance)
            row = fleet.row.get(held.workload) if held is not None and held.state == "live" else None
            if row is not None and fleet.placement[row] >= FIRST_SPOT:
                restart = fleet.restart_overhead[row]
                leave[row] = self.chance * (restart + fleet.unsaved[row]) > restart
        return leave
