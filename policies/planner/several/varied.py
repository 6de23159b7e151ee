"""Expected cost of each action where pools differ in throughput and the data must be moved; compiled.

As `policies.planner.several.costs`, with placements as in `policies.planner.several.ground`. What the action
of this tick takes is exact: where the data are, what the move takes, what is still pending. Costs are in
ticks on on-demand capacity in the cheapest location.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.planner.several.costs import write_joint
from policies.planner.several.ground import Ground
from simulator.deadline.observation import DeadlineObservation, FloatArray, IntArray

SPEED_STEP, COST_STEP = 0.001, 0.01
"""Throughputs and costs of moves are rounded to these for the cost-to-go."""
HIGHEST_ON_DEMAND = 10.0
"""Relative on-demand price of a location that a market has not: nobody is ever there."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Throughputs and moves of N jobs over Q of their pools; see `Ground`.

    Attributes:
        price: (N,) USD per hour of on-demand capacity in the cheapest location, for the whole job.
        speed: (N, Q).
        location: (N, Q).
        home: (N,) location of the data or -1.
        move_minutes: (N, L, L).
        move_cost: (N, L, L) on-demand ticks.
        on_demand: (N, L).
    """

    price: FloatArray
    speed: FloatArray
    location: IntArray
    home: IntArray
    move_minutes: FloatArray
    move_cost: FloatArray
    on_demand: FloatArray

    @classmethod
    def of(cls, seen: DeadlineObservation, pool: IntArray) -> Surroundings:
        """What the pools `pool` (N, Q) of each job have about them."""
        price = seen.local_on_demand_price.min(axis=1)
        tick_price = price * seen.tick_seconds / 3600.0
        return cls(
            price,
            np.take_along_axis(seen.throughput, pool, axis=1),
            np.take_along_axis(seen.location, pool, axis=1),
            np.ascontiguousarray(seen.home, np.int64),
            seen.move_seconds / 60.0,
            seen.move_usd / tick_price[:, None, None],
            np.minimum(seen.local_on_demand_price / price[:, None], HIGHEST_ON_DEMAND),
        )

    @property
    def arrays(self) -> tuple[FloatArray, IntArray, IntArray, FloatArray, FloatArray, FloatArray]:
        """What the kernels below are given: all but the price."""
        return (
            self.speed, self.location, self.home, self.move_minutes, self.move_cost, self.on_demand
        )  # fmt: skip

    def keys(self, ratio_step: float) -> list[FloatArray]:
        """(N, ...) what a table depends on, rounded; `ground` reads it."""
        jobs = len(self.price)
        return [
            np.rint(self.speed / SPEED_STEP) * SPEED_STEP,
            self.location.astype(np.float64),
            self.move_minutes.reshape(jobs, -1),
            np.rint(self.move_cost / COST_STEP).reshape(jobs, -1) * COST_STEP,
            np.rint(self.on_demand / ratio_step) * ratio_step,
        ]

    def ground(self, key: tuple[float, ...]) -> Ground:
        """The ground in a row of `keys`, put together."""
        pools, locations = self.speed.shape[1], self.on_demand.shape[1]
        at = np.cumsum([pools, pools, locations**2, locations**2])
        speed, location, minutes, cost, on_demand = np.split(np.array(key), at)
        shape = (locations, locations)
        return Ground(
            tuple(np.maximum(speed, SPEED_STEP).tolist()),
            tuple(location.astype(int).tolist()),
            tuple(map(tuple, minutes.reshape(shape).tolist())),
            tuple(map(tuple, cost.reshape(shape).tolist())),
            tuple(on_demand.tolist()),
        )


@njit(cache=True, nogil=True)
def _after(
    slack: float,
    left: float,
    place: int,
    joint: FloatArray,
    grid: FloatArray,
    levels: IntArray,
    value: NDArray[np.float32],
) -> float:
    """Expected cost-to-go with `left` ticks left, interpolated."""
    level = min(max(np.searchsorted(levels, left, side="right") - 1, 0), levels.shape[0] - 2)
    later = min(max((left - levels[level]) / (levels[level + 1] - levels[level]), 0.0), 1.0)
    slack = min(max(slack, 0.0), grid[-1])
    at = min(max(np.searchsorted(grid, slack, side="right") - 1, 0), grid.shape[0] - 2)
    upper = (slack - grid[at]) / (grid[at + 1] - grid[at])
    total = 0.0
    for j in range(joint.shape[0]):
        soon = (1.0 - upper) * value[level, at, place, j] + upper * value[level, at + 1, place, j]
        late = (1.0 - upper) * value[level + 1, at, place, j] + upper * value[level + 1, at + 1, place, j]
        total += joint[j] * ((1.0 - later) * soon + later * late)
    return total


@njit(cache=True, nogil=True)
def _begin(
    i: int,
    tick: float,
    overhead: float,
    slack: float,
    pending: FloatArray,
    placement: IntArray,
    speed: FloatArray,
    location: IntArray,
    home: IntArray,
    move_minutes: FloatArray,
    move_cost: FloatArray,
    on_demand: FloatArray,
    rest: FloatArray,  # (Q,)
    fee: FloatArray,  # (Q,)
) -> tuple[int, int, float]:
    """Write slack after a tick in each pool and what beginning there costs.

    Returns the idle placement, the location of on-demand capacity and the slack after a tick on it.
    """
    locations = on_demand.shape[1]
    at = home[i]
    idle = at
    if at < 0:
        idle = locations if locations > 1 else 0
        at = on_demand[i].argmin()
    for p in range(rest.shape[0]):
        minutes, fee[p] = pending[i] / 60.0, 0.0
        if placement[i] != p + 2:
            minutes = overhead
            if home[i] >= 0:
                minutes += move_minutes[i, home[i], location[i, p]]
                fee[p] = move_cost[i, home[i], location[i, p]]
        rest[p] = slack - tick + speed[i, p] * (tick - minutes)
    return idle, at, slack - (pending[i] / 60.0 if placement[i] == 1 else overhead)


@njit(cache=True, nogil=True)
def write_varied_seen_costs(
    rows: IntArray,
    tick: float,
    overhead: float,
    ratio: FloatArray,  # (N, Q)
    work_left: FloatArray,
    time_left: FloatArray,
    pending: FloatArray,
    placement: IntArray,
    odds: FloatArray,  # (N, Q, 2, M)
    speed: FloatArray,
    location: IntArray,
    home: IntArray,
    move_minutes: FloatArray,
    move_cost: FloatArray,
    on_demand: FloatArray,
    grid: FloatArray,
    levels: IntArray,
    value: NDArray[np.float32],
    costs: FloatArray,  # (N, Q + 2)
) -> None:
    """Write the costs of jobs `rows` where pools will be seen at every tick."""
    pools, phases, locations = ratio.shape[1], odds.shape[3], on_demand.shape[1]
    idles = locations + 1 if locations > 1 else 1
    first = idles + locations
    each = np.empty((pools, phases))
    joint = np.empty(value.shape[3])
    asked = np.empty(value.shape[3])
    rest, fee = np.empty(pools), np.empty(pools)
    for i in rows:
        slack = (time_left[i] - work_left[i]) / 60.0
        left = max(time_left[i] / 60.0 / tick - 1.0, 0.0)
        idle, at, on_demand_rest = _begin(
            i, tick, overhead, slack, pending, placement, speed, location, home, move_minutes, move_cost,
            on_demand, rest, fee,
        )  # fmt: skip
        for p in range(pools):
            each[p] = odds[i, p, 0] + odds[i, p, 1]
        write_joint(each, joint)
        costs[i, 0] = _after(slack - tick, left, idle, joint, grid, levels, value)
        held = placement[i]
        costs[i, 1] = on_demand[i, at]
        costs[i, 1] += _after(on_demand_rest, left, idles + at, joint, grid, levels, value)
        for p in range(pools):
            there = odds[i, p, 1].sum()
            costs[i, p + 2] = 0.0
            for state in range(2):
                share = there if state == 1 else 1.0 - there
                if share <= 1e-9:
                    continue
                each[p] = odds[i, p, state] / share
                write_joint(each, asked)
                if state == 1:
                    cost = ratio[i, p] + fee[p]
                    cost += _after(rest[p], left, first + p, asked, grid, levels, value)
                elif held == 0:  # the launch fails
                    cost = _after(slack - tick, left, idle, asked, grid, levels, value)
                elif held == 1:
                    cost = on_demand[i, at]
                    cost += _after(on_demand_rest, left, idles + at, asked, grid, levels, value)
                else:
                    cost = ratio[i, held - 2]
                    cost += _after(rest[held - 2], left, first + held - 2, asked, grid, levels, value)
                costs[i, p + 2] += share * cost
            each[p] = odds[i, p, 0] + odds[i, p, 1]


@njit(cache=True, nogil=True)
def write_varied_unseen_costs(
    rows: IntArray,
    tick: float,
    overhead: float,
    ratio: FloatArray,  # (N, Q)
    work_left: FloatArray,
    time_left: FloatArray,
    pending: FloatArray,
    placement: IntArray,
    odds: FloatArray,  # (N, Q, 2, M)
    speed: FloatArray,
    location: IntArray,
    home: IntArray,
    move_minutes: FloatArray,
    move_cost: FloatArray,
    on_demand: FloatArray,
    there_of: FloatArray,  # (C,)
    grid: FloatArray,
    levels: IntArray,
    value: NDArray[np.float32],
    costs: FloatArray,  # (N, Q + 2)
) -> None:
    """Write the costs of jobs `rows` where only the pool that is held or asked will be seen."""
    pools, locations = ratio.shape[1], on_demand.shape[1]
    idles = locations + 1 if locations > 1 else 1
    first = idles + locations
    beliefs = there_of.shape[0]
    each = np.empty((pools, beliefs))
    waited = np.empty((pools, beliefs))
    joint = np.empty(value.shape[3])
    rest, fee = np.empty(pools), np.empty(pools)
    for i in rows:
        slack = (time_left[i] - work_left[i]) / 60.0
        left = max(time_left[i] / 60.0 / tick - 1.0, 0.0)
        idle, at, on_demand_rest = _begin(
            i, tick, overhead, slack, pending, placement, speed, location, home, move_minutes, move_cost,
            on_demand, rest, fee,
        )  # fmt: skip
        for p in range(pools):
            _on_grid(odds[i, p, 0, 1:].sum() + odds[i, p, 1, 1:].sum(), there_of, waited[p])
        each[:] = waited
        write_joint(each, joint)
        costs[i, 0] = _after(slack - tick, left, idle, joint, grid, levels, value)
        held = placement[i]
        costs[i, 1] = on_demand[i, at]
        costs[i, 1] += _after(on_demand_rest, left, idles + at, joint, grid, levels, value)
        for p in range(pools):
            there = odds[i, p, 1].sum()
            cost = there * (ratio[i, p] + fee[p])
            cost += _held(
                p, rest[p], left, first + p, location[i, p], odds[i, p, 1], each, joint, grid, levels, value
            )
            if held != p + 2 and there < 1.0 - 1e-6:  # the launch may fail
                none = 1.0 - there
                _on_grid(odds[i, p, 0, 1:].sum() / none, there_of, each[p])
                each[p] *= none
                if held < 2:
                    write_joint(each, joint)
                    cost += none * held * on_demand[i, at]
                    cost += _after(
                        on_demand_rest if held == 1 else slack - tick,
                        left,
                        idles + at if held == 1 else idle,
                        joint,
                        grid,
                        levels,
                        value,
                    )
                else:
                    r = held - 2
                    cost += none * ratio[i, r]
                    cost += _held(
                        r, rest[r], left, first + r, location[i, r], odds[i, r, 1], each, joint, grid, levels,
                        value,
                    )  # fmt: skip
                    each[r] = waited[r]
            each[p] = waited[p]
            costs[i, p + 2] = cost


@njit(cache=True, nogil=True)
def _held(
    p: int,
    rest: float,
    left: float,
    place: int,
    location: int,
    odds: FloatArray,  # (M,) of each phase of the pool, the first without spot
    each: FloatArray,
    joint: FloatArray,
    grid: FloatArray,
    levels: IntArray,
    value: NDArray[np.float32],
) -> float:
    """Cost-to-go of running in pool p, which a tick later is there or lost; changes its row of `each`."""
    each[p] = 0.0
    each[p, : odds.shape[0] - 1] = odds[1:]
    write_joint(each, joint)
    cost = _after(rest, left, place, joint, grid, levels, value)
    each[p] = 0.0
    each[p, 0] = odds[0]
    write_joint(each, joint)
    return cost + _after(rest, left, location, joint, grid, levels, value)


@njit(cache=True, nogil=True)
def _on_grid(belief: float, there: FloatArray, weight: FloatArray) -> None:
    """Write the weights of the two of the increasing beliefs `there` that `belief` lies between."""
    last = there.shape[0] - 1
    at = 0
    while at < last - 1 and belief >= there[at + 1]:
        at += 1
    weight[:] = 0.0
    weight[at + 1] = min(max((belief - there[at]) / max(there[at + 1] - there[at], 1e-12), 0.0), 1.0)
    weight[at] = 1.0 - weight[at + 1]
