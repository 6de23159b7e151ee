"""Canary mode: a share of the workloads is acted on and judged, and then all or none are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from optimizer.controller.config import CanarySettings
from optimizer.controller.decide import Decision
from optimizer.controller.inventory import Inventory
from optimizer.controller.jobs import JobFleet
from optimizer.controller.journal import Journal, JournalFull
from optimizer.controller.observe import Tell
from optimizer.controller.services import ServiceFleet
from optimizer.plan import Plan
from simulator.deadline import ON_DEMAND
from simulator.errors import InputError

State = Literal["running", "promoted", "rolled-back"]


class Canary:
    """The chosen workloads and the verdict, both of which survive a restart."""

    def __init__(
        self,
        settings: CanarySettings,
        fleets: Sequence[JobFleet | ServiceFleet],
        plan: Plan,
        journal: Journal,
        tell: Tell,
    ) -> None:
        """Choose the workloads: by the hash of their names, so that a restart chooses the same.

        Raises:
            InputError: The share of so few workloads is not one.
        """
        self._settings, self._fleets, self._journal, self._tell = settings, fleets, journal, tell
        names = [name for fleet in fleets for name in fleet.names]
        names.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        count = int(settings.share * len(names) + 1e-9)
        if not count:
            raise InputError(
                f"a canary of {settings.share:.0%} of {len(names)} workloads is not one workload; accepted: "
                f"canary.share of at least {1 / len(names):.3f}, or --mode shadow"
            )
        self.names = frozenset(names[:count])
        # the verdict is on the policies: a plan with the same ones, of another week, inherits it
        policies = json.dumps(sorted(one.model_dump_json() for one in plan.policies))
        self._key = f"canary:{hashlib.sha256(policies.encode()).hexdigest()[:16]}"
        saved = json.loads(journal.recall(self._key) or "{}")
        self.state: State = saved.get("state", "running")
        self._begun: float | None = saved.get("begun")
        self._ours: frozenset[str] = frozenset()
        self._waits = False

    def acts(self, workload: str) -> bool:
        """Whether the controller acts on a workload."""
        return self.state == "promoted" or workload in self.names or workload in self._ours

    def look(self, inventory: Inventory) -> None:
        """Workloads that hold or held the controller's instances are looked after, canaries or not.

        An earlier policy was promoted, or another mode launched them: nobody else will end them or make up
        for what they lose.
        """
        began = {fleet.names[row] for fleet in self._fleets for row in np.flatnonzero(fleet.cost > 0.0)}
        self._ours = frozenset(began.union(inventory.workloads()))

    def baseline(self, fleet: JobFleet | ServiceFleet) -> dict[int, str]:
        """Rows that are looked after though they are no canaries: the safe baseline does."""
        if self.state == "promoted":
            return {}
        return {
            fleet.row[name]: "no canary: what runs is kept"
            for name in self._ours - self.names
            if name in fleet.row
        }

    def override(self, decisions: Mapping[str, Decision]) -> None:
        """After a rollback the canaries run on on-demand capacity, whatever the policy says."""
        if self.state != "rolled-back":
            return
        for fleet in self._fleets:
            rows = np.array([row for name, row in fleet.row.items() if name in self.names], np.int64)
            if not rows.size:
                continue
            decision = decisions[fleet.key]
            if isinstance(fleet, JobFleet):
                decision.wanted[rows] = ON_DEMAND
            else:
                decision.wanted[rows] = 0
                decision.wanted[rows, -1] = fleet.demand[rows]
            decision.changed["canary-rollback"] = rows

    def judge(self, now: float) -> None:
        """Promote or roll back when it is time; a broken promise rolls back at once."""
        if self.state != "running":
            return
        if self._begun is None:
            self._begun = now
            self._save()
        cost, on_demand, broken = 0.0, 0.0, ""
        for fleet in self._fleets:
            for name, row in fleet.row.items():
                if name not in self.names:
                    continue
                cost += float(fleet.cost[row])
                on_demand += float(fleet.on_demand_cost[row])
                if isinstance(fleet, JobFleet):
                    cost += float(fleet.lateness[row])
                    late = bool(fleet.missed[row])
                else:
                    late = bool(fleet.counted_ticks[row]) and fleet.availability[row] < fleet.target[row]
                    # a few ticks say nothing of a share such as 0.999
                    late &= now - self._begun >= 3600.0 * self._settings.hours
                if late:
                    broken = f"{name} did not keep its promise"
        over = now - self._begun >= 3600.0 * self._settings.hours
        dear = cost > self._settings.most_cost_ratio * on_demand
        if over and not broken and on_demand <= 0.0:
            if not self._waits:
                self._tell("info", "canary", "nothing ran yet that could be judged; the canary goes on")
            self._waits = True
            return
        if broken or (over and dear):
            why = broken or f"it cost {cost:.2f} USD, {on_demand:.2f} on on-demand capacity"
            self._decide("rolled-back", f"canary rolled back: {why}")
        elif over:
            self._decide(
                "promoted",
                f"canary promoted: {cost:.2f} USD, {on_demand:.2f} on on-demand capacity, all promises kept",
            )

    def _decide(self, state: State, message: str) -> None:
        self.state = state
        self._tell("info" if state == "promoted" else "warning", "canary", message)
        self._save()

    def _save(self) -> None:
        try:
            self._journal.remember(**{self._key: json.dumps({"state": self.state, "begun": self._begun})})
        except JournalFull as error:
            self._tell("error", "journal-full", f"the canary's verdict is not written yet: {error}")
