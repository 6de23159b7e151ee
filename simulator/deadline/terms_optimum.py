"""The clairvoyant optimum where pools differ in throughput and moves of the data take time and money.

Slack does not say how much work was done here, so the state after t ticks is the work left, the placement and
where the data are. Who knows the future never gives up an instance before it is useful (idling instead does
as much and costs less, and leaves the data where they are), so a launch is one step of as many ticks as its
overhead touches. Work left lies on the lattice of what ticks and launches can do; a backward pass is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from simulator.deadline.job import DeadlineJob
from simulator.deadline.observation import FloatArray, IntArray
from simulator.deadline.stack import MarketStack
from simulator.deadline.terms import StackTerms

MAX_WORK_LATTICE = 16_384
"""Finest lattice of work left. Work that needs a finer one is rounded up: a lower bound of the cost."""
MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class WorkLattice:
    """Work in whole units.

    Attributes:
        unit: Seconds of work at throughput 1.
        units: Units of the whole job, rounded up.
        exact: False if what ticks and launches do had to be rounded up.
    """

    unit: float
    units: int
    exact: bool

    @classmethod
    def of(cls, work: float, per_tick: FloatArray, per_launch: FloatArray) -> WorkLattice:
        """The coarsest lattice that holds all of these seconds of work exactly, if it is small enough.

        Otherwise one that rounds the work of whole ticks, which are many, as little as can be.
        """
        amounts = np.concatenate([per_tick.ravel(), per_launch.ravel()])
        whole = np.rint(amounts * MICRO)
        unit = math.gcd(*(int(amount) for amount in whole)) / MICRO
        exact = bool(np.abs(whole - amounts * MICRO).max() < 1e-3)
        if exact and work / unit <= MAX_WORK_LATTICE:
            return cls(unit, math.ceil(work / unit - 1e-9), exact=True)
        units = work / np.arange(MAX_WORK_LATTICE // 2, MAX_WORK_LATTICE + 1)
        ticks = np.unique(per_tick)[:, None]
        rounding = (np.ceil(ticks / units - 1e-9) * units / ticks).max(axis=0)
        unit = float(units[rounding.argmin()])
        return cls(unit, math.ceil(work / unit - 1e-9), exact=False)

    def up(self, work: FloatArray) -> IntArray:
        """Whole units of so many seconds of work, rounded up."""
        return np.ceil(work / self.unit - 1e-9).astype(np.int64)


def optimum_under_terms(
    stack: MarketStack, terms: StackTerms, job: DeadlineJob, market: ArrayLike, start: ArrayLike
) -> FloatArray:
    """(N,) least cost in USD of the job in each window; see `simulator.deadline.optimum.clairvoyant_optimum`.

    Exact under the dynamics of `kernel.advance`; a lower bound if the job has a checkpoint interval or needs
    a lattice finer than `MAX_WORK_LATTICE`.
    """
    starts = np.atleast_1d(np.asarray(start, np.int64))
    markets = np.broadcast_to(np.asarray(market, np.int64), starts.shape)
    return np.array(
        [_window(stack, terms, job, int(m), int(s)) for m, s in zip(markets, starts, strict=True)]
    )


def _window(stack: MarketStack, terms: StackTerms, job: DeadlineJob, m: int, start: int) -> float:
    tick = float(stack.tick_seconds)
    ticks = math.ceil(job.deadline_seconds / tick - 1e-9)
    span = slice(start, start + ticks)
    on_demand = terms.source.on_demand_throughput
    factor = terms.throughput[m] * on_demand
    locations, pools = terms.move_seconds.shape[1], len(factor)
    # A launch from location h (the last: nowhere) on on-demand capacity or in pool p.
    extra = np.zeros((locations + 1, 1 + pools))
    extra[:locations, 1:] = terms.move_seconds[m][:, terms.location[m]]
    fee = np.zeros((locations + 1, 1 + pools))
    fee[:locations, 1:] = terms.move_usd[m][:, terms.location[m]]
    overhead = job.restart_overhead_seconds + extra
    steps = np.maximum(np.ceil(overhead / tick - 1e-9), 1.0)
    speed = np.concatenate([[on_demand], factor])
    launched = np.maximum(speed * (steps * tick - overhead), 0.0)
    lattice = WorkLattice.of(job.work_seconds, speed * tick, launched)
    hours = tick / 3600.0
    return float(
        _solve(
            stack.capacity[m, :, span] >= job.nodes,
            stack.spot_price[m, :, span] * hours * job.nodes,
            terms.on_demand_price[m, :, span] * hours * (job.nodes - job.committed),
            terms.location[m],
            int(terms.data[m]) % (locations + 1),
            speed,
            overhead,
            steps.astype(np.int64),
            fee,
            lattice.up(speed * tick),
            lattice.up(launched),
            lattice.units,
            lattice.unit,
            job.work_seconds,
            tick,
            job.deadline_seconds,
            job.due_or_deadline_seconds,
            job.lateness_usd_per_hour / 3600.0,
        )
    )


@njit(cache=True, nogil=True)
def _end(
    began: float,
    overhead: float,
    left: float,
    speed: float,
    last: bool,
    tick_end: float,
    deadline: float,
    due: float,
    rate: float,
) -> float:
    """Cost of lateness of a job that is done in this step; infinite if that is after the deadline."""
    done = began + overhead + left / speed
    if last and done > deadline + 1e-6:
        return np.inf
    return rate * max(min(done, tick_end) - due, 0.0)


@njit(cache=True, nogil=True)
def _solve(  # noqa: C901 - one compiled recursion; its branches are the choices of a tick
    available: NDArray[np.bool_],  # (P, T)
    spot_cost: FloatArray,  # (P, T) USD per tick
    on_demand_cost: FloatArray,  # (L, T)
    location: IntArray,  # (P,)
    begins: int,
    speed: FloatArray,  # (1 + P,) on-demand first
    overhead: FloatArray,  # (L + 1, 1 + P) seconds
    steps: IntArray,  # (L + 1, 1 + P) ticks that an overhead touches
    fee: FloatArray,  # (L + 1, 1 + P) USD
    per_tick: IntArray,  # (1 + P,) units
    per_launch: IntArray,  # (L + 1, 1 + P) units done by the end of those ticks
    units: int,
    unit: float,
    work: float,
    tick: float,
    deadline: float,
    due: float,
    rate: float,
) -> float:
    pools, ticks = available.shape
    locations = on_demand_cost.shape[0]
    idles = locations + 1
    places = idles + locations + pools
    ring = steps.max() + 1
    value = np.full((ring, places, units + 1), np.inf)
    most = per_tick.max()
    run = np.zeros(pools, np.int64)  # ticks from now on in which each pool is available
    for t in range(ticks - 1, -1, -1):
        now = value[t % ring]
        now[:] = np.inf
        began = t * tick
        for p in range(pools):
            run[p] = run[p] + 1 if available[p, t] else 0
        cheapest = 0
        for h in range(1, locations):
            if on_demand_cost[h, t] < on_demand_cost[cheapest, t]:
                cheapest = h
        for k in range(max(1, units - t * most), units + 1):
            left = work - (units - k) * unit
            for h in range(idles):
                best = np.inf
                for c in range(1 + pools):
                    n = steps[h, c]
                    if t + n > ticks or (c > 0 and run[c - 1] < n):
                        continue
                    cost = fee[h, c]
                    there = idles + locations + c - 1
                    if c == 0:
                        at = cheapest if h == locations else h
                        there = idles + at
                        for later in range(n):
                            cost += on_demand_cost[at, t + later]
                    else:
                        for later in range(n):
                            cost += spot_cost[c - 1, t + later]
                    done = per_launch[h, c]
                    if done >= k or t + n == ticks:
                        end = began + n * tick
                        cost += _end(
                            began, overhead[h, c], left, speed[c], t + n == ticks, end, deadline, due, rate
                        )
                    else:
                        cost += value[(t + n) % ring, there, k - done]
                    best = min(best, cost)
                if t + 1 < ticks:
                    best = min(best, value[(t + 1) % ring, h, k])
                now[h, k] = best
            for h in range(locations):
                stay = on_demand_cost[h, t]
                if per_tick[0] >= k or t + 1 == ticks:
                    stay += _end(
                        began, 0.0, left, speed[0], t + 1 == ticks, began + tick, deadline, due, rate
                    )
                else:
                    stay += value[(t + 1) % ring, idles + h, k - per_tick[0]]
                now[idles + h, k] = min(stay, now[h, k])
            for p in range(pools):
                stay = np.inf
                place = idles + locations + p
                if run[p] > 0:
                    stay = spot_cost[p, t]
                    if per_tick[1 + p] >= k or t + 1 == ticks:
                        stay += _end(
                            began, 0.0, left, speed[1 + p], t + 1 == ticks, began + tick, deadline, due, rate
                        )
                    else:
                        stay += value[(t + 1) % ring, place, k - per_tick[1 + p]]
                now[place, k] = min(stay, now[location[p], k])
    return float(value[0, begins, units])
