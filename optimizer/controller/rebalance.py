"""Rebalance recommendations: how often they come true, and when following one pays.

Most are followed by nothing. So they are weighed with P, the share of recommendations that an interruption
followed within an hour, as measured here (prior 3 of 10):

- A job stays at the cost of a restart and the unsaved work, if the interruption comes; it leaves at the cost
  of a restart for sure. It leaves when P (restart + unsaved) > restart.
- A service has the replacement up before the old instance goes, so leaving costs both for the cold start, and
  for the rest of the hour the difference in price where the replacement is dearer. Staying risks one instance
  too few, from the end of the two minutes of warning to the end of the cold start. An instance-hour too few
  is worth on-demand price / (1 - target): it uses up the error budget of 1 / (1 - target) hours, and capacity
  that uses up none is on-demand. An instance that the service can spare costs nothing to lose.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass

import numpy as np

from optimizer.controller.decide import Decision
from optimizer.controller.inventory import Inventory
from optimizer.controller.jobs import JobFleet
from optimizer.controller.journal import InstanceRow, Journal, JournalFull
from optimizer.controller.losses import WARNING_SECONDS
from optimizer.controller.observe import Sight
from optimizer.controller.providers import Notice
from optimizer.controller.services import ServiceFleet
from simulator.deadline import FIRST_SPOT
from simulator.deadline.observation import BoolArray, IntArray

WINDOW_SECONDS = 3600.0
PRIOR_FOLLOWED, PRIOR_ALL = 3.0, 10.0
COUNTS = ("recommended", "followed", "interrupted", "preceded")
KINDS = ("deadline", "service")


@dataclass(slots=True)
class Away:
    """A service's spot instance that had better be replaced, and its pool avoided for the hour.

    Attributes:
        workload: The service.
        pool: Pool that it is, or was, in.
        at: When the recommendation came, seconds since 1970.
        column: Where its replacement is asked for: a pool, or the last column for on-demand.
    """

    workload: str
    pool: str
    at: float
    column: int


class Rebalance:
    """Counts recommendations and interruptions, and moves services away; all of it survives a restart.

    Attributes:
        by_kind: By kind of workload: `recommended` instances whose hour is over or that were interrupted,
            `followed` those of them that were interrupted, `interrupted` instances, `preceded` those of them
            that had a recommendation.
        open: When each instance was recommended, for those whose hour is not over.
        away: Services' instances that are being replaced, by id.
    """

    def __init__(self, journal: Journal, services: AbstractSet[str] = frozenset()) -> None:
        """Continue counting; `services` are the workloads that are no jobs."""
        self._journal, self._services = journal, services
        saved = json.loads(journal.recall("rebalance") or "{}")
        kept = saved.get("by_kind", {})
        self.by_kind: dict[str, dict[str, int]] = {
            kind: {name: int(kept.get(kind, {}).get(name, 0)) for name in COUNTS} for kind in KINDS
        }
        self.open: dict[str, float] = dict(saved.get("open", {}))
        self.away: dict[str, Away] = {one: Away(**fields) for one, fields in saved.get("away", {}).items()}

    @property
    def counts(self) -> dict[str, int]:
        """The counts of both kinds together."""
        return {name: sum(self.by_kind[kind][name] for kind in KINDS) for name in COUNTS}

    @property
    def precision(self) -> float:
        """Share of recommendations that came true; none before one is over."""
        return _precision(self.counts)

    @property
    def recall(self) -> float:
        """Share of interruptions that a recommendation preceded."""
        return _recall(self.counts)

    @property
    def chance(self) -> float:
        """Chance that a recommendation comes true, the prior included."""
        counts = self.counts
        return (PRIOR_FOLLOWED + counts["followed"]) / (PRIOR_ALL + counts["recommended"])

    def published(self) -> dict[str, dict[str, float]]:
        """Counts, precision and recall by kind of workload."""
        return {
            kind: {**counts, "precision": round(_precision(counts), 4), "recall": round(_recall(counts), 4)}
            for kind, counts in self.by_kind.items()
        }

    def note(
        self, notices: Iterable[Notice], lost: Iterable[InstanceRow], inventory: Inventory, now: float
    ) -> None:
        """Count what a look brought; a recommendation that comes again counts once.

        Args:
            notices: Messages.
            lost: Spot instances that ended by themselves.
            inventory: Only instances in it are counted.
            now: Seconds since 1970.
        """
        before = self._text()
        for notice in notices:
            if notice.kind == "rebalance" and notice.instance in inventory.rows:
                self.open.setdefault(notice.instance, min(notice.at, now))
        for row in lost:
            counts = self.by_kind[self._kind(row.workload)]
            counts["interrupted"] += 1
            if self.open.pop(row.id, None) is not None:
                counts["preceded"] += 1
                counts["followed"] += 1
                counts["recommended"] += 1
        for instance, at in list(self.open.items()):
            over, held = now - at > WINDOW_SECONDS, inventory.rows.get(instance)
            if over or held is None:
                del self.open[instance]
                # one that the controller itself ended in time says nothing
                if held is not None:
                    self.by_kind[self._kind(held.workload)]["recommended"] += 1
        self.away = {one: away for one, away in self.away.items() if now - away.at <= WINDOW_SECONDS}
        self._save(before)

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

    def steer(
        self,
        fleet: ServiceFleet,
        decision: Decision,
        ready: IntArray,
        held: IntArray,
        inventory: Inventory,
        sight: Sight,
        *,
        max_pool_share: float = 1.0,
        others: AbstractSet[str] = frozenset(),
    ) -> None:
        """Ask elsewhere for what services hold on spot instances that had better be left.

        The decision of a service is changed from the pool of such an instance to the cheapest other one, for
        the hour in which the recommendation holds. An instance that still runs is given up only when enough
        are ready without it.

        Args:
            fleet: The services.
            decision: Changed in place; named `rebalance`.
            ready: (N,) instances past their cold start.
            held: (N, P + 1) instances held.
            inventory: What is held.
            sight: Prices and offers.
            max_pool_share: Guard: largest share of the spot instances in one pool.
            others: Services whose instances somebody else's group launches.
        """
        before = self._text()
        self._choose(fleet, decision, ready, inventory, sight, max_pool_share, others)
        changed = []
        surplus = ready - fleet.demand
        for instance, away in self.away.items():
            row = fleet.row.get(away.workload)
            column = None if row is None else fleet.column[row].get(away.pool)
            if row is None or column is None or decision.wanted[row, column] < 1:
                continue
            target = away.column
            spot = target < fleet.pools_each
            short = held[row, target] <= decision.wanted[row, target]
            if spot and short and sight.offers.get(fleet.workloads[row].pools[target].name, 0) <= 0:
                # it had none: on-demand capacity takes its place
                away.column = target = fleet.pools_each
            decision.wanted[row, target] += 1
            runs = instance in inventory.rows and inventory.rows[instance].state == "live"
            if not runs or surplus[row] > 0:
                decision.wanted[row, column] -= 1
                surplus[row] -= runs
            changed.append(row)
        if changed:
            decision.changed["rebalance"] = np.array(sorted(set(changed)))
        self._save(before)

    # -------------------------------------------------------------------------------------------- inside

    def _choose(
        self,
        fleet: ServiceFleet,
        decision: Decision,
        ready: IntArray,
        inventory: Inventory,
        sight: Sight,
        max_pool_share: float,
        others: AbstractSet[str],
    ) -> None:
        """Add to `away` what pays; as many as a service can spare are left where they are."""
        spare: dict[int, int] = {}
        for instance, at in sorted(self.open.items(), key=lambda item: (item[1], item[0])):
            held = inventory.rows.get(instance)
            if held is None or held.state != "live" or instance in self.away or held.workload in others:
                continue
            row = fleet.row.get(held.workload)
            column = fleet.column[row].get(held.pool) if row is not None and held.option == "spot" else None
            if row is None or column is None:
                continue
            if row not in spare:
                moving = sum(
                    away.workload == held.workload and one in inventory.rows
                    for one, away in self.away.items()
                )
                spare[row] = int(ready[row] - fleet.demand[row]) - moving
            if spare[row] > 0:
                spare[row] -= 1
                continue
            target = self._target(fleet, row, decision, inventory, sight, max_pool_share)
            if self._pays(fleet, row, column, target, at, sight):
                self.away[instance] = Away(held.workload, held.pool, at, target)

    def _target(
        self,
        fleet: ServiceFleet,
        row: int,
        decision: Decision,
        inventory: Inventory,
        sight: Sight,
        max_pool_share: float,
    ) -> int:
        """Cheapest pool without an open recommendation that is believed to have capacity, or on-demand."""
        shunned = {inventory.rows[one].pool for one in self.open if one in inventory.rows}
        shunned |= {away.pool for away in self.away.values()}
        wanted = decision.wanted[row]
        most = max(int(np.ceil(max_pool_share * wanted[:-1].sum() - 1e-9)), 1)
        best, price = fleet.pools_each, float(fleet.on_demand_price[row])
        for column, pool in enumerate(fleet.workloads[row].pools):
            quoted = sight.price.get(pool.name)
            fits = max_pool_share >= 1.0 or wanted[column] + 1 <= most
            open_to = pool.name not in shunned and sight.offers.get(pool.name, 0) > 0
            if quoted is not None and quoted < price and fits and open_to:
                best, price = column, quoted
        return best

    def _pays(self, fleet: ServiceFleet, row: int, column: int, target: int, at: float, sight: Sight) -> bool:
        """See the head of this file; all in USD of one instance."""
        cold = float(fleet.cold_ticks[row] * fleet.tick_seconds)
        here = _price(fleet, row, column, sight.price)
        there = _price(fleet, row, target, sight.price)
        left = max(WINDOW_SECONDS - (sight.now - at), 0.0)
        worth = float(fleet.on_demand_price[row] / (1.0 - fleet.target[row]))
        risk = self.chance * max(cold - WARNING_SECONDS, 0.0) * worth
        return risk > cold * there + left * max(there - here, 0.0)

    def _kind(self, workload: str) -> str:
        return "service" if workload in self._services else "deadline"

    def _text(self) -> str:
        away = {one: asdict(found) for one, found in self.away.items()}
        return json.dumps({"by_kind": self.by_kind, "open": self.open, "away": away})

    def _save(self, before: str) -> None:
        text = self._text()
        if text != before:
            try:
                self._journal.remember(rebalance=text)
            except JournalFull:
                # counts only: the tick itself tells of the journal
                return


def _price(fleet: ServiceFleet, row: int, column: int, price: Mapping[str, float]) -> float:
    if column == fleet.pools_each:
        return float(fleet.on_demand_price[row])
    pool = fleet.workloads[row].pools[column]
    return price.get(pool.name, pool.on_demand_price)


def _precision(counts: Mapping[str, int]) -> float:
    return counts["followed"] / max(counts["recommended"], 1)


def _recall(counts: Mapping[str, int]) -> float:
    return counts["preceded"] / max(counts["interrupted"], 1)
