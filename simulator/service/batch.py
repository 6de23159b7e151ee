"""N services in lock-step over recorded markets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.deadline.batch import MarketStack
from simulator.deadline.observation import BoolArray, FloatArray, IntArray
from simulator.errors import InputError
from simulator.service.kernel import advance
from simulator.service.service import Service

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
    """State of N episodes of one service; arrays are (N,) and public.

    `cost` in USD, `tick` ticks elapsed, `ready` instances, `done`; `served` and `wanted` instance-ticks;
    `counts` is (N, 5), see the constants. On-demand is bought at the lowest price of the market's pools.
    """

    def __init__(
        self,
        stack: MarketStack,
        service: Service,
        market: ArrayLike,
        start: ArrayLike,
        ticks: int | None = None,
    ) -> None:
        """Begin the service in several windows.

        Args:
            stack: The markets; their tick is the service's.
            service: Its demand begins anew in each window.
            market: (N,) index into the stack, or one for all.
            start: (N,) first tick of each window.
            ticks: Length of the windows; by default the service's demand.

        Raises:
            InputError: Ticks differ, or a window reaches beyond its market or the demand.
        """
        if service.tick_seconds != stack.tick_seconds:
            raise InputError(
                f"a service with a tick of {service.tick_seconds} s in a market of {stack.tick_seconds} s; "
                "accepted: the same tick"
            )
        length = service.ticks if ticks is None else ticks
        if not 1 <= length <= service.ticks:
            raise InputError(
                f"window of {length} ticks, demand of {service.ticks}; accepted: at most the demand's"
            )
        self.stack, self.service = stack, service
        self.start = np.atleast_1d(np.asarray(start, np.int64))
        self.size = len(self.start)
        self.market = np.array(np.broadcast_to(np.asarray(market, np.int64), self.start.shape))
        if ((self.start < 0) | (self.start + length > stack.ticks[self.market])).any():
            raise InputError(
                f"a window of {length} ticks reaches beyond its market; accepted: shorter windows, or a "
                "longer market (repeat it explicitly)"
            )
        pools = stack.pools
        self.ticks = np.full(self.size, length, np.int64)
        self.demand = np.ascontiguousarray(np.broadcast_to(service.demand[:length], (self.size, length)))
        self.cold_start = np.full(self.size, service.cold_start_ticks, np.int64)
        self.committed = np.full(self.size, service.committed, np.int64)
        self.tick = np.zeros(self.size, np.int64)
        self.ready = np.zeros(self.size, np.int64)
        self.cost = np.zeros(self.size)
        self.served, self.wanted = np.zeros(self.size), np.zeros(self.size)
        self.counts = np.zeros((self.size, 5), np.int32)
        self.done: BoolArray = np.zeros(self.size, np.bool_)
        minimum = service.minimum_billed_seconds / service.tick_seconds
        self._minimum_ticks = np.full(self.size, minimum)
        ring = max(service.cold_start_ticks + 2, math.ceil(minimum) + 1)
        self._held = np.zeros((self.size, pools + 1, ring), np.int64)
        self._asked = np.zeros((self.size, pools + 1), np.int64)
        self._tick_cost = np.zeros(self.size)

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
            availability_target=np.full(self.size, self.service.availability_target),
            committed=self.committed.copy(),
            asked=self._asked.copy(),
            granted=self._held[np.arange(self.size), :, last],
            ready=self.ready.copy(),
            spot_price=self.stack.spot_price[self.market, :, now],
            on_demand_price=self.stack.on_demand_price[self.market, now],
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
        advance(
            self.stack.tick_seconds / 3600.0,
            self.stack.capacity,
            self.stack.spot_price,
            self.stack.on_demand_price,
            self.market,
            self.start,
            self.ticks,
            self.demand,
            self.cold_start,
            self.committed,
            self._minimum_ticks,
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
        return cost
