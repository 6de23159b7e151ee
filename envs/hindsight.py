"""A reward that telescopes to the regret against the clairvoyant optimum of the same window.

reward = -(cost + potential after - potential before), with the potential the cost-to-go of somebody who
knows the window. The market does not react to the policy, so its luck cancels and what remains is the
policy's doing; with a discount of 1 the sum over an episode is minus the regret, whatever the precision
of the potential
(Ng, Harada, Russell: Policy invariance under reward transformations, 1999).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.planner.grid import slack_grid
from simulator.deadline import DeadlineBatch
from simulator.deadline.kernel import B1, F8, I8
from simulator.deadline.observation import FloatArray, IntArray
from simulator.errors import InputError

POINTS = 140
"""Entries along slack; more slack than the last one is treated as that much."""


class HindsightReward:
    """Minus the regret of each tick, for jobs over pools that differ in constant price ratios only.

    Unit: on-demand ticks x `scale`. The potential follows the shield's rule, without checkpoints.
    """

    def __init__(self, longest_ticks: int, *, scale: float = 0.1, miss_penalty: float = 2.0) -> None:
        """Prepare for episodes of at most `longest_ticks` ticks; a miss costs `miss_penalty` once."""
        self.longest_ticks = longest_ticks
        self.scale, self.miss_penalty = scale, miss_penalty
        self._grids: dict[float, int] = {}
        self._entries = np.zeros((0, POINTS))
        self._slot = np.zeros(0, np.int64)
        self._table = np.zeros((0, 0, POINTS, 3), np.float32)
        self._potential = np.zeros(0)
        self._ticks = np.zeros(0, np.int64)
        self._usd_per_tick = np.zeros(0)

    def begin(self, batch: DeadlineBatch, rows: IntArray) -> None:
        """Solve the windows of the jobs that begin in `rows`."""
        if batch.stack.terms is not None:
            raise InputError(
                "the hindsight reward knows pools that differ in price only; use jobs without terms"
            )
        places = batch.stack.pools + 2
        if self._table.shape[0] != batch.size or self._table.shape[3] != places:
            self._table = np.zeros((batch.size, self.longest_ticks + 1, POINTS, places), np.float32)
            self._potential, self._usd_per_tick = np.zeros(batch.size), np.ones(batch.size)
            self._slot, self._ticks = np.zeros(batch.size, np.int64), np.zeros(batch.size, np.int64)
        tick = float(batch.stack.tick_seconds)
        self._ticks[rows] = np.ceil(batch.deadline[rows] / tick - 1e-9)
        if (self._ticks[rows] > self.longest_ticks).any():
            raise InputError(f"an episode is longer than the {self.longest_ticks} ticks prepared for")
        first = batch.stack.on_demand_price[batch.market[rows], batch.start[rows]]
        self._usd_per_tick[rows] = first * batch.on_demand_scale[rows] * batch.nodes[rows] * tick / 3600.0
        for overhead in np.unique(batch.restart_overhead[rows]):
            self._prepare(float(overhead), tick)
        self._slot[rows] = [self._grids[float(each)] for each in batch.restart_overhead[rows]]
        _solve(
            rows,
            tick / 60.0,
            batch.stack.capacity,
            batch.stack.spot_price,
            batch.stack.on_demand_price,
            batch.market,
            batch.start,
            batch.nodes,
            batch.spot_scale,
            batch.on_demand_scale,
            batch.restart_overhead,
            self._ticks,
            self._entries,
            self._slot,
            self._table,
        )
        self._potential[rows] = self._look(batch)[rows]

    def score(self, batch: DeadlineBatch, cost: FloatArray) -> FloatArray:
        """Rewards of the tick just run."""
        after = self._look(batch)
        regret = cost / self._usd_per_tick + after - self._potential
        self._potential = after
        return np.asarray(-self.scale * regret - self.miss_penalty * (batch.done & batch.missed))

    def _prepare(self, overhead_seconds: float, tick_seconds: float) -> None:
        if overhead_seconds in self._grids:
            return
        tick = tick_seconds / 60.0
        grid = slack_grid(tick, overhead_seconds / 60.0, tick * self.longest_ticks)
        longest = np.full(POINTS, np.inf)
        longest[: min(len(grid), POINTS)] = grid[:POINTS]
        self._grids[overhead_seconds] = len(self._entries)
        self._entries = np.vstack([self._entries, longest])

    def _look(self, batch: DeadlineBatch) -> FloatArray:
        potential = np.zeros(batch.size)
        _look_up(
            float(batch.stack.tick_seconds) / 60.0,
            batch.done,
            batch.tick,
            batch.deadline,
            batch.work_left,
            batch.pending,
            batch.placement,
            self._entries,
            self._slot,
            self._table,
            potential,
        )
        return potential


@njit(cache=True, nogil=True)
def _between(grid: F8, at: float) -> tuple[int, float]:
    """Lower neighbour of `at` in the grid and the weight of the upper one; clipped to the grid."""
    size = grid.shape[0]
    while size > 2 and np.isinf(grid[size - 1]):
        size -= 1
    at = min(max(at, 0.0), grid[size - 1])
    lower = min(max(np.searchsorted(grid[:size], at, side="right") - 1, 0), size - 2)
    return lower, (at - grid[lower]) / (grid[lower + 1] - grid[lower])


@njit(cache=True, nogil=True)
def _solve(  # noqa: C901 - one compiled recursion; its branches are the choices of a tick
    rows: I8,
    tick: float,
    capacity: NDArray[np.int32],
    spot_price: F8,
    on_demand_price: F8,
    market: I8,
    start: I8,
    nodes: I8,
    spot_scale: F8,
    on_demand_scale: F8,
    overhead_seconds: F8,
    ticks: I8,
    entries: F8,
    slot: I8,
    table: NDArray[np.float32],  # (N, T + 1, POINTS, P + 2) by placement
) -> None:
    pools = capacity.shape[1]
    ratio = np.zeros(pools)
    up = np.zeros(pools, np.bool_)
    idle_at = np.zeros(entries.shape[1], np.int64)
    launch_at = np.zeros(entries.shape[1], np.int64)
    idle_weight = np.zeros(entries.shape[1])
    launch_weight = np.zeros(entries.shape[1])
    for i in rows:
        grid = entries[slot[i]]
        d = overhead_seconds[i] / 60.0
        on_demand = on_demand_price[market[i], start[i]] * on_demand_scale[i]
        for k in range(pools):
            ratio[k] = spot_price[market[i], k, start[i]] * spot_scale[i] / on_demand
        size = grid.shape[0]
        while size > 2 and np.isinf(grid[size - 1]):
            size -= 1
        for j in range(size):
            idle_at[j], idle_weight[j] = _between(grid, grid[j] - tick)
            launch_at[j], launch_weight[j] = _between(grid, grid[j] - d)
        value = table[i]
        value[ticks[i]] = 0.0
        for t in range(ticks[i] - 1, -1, -1):
            for k in range(pools):
                up[k] = capacity[market[i], k, start[i] + t] >= nodes[i]
            later = value[t + 1]
            for j in range(size):
                if (ticks[i] - t) * tick - grid[j] <= 1e-9:
                    value[t, j] = 0.0
                    continue
                p, w = launch_at[j], launch_weight[j]
                launch = 1.0 + (1.0 - w) * later[p, 1] + w * later[p + 1, 1]
                best = np.inf
                may_hold = grid[j] >= d + tick - 1e-9
                if may_hold:
                    q, v = idle_at[j], idle_weight[j]
                    best = (1.0 - v) * later[q, 0] + v * later[q + 1, 0]
                if grid[j] >= 2.0 * d + tick - 1e-9:
                    for k in range(2, pools + 2):
                        if up[k - 2]:
                            best = min(best, ratio[k - 2] + (1.0 - w) * later[p, k] + w * later[p + 1, k])
                value[t, j, 0] = min(best, launch)
                value[t, j, 1] = min(best, 1.0 + later[j, 1])
                for k in range(2, pools + 2):
                    held = ratio[k - 2] + later[j, k] if up[k - 2] and may_hold else np.inf
                    value[t, j, k] = min(best, launch, held)


@njit(cache=True, nogil=True)
def _look_up(
    tick: float,
    done: B1,
    elapsed: I8,
    deadline: F8,
    work_left: F8,
    pending: F8,
    placement: I8,
    entries: F8,
    slot: I8,
    table: NDArray[np.float32],
    potential: F8,
) -> None:
    for i in range(done.shape[0]):
        if done[i]:
            potential[i] = 0.0
            continue
        slack = (deadline[i] - work_left[i] - pending[i]) / 60.0 - elapsed[i] * tick
        j, w = _between(entries[slot[i]], slack)
        where = placement[i]
        low, high = table[i, elapsed[i], j, where], table[i, elapsed[i], j + 1, where]
        potential[i] = (1.0 - w) * low + w * high
