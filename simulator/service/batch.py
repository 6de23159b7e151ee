"""N services in lock-step over recorded markets, each for itself or in groups that share capacity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.deadline.observation import BoolArray, FloatArray, IntArray
from simulator.deadline.stack import MarketStack
from simulator.errors import InputError
from simulator.service.kernel import advance
from simulator.service.service import Service
from simulator.service.sharing import divide

LAUNCHES, INTERRUPTIONS, FAILED_LAUNCHES, AVAILABLE_TICKS, COUNTED_TICKS = range(5)
"""Columns of `ServiceBatch.counts`."""


@dataclass(slots=True)
class ServiceObservation:
    """N services over P pools before they ask for a tick: everything but capacity.

    Attributes:
        tick_seconds: Length of the tick.
        ticks_elapsed: (N,) ticks since each episode began.
        demand: (N,) instances needed at the tick that is being decided.
        cold_start_ticks: (N,) full ticks before a new instance is ready.
        availability_target: (N,) share of ticks at which the demand should be ready.
        committed: (N,) on-demand instances that are paid for anyway.
        asked: (N, P + 1) what was asked for last tick, pools and then on-demand; 0 at first.
        granted: (N, P + 1) what of it was granted.
        ready: (N,) instances that were ready last tick.
        spot_price: (N, P) USD per instance-hour.
        on_demand_price: (N,) USD per instance-hour.
        region: (N, P) number of each pool's region; pools of one region are lost together more often.
    """

    tick_seconds: float
    ticks_elapsed: IntArray
    demand: IntArray
    cold_start_ticks: IntArray
    availability_target: FloatArray
    committed: IntArray
    asked: IntArray
    granted: IntArray
    ready: IntArray
    spot_price: FloatArray
    on_demand_price: FloatArray
    region: IntArray


class ServiceBatch:
    """State of N episodes of services; arrays are (N,) and public.

    `cost` in USD, `tick` ticks elapsed, `ready` instances, `done`; `served` and `wanted` instance-ticks;
    `counts` is (N, 5), see the constants. On-demand is bought at the lowest price of the market's pools.
    `spot_scale` and `on_demand_scale` multiply prices, 1 unless they are set.
    """

    def __init__(
        self,
        stack: MarketStack,
        service: Service | Sequence[Service],
        market: ArrayLike,
        start: ArrayLike,
        ticks: int | None = None,
        *,
        group: ArrayLike | None = None,
        remembered_ticks: int = 0,
    ) -> None:
        """Begin a service in several windows, or one service in each.

        Args:
            stack: The markets; their tick is the service's.
            service: One whose demand begins anew in each window, or N.
            market: (N,) index into the stack, or one for all.
            start: (N,) first tick of each window.
            ticks: Length of the windows; by default the shortest demand.
            group: (N,) numbers; episodes of one number share each pool's capacity, divided as
                `simulator.service.sharing` says. None: nobody shares.
            remembered_ticks: Ticks of cold start and minimum bill to make room for beyond those of the
                services, for `begin`.

        Raises:
            InputError: Ticks differ, a window reaches beyond its market or the demand, or episodes of one
                group have different windows.
        """
        self.start = np.atleast_1d(np.asarray(start, np.int64)).copy()
        self.size = size = len(self.start)
        self.market = np.array(np.broadcast_to(np.asarray(market, np.int64), self.start.shape))
        services = [service] * size if isinstance(service, Service) else list(service)
        if len(services) != size or not services:
            raise InputError(f"{len(services)} services for {size} windows; accepted: one, or one for each")
        self.length = min(one.ticks for one in services) if ticks is None else ticks
        self.stack, self.service = stack, service
        self._capacity, self._spot_price = stack.by_tick
        pools = stack.pools
        self.ticks = np.full(size, self.length, np.int64)
        self.demand = np.zeros((size, max(self.length, 1)), np.int64)
        self.cold_start = np.zeros(size, np.int64)
        self.committed = np.zeros(size, np.int64)
        self.availability_target = np.zeros(size)
        self.spot_scale, self.on_demand_scale = np.ones(size), np.ones(size)
        self.tick = np.zeros(size, np.int64)
        self.ready = np.zeros(size, np.int64)
        self.cost = np.zeros(size)
        self.served, self.wanted = np.zeros(size), np.zeros(size)
        self.counts = np.zeros((size, 5), np.int64)
        self.done: BoolArray = np.zeros(size, np.bool_)
        self._minimum_ticks = np.zeros(size)
        ring = max(remembered_ticks, *(_remembered(one) for one in services)) + 2
        self._held = np.zeros((size, pools + 1, ring), np.int64)
        self._asked = np.zeros((size, pools + 1), np.int64)
        self._tick_cost = np.zeros(size)
        if isinstance(service, Service):
            self._begin_all(service)
        else:
            self.begin(np.arange(size), services, self.market, self.start)
        self._share = np.zeros((size, pools), np.int64)
        self._members, self._first = self._groups(group)

    def begin(
        self, rows: ArrayLike, services: Sequence[Service], market: ArrayLike, start: ArrayLike
    ) -> None:
        """Begin other episodes in some rows; price scales stay.

        Args:
            rows: (K,) rows.
            services: K services, each with at least `length` ticks of demand.
            market: (K,) index into the stack.
            start: (K,) first ticks.

        Raises:
            InputError: See the class; or a cold start or minimum bill is longer than there is room for.
        """
        index = np.atleast_1d(np.asarray(rows, np.int64))
        self.market[index], self.start[index] = market, start
        for row, service in zip(index, services, strict=True):
            self._check(service)
            self.demand[row] = service.demand[: self.length]
            self.cold_start[row], self.committed[row] = service.cold_start_ticks, service.committed
            self.availability_target[row] = service.availability_target
            self._minimum_ticks[row] = service.minimum_billed_seconds / service.tick_seconds
        self._check_windows(index)
        for array in (self.tick, self.ready, self.cost, self.served, self.wanted, self._tick_cost):
            array[index] = 0
        self.counts[index], self._held[index], self._asked[index] = 0, 0, 0
        self.done[index] = False

    def _begin_all(self, service: Service) -> None:
        self._check(service)
        self._check_windows(np.arange(self.size))
        self.demand[:] = service.demand[: self.length]
        self.cold_start[:], self.committed[:] = service.cold_start_ticks, service.committed
        self.availability_target[:] = service.availability_target
        self._minimum_ticks[:] = service.minimum_billed_seconds / service.tick_seconds

    def _check(self, service: Service) -> None:
        if service.tick_seconds != self.stack.tick_seconds:
            raise InputError(
                f"a service with a tick of {service.tick_seconds} s in a market of "
                f"{self.stack.tick_seconds} s; accepted: the same tick"
            )
        if not 1 <= self.length <= service.ticks:
            raise InputError(
                f"window of {self.length} ticks, demand of {service.ticks}; accepted: at most the demand's"
            )
        if _remembered(service) > self._held.shape[2] - 2:
            raise InputError(
                f"cold start or minimum bill of {_remembered(service)} ticks; accepted: at most "
                f"{self._held.shape[2] - 2}, or more `remembered_ticks`"
            )

    def _check_windows(self, rows: IntArray) -> None:
        start, market = self.start[rows], self.market[rows]
        if ((start < 0) | (start + self.length > self.stack.ticks[market])).any():
            raise InputError(
                f"a window of {self.length} ticks reaches beyond its market; accepted: shorter windows, or a "
                "longer market (repeat it explicitly)"
            )

    def _groups(self, group: ArrayLike | None) -> tuple[IntArray, IntArray]:
        """Rows group by group, and where each group begins; empty if nobody shares."""
        if group is None:
            return np.zeros(0, np.int64), np.zeros(1, np.int64)
        numbers = np.asarray(group, np.int64)
        if numbers.shape != (self.size,):
            raise InputError(f"group of shape {numbers.shape}; accepted: ({self.size},)")
        members = np.argsort(numbers, kind="stable").astype(np.int64)
        begins = np.flatnonzero(np.diff(numbers[members], prepend=numbers[members[0]] - 1))
        for rows in np.split(members, begins[1:]):
            if len(set(zip(self.market[rows], self.start[rows], strict=True))) > 1:
                raise InputError(
                    f"services of group {numbers[rows[0]]} have different windows; accepted: one market and "
                    "start"
                )
        return members, np.append(begins, self.size).astype(np.int64)

    def observe(self) -> ServiceObservation:
        """What a policy may see before it asks for the next tick."""
        place = np.minimum(self.tick, self.ticks - 1)
        last = (self.tick - 1) % self._held.shape[2]
        now = self.start + place
        return ServiceObservation(
            tick_seconds=float(self.stack.tick_seconds),
            ticks_elapsed=self.tick.copy(),
            demand=self.demand[np.arange(self.size), place],
            cold_start_ticks=self.cold_start.copy(),
            availability_target=self.availability_target.copy(),
            committed=self.committed.copy(),
            asked=self._asked.copy(),
            granted=self._held[np.arange(self.size), :, last],
            ready=self.ready.copy(),
            spot_price=self._spot_price[self.market, now] * self.spot_scale[:, None],
            on_demand_price=self.stack.on_demand_price[self.market, now] * self.on_demand_scale,
            region=self.stack.region[self.market],
        )

    def step(self, asked: NDArray[np.int64]) -> FloatArray:
        """Run one tick.

        Args:
            asked: (N, P + 1) instances per pool, and last on-demand; 0 or more.

        Returns:
            (N,) USD billed in this tick; overwritten by the next call.

        Raises:
            InputError: The shape does not fit or a count is negative.
        """
        if asked.shape != self._asked.shape or (asked < 0).any():
            raise InputError(f"asked for {asked.shape}; accepted: {self._asked.shape} counts of 0 or more")
        self._asked = np.array(asked, np.int64)
        shared = self._members.size > 0
        if shared:
            divide(
                self._capacity,
                self.market,
                self.start,
                self.tick,
                self.done,
                self._members,
                self._first,
                self._held,
                self._asked,
                self._share,
            )
        advance(
            self.stack.tick_seconds / 3600.0,
            self._capacity,
            self._spot_price,
            self.stack.on_demand_price,
            self.market,
            self.start,
            self.ticks,
            self.demand,
            self.cold_start,
            self.committed,
            self._minimum_ticks,
            self.spot_scale,
            self.on_demand_scale,
            shared,
            self._share,
            self._asked,
            self.tick,
            self._held,
            self.ready,
            self.cost,
            self.counts,
            self.served,
            self.wanted,
            self.done,
            self._tick_cost,
        )
        return self._tick_cost

    @property
    def availability(self) -> FloatArray:
        """(N,) share of counted ticks at which the demand was ready; 1 before any."""
        counted = self.counts[:, COUNTED_TICKS]
        return np.asarray(np.where(counted, self.counts[:, AVAILABLE_TICKS] / np.maximum(counted, 1), 1.0))

    @property
    def served_fraction(self) -> FloatArray:
        """(N,) served instance-ticks over those wanted; 1 where none was wanted."""
        return np.asarray(np.where(self.wanted > 0, self.served / np.maximum(self.wanted, 1.0), 1.0))

    def on_demand_cost(self) -> FloatArray:
        """(N,) USD of the demand on on-demand capacity over the counted ticks so far."""
        hours = self.stack.tick_seconds / 3600.0
        cost = np.zeros(self.size)
        for i in range(self.size):
            span = slice(int(self.cold_start[i]), int(self.tick[i]))
            price = self.stack.on_demand_price[self.market[i], self.start[i] :][span]
            need = np.maximum(self.demand[i, span] - self.committed[i], 0)
            cost[i] = float((need * price).sum()) * hours
        return cost * self.on_demand_scale


def _remembered(service: Service) -> int:
    """Ticks of holdings before the present one that its dynamics look at."""
    return max(service.cold_start_ticks, math.ceil(service.minimum_billed_seconds / service.tick_seconds) - 1)
