"""Shadow mode: real prices and the real cloud's word on capacity, but instances only in the journal."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from optimizer.controller.journal import InstanceRow, Journal, JournalFull
from optimizer.controller.providers import Capacity, Clock, Instance, Launch, LaunchResult, NoCapacity
from optimizer.plan import PlanPool
from simulator.market.market import UNLIMITED_CAPACITY

PREFIX = "shadow-"
"""Of the names of instances that are nowhere but in the journal."""


class Shadow:
    """A capacity that grants what the real one says it would, and launches nothing.

    A pool that is said to have less than is held takes back the youngest. What the real cloud does not tell
    (AWS tells no capacity before one asks) is believed to be there.
    """

    def __init__(
        self, capacity: Capacity, clock: Clock, rows: Iterable[InstanceRow], pools: Mapping[str, PlanPool]
    ) -> None:
        """Continue with the instances of the journal."""
        self._capacity, self._clock, self._pools = capacity, clock, pools
        self._held: dict[str, Instance] = {}
        for row in rows:
            option: Literal["spot", "on-demand"] = "spot" if row.option == "spot" else "on-demand"
            self._held[row.id] = Instance(
                row.id, row.workload, row.pool, option, "running", row.launched_at, row.token
            )
        self._answers: dict[str, LaunchResult] = {}

    def instances(self) -> Sequence[Instance]:
        """What would be held; instances that would have been taken are shown as gone once."""
        offers = self._capacity.offers(list(self._pools.values()))
        groups: dict[tuple[str, str], list[Instance]] = {}
        for one in self._held.values():
            if one.option == "spot":
                groups.setdefault((one.workload, one.pool), []).append(one)
        gone = []
        for (_, pool), mine in groups.items():
            for one in mine[max(offers.get(pool, len(mine)), 0) :]:
                gone.append(replace(one, state="gone", ended_at=self._clock.now()))
                del self._held[one.id]
        return [*self._held.values(), *gone]

    def offers(self, pools: Sequence[PlanPool]) -> Mapping[str, int]:
        """What the real cloud says."""
        return self._capacity.offers(pools)

    def launch(self, request: Launch) -> LaunchResult:
        """Pretend."""
        if request.token in self._answers:
            return self._answers[request.token]
        granted = request.count
        if request.option == "spot":
            held = sum(
                one.workload == request.workload and one.pool == request.pool.name and one.option == "spot"
                for one in self._held.values()
            )
            offered = self._capacity.offers([request.pool]).get(request.pool.name, 0)
            granted = min(granted, max(offered - held, 0))
        if granted < request.at_least:
            raise NoCapacity(f"{request.pool.name} would have {granted} of {request.count} instances")
        ids = tuple(f"{PREFIX}{secrets.token_hex(8)}" for _ in range(granted))
        for one in ids:
            self._held[one] = Instance(
                one,
                request.workload,
                request.pool.name,
                request.option,
                "running",
                self._clock.now(),
                request.token,
            )
        self._answers[request.token] = LaunchResult(ids, "" if granted == request.count else "capacity")
        return self._answers[request.token]

    def terminate(self, ids: Sequence[str]) -> None:
        """Pretend."""
        for one in ids:
            self._held.pop(one, None)


class Belief:
    """How much of a shadow's saving rests on spot capacity that nobody has asked for.

    Where the cloud tells no capacity, a pool is believed to have as much as is wanted. What a shadow saves
    there, the difference between on-demand and spot price of what it would hold, is counted by pool. It
    survives a restart.

    Attributes:
        saved: USD by pool.
    """

    def __init__(self, journal: Journal) -> None:
        """Continue counting."""
        self._journal = journal
        self.saved: dict[str, float] = {
            str(pool): float(usd) for pool, usd in json.loads(journal.recall("shadow-belief") or "{}").items()
        }

    @property
    def usd(self) -> float:
        """USD saved so far in all pools that were only believed to have capacity."""
        return sum(self.saved.values())

    def note(
        self,
        rows: Iterable[InstanceRow],
        offers: Mapping[str, int],
        pools: Mapping[str, PlanPool],
        price: Mapping[str, float],
        hours: float,
    ) -> None:
        """Count what was held since the last look.

        Args:
            rows: Instances that the shadow held in this time.
            offers: What each pool is said to have; unlimited where the cloud does not say.
            pools: Of the plan.
            price: Spot price by pool.
            hours: Since the last look.
        """
        changed = False
        for row in rows:
            pool = pools.get(row.pool)
            if pool is None or row.option != "spot" or offers.get(row.pool, 0) < UNLIMITED_CAPACITY:
                continue
            less = pool.on_demand_price - price.get(row.pool, pool.on_demand_price)
            self.saved[row.pool] = self.saved.get(row.pool, 0.0) + less * hours
            changed = True
        if changed:
            try:
                self._journal.remember(**{"shadow-belief": json.dumps(self.saved)})
            except JournalFull:
                # a figure only: the tick itself tells of the journal
                return
