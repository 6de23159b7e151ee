"""Services as the controller keeps them: what was asked and granted, what is ready, what it has cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizer.controller.inventory import Inventory
from optimizer.plan import FixedDemand, SeriesDemand, ServiceWorkload
from policies.protocol import Memory
from simulator.deadline.observation import FloatArray, IntArray
from simulator.market import ticks_for
from simulator.service import ServiceObservation

STATE = (
    "asked",
    "granted",
    "ready",
    "ticks",
    "at",
    "moved_at",
    "rate",
    "cost",
    "on_demand_cost",
    "short_ticks",
    "counted_ticks",
    "demand",
)


class ServiceFleet:
    """Services that share a policy and a number of pools P; N rows.

    Arrays, (N,) unless said: `demand` instances, `asked` and `granted` (N, P + 1) per pool and then
    on-demand as of the last tick, `ready` instances of the last tick, `ticks` since it began, `rate` USD/h,
    `cost` USD so far, `counted_ticks` and of them `short_ticks` in which less was ready than needed, `at`
    time of the last look.
    """

    def __init__(self, key: str, workloads: Sequence[ServiceWorkload], tick_seconds: int) -> None:
        """Begin the services of a plan with nothing asked yet."""
        self.key = key
        self.workloads = tuple(workloads)
        self.names = [one.name for one in workloads]
        self.row = {name: row for row, name in enumerate(self.names)}
        self.size, self.pools_each = len(workloads), len(workloads[0].pools)
        self.pools = {pool.name: pool for one in workloads for pool in one.pools}
        place = {name: k for k, name in enumerate(self.pools)}
        self.pool_index = np.array([[place[p.name] for p in one.pools] for one in workloads])
        self.column = [{p.name: k for k, p in enumerate(one.pools)} for one in workloads]
        prices = np.array([[p.on_demand_price for p in one.pools] for one in workloads])
        self.cheapest, self.on_demand_price = np.argmin(prices, axis=1), prices.min(axis=1)
        self.region = np.array([_regions(one) for one in workloads])
        self.tick_seconds = tick_seconds
        self.cold_ticks = np.array([ticks_for(60.0 * s.cold_start_minutes, tick_seconds) for s in workloads])
        self.target = np.array([one.availability_target for one in workloads])
        self.committed = np.array([one.committed for one in workloads], np.int64)
        self.floor = np.array([one.on_demand_floor for one in workloads], np.int64)
        self.demand = np.zeros(self.size, np.int64)
        self.asked = np.zeros((self.size, self.pools_each + 1), np.int64)
        self.granted = np.zeros_like(self.asked)
        self.ready, self.ticks = np.zeros(self.size, np.int64), np.zeros(self.size, np.int64)
        self.at = np.full(self.size, np.nan)
        self.moved_at = np.full(self.size, -np.inf)
        self.rate, self.cost, self.on_demand_cost = (np.zeros(self.size) for _ in range(3))
        self.short_ticks, self.counted_ticks = np.zeros(self.size, np.int64), np.zeros(self.size, np.int64)
        self.memory: Memory = {}

    def ask_next_pool(self, row: int) -> None:
        """On-demand capacity is asked of a service's next pool from now on."""
        self.cheapest[row] = (self.cheapest[row] + 1) % self.pools_each

    def state(self) -> dict[str, NDArray[Any]]:
        """What a restart needs, apart from the policy's memory; `handover` puts it back."""
        return {name: getattr(self, name) for name in STATE}

    def look(self, now: float, group_demand: Mapping[str, int]) -> None:
        """Account for the time since the last look and read the demand of the tick that begins.

        Args:
            now: Seconds since 1970.
            group_demand: Desired capacity of each Auto Scaling group; one that is absent keeps its last.
        """
        elapsed = np.where(np.isfinite(self.at), now - self.at, 0.0)
        hours = np.maximum(elapsed, 0.0) / 3600.0
        self.cost += self.rate * hours
        self.on_demand_cost += np.maximum(self.demand - self.committed, 0) * self.on_demand_price * hours
        self.at = np.full(self.size, now)
        for row, one in enumerate(self.workloads):
            demand = one.demand
            if isinstance(demand, FixedDemand):
                self.demand[row] = demand.instances
            elif isinstance(demand, SeriesDemand):
                step = int((now - demand.start.timestamp()) // demand.step_seconds)
                self.demand[row] = demand.instances[min(max(step, 0), len(demand.instances) - 1)]
            else:
                self.demand[row] = group_demand.get(demand.group, self.demand[row])

    def counts(self, inventory: Inventory, now: float) -> tuple[IntArray, IntArray]:
        """(N, P + 1) instances held, and (N,) those that are past their cold start in this tick."""
        held = np.zeros((self.size, self.pools_each + 1), np.int64)
        ready = np.zeros(self.size, np.int64)
        for instance in inventory.all_live():
            row = self.row.get(instance.workload)
            if row is None:
                continue
            column = self.column[row].get(instance.pool)
            if instance.option == "on-demand":
                held[row, -1] += 1
            elif column is not None:
                held[row, column] += 1
            else:
                continue
            ready[row] += now - instance.launched_at >= self.cold_ticks[row] * self.tick_seconds
        return held, ready

    def observe(self, rows: IntArray, price: Mapping[str, float]) -> ServiceObservation:
        """What a policy may see of some services: everything up to the tick before, and the new demand."""
        quoted = np.array([price.get(name, pool.on_demand_price) for name, pool in self.pools.items()])
        return ServiceObservation(
            tick_seconds=float(self.tick_seconds),
            ticks_elapsed=self.ticks[rows],
            demand=self.demand[rows],
            cold_start_ticks=self.cold_ticks[rows],
            availability_target=self.target[rows],
            committed=self.committed[rows],
            asked=self.asked[rows],
            granted=self.granted[rows],
            ready=self.ready[rows],
            spot_price=quoted[self.pool_index[rows]],
            on_demand_price=self.on_demand_price[rows],
            region=self.region[rows],
        )

    def confirm(
        self,
        asked: IntArray,
        inventory: Inventory,
        now: float,
        price: Mapping[str, float],
        *,
        between: bool = False,
    ) -> None:
        """Take over what came of the calls.

        Args:
            asked: (N, P + 1) what was decided.
            inventory: Instances after the calls.
            now: Time of the tick.
            price: Spot price by pool.
            between: Between two ticks: nothing is counted.
        """
        held, self.ready = self.counts(inventory, now)
        self.asked, self.granted = asked.copy(), held
        if not between:
            counted = self.ticks >= self.cold_ticks
            self.counted_ticks += counted
            self.short_ticks += counted & (self.ready < self.demand)
            self.ticks += 1
        quoted = np.array([price.get(name, pool.on_demand_price) for name, pool in self.pools.items()])
        paid = np.maximum(held[:, -1] - self.committed, 0) * self.on_demand_price
        self.rate = (held[:, :-1] * quoted[self.pool_index]).sum(axis=1) + paid

    @property
    def availability(self) -> FloatArray:
        """(N,) share of counted ticks in which the demand was ready; 1 before any."""
        kept = self.counted_ticks - self.short_ticks
        return np.asarray(np.where(self.counted_ticks, kept / np.maximum(self.counted_ticks, 1), 1.0))


def _regions(one: ServiceWorkload) -> list[int]:
    """Number of each pool's region, counted as `MarketStack` does."""
    names = [(pool.provider, pool.region) for pool in one.pools]
    return [names.index(name) for name in names]
