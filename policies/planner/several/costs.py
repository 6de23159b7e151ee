"""Expected cost of each action of each job, from beliefs and tables; compiled."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.deadline.observation import FloatArray, IntArray


@njit(cache=True, nogil=True)
def write_joint(odds: FloatArray, joint: FloatArray) -> None:
    """Write the probability of each joint phase into `joint` (J,) from `odds` (P, M)."""
    pools, phases = odds.shape
    joint[0] = 1.0
    filled = 1
    for p in range(pools):
        for m in range(phases - 1, -1, -1):
            for j in range(filled):
                joint[m * filled + j] = joint[j] * odds[p, m]
        filled *= phases


@njit(inline="always")
def _between(grid: FloatArray, at: float) -> tuple[int, float]:
    """Lower neighbour of `at` in an increasing grid, and the weight of the upper one; clipped to the grid."""
    lower, size = 0, grid.shape[0] - 1
    while size > 1:  # without branches, which a batch of different jobs would mispredict
        half = size // 2
        lower = lower + half if grid[lower + half] <= at else lower
        size -= half
    part = (at - grid[lower]) / max(grid[lower + 1] - grid[lower], 1e-12)
    return lower, min(max(part, 0.0), 1.0)


@njit(inline="always")
def _between_levels(levels: IntArray, left: float) -> tuple[int, float]:
    """The same for whole numbers."""
    lower, size = 0, levels.shape[0] - 1
    while size > 1:
        half = size // 2
        lower = lower + half if levels[lower + half] <= left else lower
        size -= half
    part = (left - levels[lower]) / (levels[lower + 1] - levels[lower])
    return lower, min(max(part, 0.0), 1.0)


@njit(inline="always")
def _after(
    level: tuple[int, float],
    slack: tuple[int, float],
    place: int,
    joint: FloatArray,
    value: NDArray[np.float32],
) -> float:
    """Expected cost-to-go; `level` and `slack` are lower neighbours and weights of the upper ones."""
    i, later = level
    k, upper = slack
    soon_low, soon_high = value[i, k, place], value[i, k + 1, place]
    late_low, late_high = value[i + 1, k, place], value[i + 1, k + 1, place]
    a, b = (1.0 - later) * (1.0 - upper), (1.0 - later) * upper
    c, d = later * (1.0 - upper), later * upper
    total = 0.0
    for j in range(joint.shape[0]):
        total += joint[j] * (a * soon_low[j] + b * soon_high[j] + c * late_low[j] + d * late_high[j])
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _blend(
    level: tuple[int, float],
    slack: tuple[int, float],
    place: int,
    value: NDArray[np.float32],
    row: FloatArray,  # (J,)
) -> None:
    """Write the cost-to-go of each joint phase, interpolated as in `_after`."""
    i, later = level
    k, upper = slack
    soon_low, soon_high = value[i, k, place], value[i, k + 1, place]
    late_low, late_high = value[i + 1, k, place], value[i + 1, k + 1, place]
    a, b = (1.0 - later) * (1.0 - upper), (1.0 - later) * upper
    c, d = later * (1.0 - upper), later * upper
    for j in range(row.shape[0]):
        row[j] = a * soon_low[j] + b * soon_high[j] + c * late_low[j] + d * late_high[j]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def write_seen_costs(
    rows: IntArray,
    tick: float,
    overhead: float,
    ratio: FloatArray,  # (N, P)
    work_left: FloatArray,
    time_left: FloatArray,
    pending: FloatArray,
    placement: IntArray,
    odds: FloatArray,  # (N, P, 2, M)
    grid: FloatArray,
    levels: IntArray,
    value: NDArray[np.float32],
    costs: FloatArray,  # (N, P + 2)
) -> None:
    """Write the costs of jobs `rows` where pools will be seen at every tick."""
    pools = ratio.shape[1]
    each = np.empty((pools, odds.shape[3]))
    joint = np.empty(value.shape[3])
    asked = np.empty(value.shape[3])
    for i in rows:
        slack = (time_left[i] - work_left[i]) / 60.0
        level = _between_levels(levels, time_left[i] / 60.0 / tick - 1.0)
        idle = _between(grid, slack - tick)
        launch = _between(grid, slack - overhead)
        stay = _between(grid, slack - pending[i] / 60.0)
        held = placement[i]
        for p in range(pools):
            each[p] = odds[i, p, 0] + odds[i, p, 1]
        write_joint(each, joint)
        costs[i, 0] = _after(level, idle, 0, joint, value)
        costs[i, 1] = 1.0 + _after(level, stay if held == 1 else launch, 1, joint, value)
        kept = costs[i, min(held, 1)]  # of keeping the placement
        if held >= 2:
            kept = ratio[i, held - 2] + _after(level, stay, held, joint, value)
        for p in range(pools):
            there = odds[i, p, 1].sum()
            if there == 0.0 or held == p + 2:  # a launch that fails, or no launch
                costs[i, p + 2] = kept
                continue
            each[p] = odds[i, p, 1]
            write_joint(each, asked)
            costs[i, p + 2] = there * ratio[i, p] + _after(level, launch, p + 2, asked, value)
            each[p] = odds[i, p, 0]
            if there < 1.0 - 1e-9:  # the launch may fail
                write_joint(each, asked)
                price = 0.0 if held == 0 else 1.0 if held == 1 else ratio[i, held - 2]
                rest = idle if held == 0 else stay
                costs[i, p + 2] += (1.0 - there) * price + _after(level, rest, held, asked, value)
            each[p] += odds[i, p, 1]


@njit(cache=True, nogil=True)
def write_unseen_costs(
    rows: IntArray,
    tick: float,
    overhead: float,
    ratio: FloatArray,  # (N, P)
    work_left: FloatArray,
    time_left: FloatArray,
    pending: FloatArray,
    placement: IntArray,
    odds: FloatArray,  # (N, P, 2, M)
    there_of: FloatArray,  # (C,)
    grid: FloatArray,
    levels: IntArray,
    value: NDArray[np.float32],
    costs: FloatArray,  # (N, P + 2)
) -> None:
    """Write the costs of jobs `rows` where only the pool that is held or asked will be seen."""
    pools, joint = ratio.shape[1], value.shape[3]
    lower, upper = np.empty(pools, np.int64), np.empty(pools)
    stride = np.ones(pools, np.int64)
    for p in range(1, pools):
        stride[p] = stride[p - 1] * there_of.shape[0]
    at, weight = np.empty(joint, np.int64), np.empty(joint)
    waits, stays, runs = np.empty(joint), np.empty(joint), np.empty(joint)
    lost_at_launch, lost_later = np.empty(joint), np.empty(joint)
    for i in rows:
        slack = (time_left[i] - work_left[i]) / 60.0
        level = _between_levels(levels, time_left[i] / 60.0 / tick - 1.0)
        launch = _between(grid, slack - overhead)
        stay = _between(grid, slack - pending[i] / 60.0)
        held = placement[i]
        for p in range(pools):
            c, upper[p] = _between(there_of, odds[i, p, :, 1:].sum())
            lower[p] = c * stride[p]
        few = _mix(-1, -1, lower, upper, stride, at, weight)
        _blend(level, _between(grid, slack - tick), 0, value, waits)
        costs[i, 0] = _expect(waits, 0, few, at, weight)
        _blend(level, stay if held == 1 else launch, 1, value, stays)
        costs[i, 1] = 1.0 + _expect(stays, 0, few, at, weight)
        _blend(level, launch, 0, value, lost_at_launch)
        if held >= 2:
            _blend(level, stay, held, value, stays)
            _blend(level, stay, 0, value, lost_later)
        for p in range(pools):
            there = odds[i, p, 1].sum()
            few = _mix(p, -1, lower, upper, stride, at, weight)
            if held == p + 2:
                cost = _found(odds[i, p, 1], stays, lost_later, 0, stride[p], few, at, weight)
            else:
                _blend(level, launch, p + 2, value, runs)
                cost = _found(odds[i, p, 1], runs, lost_at_launch, 0, stride[p], few, at, weight)
            cost += there * ratio[i, p]
            if held != p + 2 and there < 1.0 - 1e-9:  # the launch may fail
                c, high = _between(there_of, odds[i, p, 0, 1:].sum() / (1.0 - there))
                first = c * stride[p]
                if held >= 2:
                    r = held - 2
                    few = _mix(p, r, lower, upper, stride, at, weight)
                    price = ratio[i, r]
                    low = _found(odds[i, r, 1], stays, lost_later, first, stride[r], few, at, weight)
                    first += stride[p]
                    above = _found(odds[i, r, 1], stays, lost_later, first, stride[r], few, at, weight)
                else:
                    kept = stays if held == 1 else waits
                    price = float(held)
                    low = _expect(kept, first, few, at, weight)
                    above = _expect(kept, first + stride[p], few, at, weight)
                cost += (1.0 - there) * (price + (1.0 - high) * low + high * above)
            costs[i, p + 2] = cost


@njit(inline="always")
def _mix(
    but: int,
    nor: int,
    lower: IntArray,
    upper: FloatArray,
    stride: IntArray,
    at: IntArray,
    weight: FloatArray,
) -> int:
    """Write the joint beliefs about all pools except two, and their weights; returns how many they are.

    Each pool lies between two beliefs, of which the table's `lower` digit and the weight of the `upper` one
    are given. The digits of the pools left out are 0.
    """
    at[0], weight[0] = 0, 1.0
    few = 1
    for p in range(lower.shape[0]):
        if p in (but, nor):
            continue
        for n in range(few):
            at[few + n] = at[n] + lower[p] + stride[p]
            weight[few + n] = weight[n] * upper[p]
            at[n] += lower[p]
            weight[n] *= 1.0 - upper[p]
        few *= 2
    return few


@njit(inline="always")
def _expect(row: FloatArray, offset: int, few: int, at: IntArray, weight: FloatArray) -> float:
    total: float = 0.0
    for n in range(few):
        total += weight[n] * row[at[n] + offset]
    return total


@njit(cache=True, nogil=True)
def _found(
    odds: FloatArray,  # (M,)
    runs: FloatArray,  # (J,)
    lost: FloatArray,  # (J,)
    offset: int,
    stride: int,
    few: int,
    at: IntArray,
    weight: FloatArray,
) -> float:
    """Expected cost-to-go of running in a pool that is next tick in each phase with probability `odds`.

    `runs` is the cost-to-go there by phase with spot, `lost` that of an idle job whose pool has none.
    """
    total: float = odds[0] * _expect(lost, offset, few, at, weight)
    for m in range(1, odds.shape[0]):
        total += odds[m] * _expect(runs, offset + (m - 1) * stride, few, at, weight)
    return total
