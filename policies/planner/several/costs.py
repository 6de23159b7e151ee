"""Expected cost of each action of each job, from beliefs and tables; compiled."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.planner.several.belief import phase_odds
from simulator.deadline.observation import FloatArray, IntArray


@njit(cache=True, nogil=True)
def _joint(odds: FloatArray, joint: FloatArray) -> None:
    """Write the probability of each joint phase into `joint` (J,) from `odds` (P, M)."""
    pools, phases = odds.shape
    joint[0] = 1.0
    filled = 1
    for p in range(pools):
        for m in range(phases - 1, -1, -1):
            for j in range(filled):
                joint[m * filled + j] = joint[j] * odds[p, m]
        filled *= phases


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
    for dt in range(2):
        in_time = later if dt == 1 else 1.0 - later
        for ds in range(2):
            share = in_time * (upper if ds == 1 else 1.0 - upper)
            if share == 0.0:
                continue
            row = value[level + dt, at + ds, place]
            part = 0.0
            for j in range(joint.shape[0]):
                part += joint[j] * row[j]
            total += share * part
    return total


@njit(cache=True, nogil=True)
def write_seen_costs(
    rows: IntArray,
    tick: float,
    overhead: float,
    ratio: FloatArray,  # (N, P)
    work_left: FloatArray,
    time_left: FloatArray,
    pending: FloatArray,
    placement: IntArray,
    belief: FloatArray,  # (N, P, K, 2, B)
    hazard: FloatArray,
    advance: FloatArray,
    prior: FloatArray,
    drift: float,
    of_state: IntArray,
    phases: int,
    grid: FloatArray,
    levels: IntArray,
    value: NDArray[np.float32],
    costs: FloatArray,  # (N, P + 2)
) -> None:
    """Write the costs of jobs `rows` where pools will be seen at every tick."""
    pools = ratio.shape[1]
    spare = np.empty((2, *hazard.shape))
    odds = np.empty((pools, 2, phases))
    each = np.empty((pools, phases))
    joint = np.empty(value.shape[3])
    asked = np.empty(value.shape[3])
    for i in rows:
        slack = (time_left[i] - work_left[i]) / 60.0
        left = max(time_left[i] / 60.0 / tick - 1.0, 0.0)
        for p in range(pools):
            phase_odds(belief[i, p], hazard, advance, prior, drift, of_state, spare, odds[p])
            each[p] = odds[p, 0] + odds[p, 1]
        _joint(each, joint)
        idle = _after(slack - tick, left, 0, joint, grid, levels, value)
        costs[i, 0] = idle
        held = placement[i]
        rest = slack - (pending[i] / 60.0 if held == 1 else overhead)
        costs[i, 1] = 1.0 + _after(rest, left, 1, joint, grid, levels, value)
        for p in range(pools):
            rest = slack - (pending[i] / 60.0 if held == p + 2 else overhead)
            there = odds[p, 1].sum()
            if there > 1.0 - 1e-9:
                costs[i, p + 2] = ratio[i, p] + _after(rest, left, p + 2, joint, grid, levels, value)
                continue
            costs[i, p + 2] = 0.0
            for state in range(2):
                share = there if state == 1 else 1.0 - there
                if share <= 0.0:
                    continue
                each[p] = odds[p, state] / share
                _joint(each, asked)
                if state == 1:
                    cost = ratio[i, p] + _after(rest, left, p + 2, asked, grid, levels, value)
                elif held == 0:  # the launch fails
                    cost = _after(slack - tick, left, 0, asked, grid, levels, value)
                else:
                    cost = 1.0 if held == 1 else ratio[i, held - 2]
                    cost += _after(slack - pending[i] / 60.0, left, held, asked, grid, levels, value)
                costs[i, p + 2] += share * cost
            each[p] = odds[p, 0] + odds[p, 1]


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
    belief: FloatArray,  # (N, P, K, 2, B)
    hazard: FloatArray,
    advance: FloatArray,
    prior: FloatArray,
    drift: float,
    of_state: IntArray,
    phases: int,
    there_of: FloatArray,  # (C,)
    grid: FloatArray,
    levels: IntArray,
    value: NDArray[np.float32],
    costs: FloatArray,  # (N, P + 2)
) -> None:
    """Write the costs of jobs `rows` where only the pool that is held or asked will be seen."""
    pools = ratio.shape[1]
    beliefs = there_of.shape[0]
    spare = np.empty((2, *hazard.shape))
    odds = np.empty((pools, 2, phases))
    each = np.empty((pools, beliefs))
    waited = np.empty((pools, beliefs))
    joint = np.empty(value.shape[3])
    for i in rows:
        slack = (time_left[i] - work_left[i]) / 60.0
        left = max(time_left[i] / 60.0 / tick - 1.0, 0.0)
        for p in range(pools):
            phase_odds(belief[i, p], hazard, advance, prior, drift, of_state, spare, odds[p])
            _on_grid(odds[p, 0, 1:].sum() + odds[p, 1, 1:].sum(), there_of, waited[p])
        each[:] = waited
        _joint(each, joint)
        costs[i, 0] = _after(slack - tick, left, 0, joint, grid, levels, value)
        held = placement[i]
        rest = slack - (pending[i] / 60.0 if held == 1 else overhead)
        costs[i, 1] = 1.0 + _after(rest, left, 1, joint, grid, levels, value)
        for p in range(pools):
            rest = slack - (pending[i] / 60.0 if held == p + 2 else overhead)
            there = odds[p, 1].sum()
            cost = there * ratio[i, p]
            each[p] = 0.0
            each[p, : phases - 1] = odds[p, 1, 1:]
            _joint(each, joint)
            cost += _after(rest, left, p + 2, joint, grid, levels, value)
            each[p] = 0.0
            each[p, 0] = odds[p, 1, 0]
            _joint(each, joint)
            cost += _after(rest, left, 0, joint, grid, levels, value)
            if there < 1.0 - 1e-9:  # the launch may fail
                _on_grid(odds[p, 0, 1:].sum() / (1.0 - there), there_of, each[p])
                each[p] *= 1.0 - there
                rest = slack - (tick if held == 0 else pending[i] / 60.0)
                if held < 2:
                    cost += (1.0 - there) * held
                    _joint(each, joint)
                    cost += _after(rest, left, held, joint, grid, levels, value)
                else:
                    r = held - 2
                    cost += (1.0 - there) * ratio[i, r]
                    each[r] = 0.0
                    each[r, : phases - 1] = odds[r, 1, 1:]
                    _joint(each, joint)
                    cost += _after(rest, left, held, joint, grid, levels, value)
                    each[r] = 0.0
                    each[r, 0] = odds[r, 1, 0]
                    _joint(each, joint)
                    cost += _after(rest, left, 0, joint, grid, levels, value)
                    each[r] = waited[r]
            each[p] = waited[p]
            costs[i, p + 2] = cost


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
