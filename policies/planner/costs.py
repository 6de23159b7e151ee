"""Compiled parts of a decision over one pool: which tables, what each choice costs, which is cheapest."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.features.kernels import choose_pool
from policies.legality import limits
from simulator.deadline.observation import BoolArray, FloatArray, IntArray

RATIO_STEP = 0.005
"""Price ratios are rounded to this for the cost-to-go; the price of the decided tick itself is exact."""
HIGHEST_RATIO = 1.5
"""Above on-demand price the ratio no longer matters to the cost-to-go: spot is not worth it."""


@njit(cache=True, nogil=True)
def write_keys(
    tick: float,  # minutes
    placement: IntArray,
    available: BoolArray,  # (N, P)
    spot_price: FloatArray,  # (N, P)
    on_demand_price: FloatArray,
    overhead: FloatArray,
    work_left: FloatArray,
    time_left: FloatArray,
    due_left: FloatArray,
    lateness_price: FloatArray,
    pool: IntArray,
    ratio: FloatArray,
    keys: FloatArray,  # (N, 4)
) -> tuple[bool, float, float]:
    """Write the pool that "spot" means, its price ratio, and what each job's tables depend on.

    Keys are the restart overhead in seconds, the rounded price ratio, the minutes from due time to deadline
    and the cost of a minute of lateness in on-demand ticks; the last two are 0 without such a cost.

    Returns:
        Whether all jobs have the same keys, the most time left and the most slack, seconds.
    """
    same, most_left, most_slack = True, -np.inf, -np.inf
    for i in range(placement.shape[0]):
        pool[i] = choose_pool(i, placement, available, spot_price)
        ratio[i] = spot_price[i, pool[i]] / on_demand_price[i]
        keys[i, 0] = overhead[i]
        keys[i, 1] = min(max(np.rint(ratio[i] / RATIO_STEP), 1.0) * RATIO_STEP, HIGHEST_RATIO)
        rate = lateness_price[i] / on_demand_price[i] / tick
        keys[i, 2] = (time_left[i] - due_left[i]) / 60.0 if rate > 0.0 else 0.0
        keys[i, 3] = rate
        for k in range(4):
            same = same and keys[i, k] == keys[0, k]
        most_left = max(most_left, time_left[i])
        most_slack = max(most_slack, time_left[i] - work_left[i])
    return same, most_left, most_slack


@njit(cache=True, nogil=True)
def write_costs(
    rows: IntArray,
    tick: float,  # minutes
    overhead: float,  # minutes
    ratio: FloatArray,
    work_left: FloatArray,
    time_left: FloatArray,
    pending: FloatArray,
    placement: IntArray,
    up: NDArray[np.int8],
    belief: NDArray[np.float32],  # (N, K, B)
    grid: FloatArray,
    levels: IntArray,
    after: NDArray[np.float32],  # (L, S, 5B, K)
    costs: FloatArray,  # (N, 3)
) -> None:
    """Write the expected cost of idling, on-demand and spot of jobs `rows`, in on-demand ticks."""
    types, buckets = belief.shape[1], belief.shape[2]
    entries, columns = after.shape[1], after.shape[2]
    flat = after.reshape(-1)
    next_entry, next_level = columns * types, entries * columns * types
    weight = np.empty(types)
    idle, on_demand, spot = np.empty(types), np.empty(types), np.empty(types)
    for i in rows:
        slack = (time_left[i] - work_left[i]) / 60.0
        left = max(time_left[i] / 60.0 / tick - 1.0, 0.0)
        level = _entry_below(levels, left)
        later = min(max((left - levels[level]) / (levels[level + 1] - levels[level]), 0.0), 1.0)
        waiting = pending[i] / 60.0
        held = min(placement[i], 2)
        idle_at, idle_upper = _between(grid, slack - tick)
        on_demand_at, on_demand_upper = _between(grid, slack - (waiting if held == 1 else overhead))
        spot_at, spot_upper = _between(grid, slack - (waiting if held == 2 else overhead))
        column = 2 * buckets if up[i] > 0 else 0
        if_idle = ((level * entries + idle_at) * columns + column) * types
        if_on_demand = ((level * entries + on_demand_at) * columns + column + buckets) * types
        if_spot = ((level * entries + spot_at) * columns + 4 * buckets) * types
        of_idle, of_on_demand, of_spot = 0.0, 0.0, 0.0
        for b in range(buckets):
            # all buckets but one are empty once the age of the run is known
            some = False
            for k in range(types):
                weight[k] = belief[i, k, b]
                some = some or weight[k] > 0.0
            if not some:
                continue
            past = b * types
            _expect(flat, if_idle + past, next_entry, next_level, idle_upper, later, weight, idle)
            _expect(
                flat, if_on_demand + past, next_entry, next_level, on_demand_upper, later, weight, on_demand
            )
            _expect(flat, if_spot + past, next_entry, next_level, spot_upper, later, weight, spot)
            for k in range(types):  # each sum waits for its own last addition, so three take as long as one
                of_idle += idle[k]
                of_on_demand += on_demand[k]
                of_spot += spot[k]
        costs[i, 0] = of_idle
        costs[i, 1] = 1.0 + of_on_demand
        costs[i, 2] = ratio[i] + of_spot


@njit(cache=True, nogil=True)
def _expect(
    after: NDArray[np.float32],
    first: int,
    next_entry: int,
    next_level: int,
    upper: float,
    later: float,
    weight: FloatArray,
    out: FloatArray,
) -> None:
    """Write the cost-to-go by type, times its weight, between four entries of a flat table.

    Unsigned, so that no index may count from the end: otherwise this is not compiled to vector instructions.
    """
    here, above = np.uint64(first), np.uint64(first + next_entry)
    here_later, above_later = np.uint64(first + next_level), np.uint64(first + next_level + next_entry)
    for k in range(np.uint64(weight.shape[0])):
        soon = (1.0 - upper) * after[here + k] + upper * after[above + k]
        late = (1.0 - upper) * after[here_later + k] + upper * after[above_later + k]
        out[k] = weight[k] * ((1.0 - later) * soon + later * late)


@njit(cache=True, nogil=True)
def _between(grid: FloatArray, rest: float) -> tuple[int, float]:
    """The entry of the grid below `rest`, which is brought within it, and the weight of the one above."""
    rest = min(max(rest, 0.0), grid[-1])
    at = _entry_below(grid, rest)
    return at, (rest - grid[at]) / (grid[at + 1] - grid[at])


@njit(cache=True, nogil=True)
def _entry_below(entries: FloatArray | IntArray, at: float) -> int:
    """The last entry that is not above `at`, but one that has another after it."""
    below, size = 0, entries.shape[0] - 1
    while size > 1:
        half = size // 2
        below += half if entries[below + half] <= at else 0
        size -= half
    return below


@njit(cache=True, nogil=True)
def choose_cheapest(
    tick_seconds: float,
    work_left: FloatArray,
    time_left: FloatArray,
    placement: IntArray,
    unsaved: FloatArray,
    restart_overhead: FloatArray,
    checkpoint_interval: FloatArray,
    available: BoolArray,  # (N, P)
    pool: IntArray,
    costs: FloatArray,  # (N, 3)
    doubt: float,
    choice: IntArray,
    doubtful: BoolArray,
) -> int:
    """Write the cheapest legal action, first of equals, and whether another is worse by less than `doubt`.

    Returns:
        How many are in doubt.
    """
    count = 0
    for i in range(choice.shape[0]):
        may_idle, may_hold, may_launch = limits(
            tick_seconds, work_left[i], time_left[i], unsaved[i], restart_overhead[i], checkpoint_interval[i]
        )
        place = pool[i] + 2
        may_spot = available[i, pool[i]] and (may_hold if placement[i] == place else may_launch)
        best, second = costs[i, 1], np.inf
        choice[i] = 1
        if may_idle:
            second = max(best, costs[i, 0])
            if costs[i, 0] <= best:
                best = costs[i, 0]
                choice[i] = 0
        if may_spot:
            second = min(second, max(best, costs[i, 2]))
            if costs[i, 2] < best:
                best = costs[i, 2]
                choice[i] = place
        # as the networks are shown it
        doubtful[i] = np.float32(second - best) < doubt
        count += doubtful[i]
    return count
