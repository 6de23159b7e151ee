"""What the network sees: one row of numbers for the job, and one of the same meaning for each pool."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.guided.advice import HIGHEST_GAP
from policies.planner.tables import TickModel
from simulator.deadline.observation import (
    BoolArray,
    DeadlineObservation,
    FloatArray,
    IntArray,
    PartialObservation,
)

JOB_NAMES = (
    "idle_cost_gap",
    "on_demand_cost_gap",
    "idle_legal",
    "placed_idle",
    "placed_on_demand",
    "slack_hours_log",
    "slack_per_work_left_log",
    "work_left_hours_log",
    "ticks_left_log",
    "overhead_ticks",
    "pending_ticks",
    "margin_to_hold_ticks",
    "margin_to_launch_ticks",
    "pools_log",
)
POOL_NAMES = (
    "cost_gap",
    "legal",
    "occupied",
    "price_ratio",
    "price_above_cheapest",
    "believed_spot_now",
    "believed_availability",
    "believed_availability_spread",
    "believed_change_per_hour_log",
    "knowledge_age_log",
)
GAP = 0
"""Column of a pool's cost gap."""


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """N jobs over P pools as the network sees them.

    Attributes:
        job: (N, len(JOB_NAMES)) float32.
        pool: (N, P, len(POOL_NAMES)) float32; all pools mean the same by the same column.
    """

    job: NDArray[np.float32]
    pool: NDArray[np.float32]

    @property
    def gaps(self) -> NDArray[np.float32]:
        """(N, P + 2) on-demand ticks: the planner's cost of each action above the cheapest legal one."""
        return np.concatenate([self.job[:, :2], self.pool[:, :, GAP]], axis=1)

    @property
    def flat(self) -> NDArray[np.float32]:
        """(N, J + P F) everything in one row, as environments hand it out."""
        return np.concatenate([self.job, self.pool.reshape(len(self.pool), -1)], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Advice:
    """What the planner says of N jobs over P pools.

    Attributes:
        legal: (N, P + 2) what the shield allows.
        costs: (N, P + 2) expected costs, on-demand ticks; infinite where not weighed.
        belief: (N, P, 2, K, B) about each pool, over state, type and age bucket.
        model: The model in ticks of this length.
    """

    legal: BoolArray
    costs: FloatArray
    belief: NDArray[np.float32]
    model: TickModel


def describe(observation: DeadlineObservation, advice: Advice, rows: IntArray | None = None) -> Described:
    """Describe jobs `rows`, by default all."""
    pools = observation.pools
    rows = np.arange(observation.jobs) if rows is None else rows
    described = Described(
        np.empty((len(rows), len(JOB_NAMES)), np.float32),
        np.empty((len(rows), pools, len(POOL_NAMES)), np.float32),
    )
    age = np.zeros((observation.jobs, pools), np.int64)
    if isinstance(observation, PartialObservation):
        age = observation.knowledge_age
    _describe(
        rows,
        observation.tick_seconds,
        np.ascontiguousarray(observation.work_left, np.float64),
        np.ascontiguousarray(observation.time_left, np.float64),
        np.ascontiguousarray(observation.placement, np.int64),
        np.ascontiguousarray(observation.pending_overhead, np.float64),
        np.ascontiguousarray(observation.restart_overhead, np.float64),
        np.ascontiguousarray(observation.spot_price / observation.on_demand_price[:, None]),
        age,
        advice.legal,
        advice.costs,
        advice.belief,
        advice.model.hazard,
        advice.model.stationary[:, 1].sum(axis=1),
        described.job,
        described.pool,
    )
    return described


@njit(cache=True, nogil=True)
def _describe(
    rows: IntArray,
    tick_seconds: float,
    work_left: FloatArray,
    time_left: FloatArray,
    placement: IntArray,
    pending: FloatArray,
    overhead: FloatArray,
    ratio: FloatArray,  # (N, P)
    age: IntArray,  # (N, P)
    legal: BoolArray,
    costs: FloatArray,
    belief: NDArray[np.float32],  # (N, P, 2, K, B)
    hazard: FloatArray,  # (K, 2, B)
    availability: FloatArray,  # (K,)
    job: NDArray[np.float32],
    pool: NDArray[np.float32],
) -> None:
    pools, hours = ratio.shape[1], tick_seconds / 3600.0
    for n in range(rows.shape[0]):
        i = rows[n]
        best = np.inf
        for action in range(pools + 2):
            if legal[i, action]:
                best = min(best, costs[i, action])
        slack = max(time_left[i] - work_left[i], 0.0)
        for action in range(2):
            gap = costs[i, action] - best if legal[i, action] else HIGHEST_GAP
            job[n, action] = min(gap, HIGHEST_GAP)
        job[n, 2] = legal[i, 0]
        job[n, 3] = placement[i] == 0
        job[n, 4] = placement[i] == 1
        job[n, 5] = math.log(slack / 3600.0 + 0.1)
        job[n, 6] = math.log((slack + 360.0) / (work_left[i] + 3600.0)) + 1.0
        job[n, 7] = math.log(work_left[i] / 3600.0 + 0.5) - 2.0
        job[n, 8] = math.log(time_left[i] / tick_seconds + 1.0) - 4.0
        job[n, 9] = overhead[i] / tick_seconds - 1.0
        job[n, 10] = pending[i] / tick_seconds
        for k in range(2):
            margin = (slack - (1 + k) * overhead[i]) / tick_seconds - 1.0
            job[n, 11 + k] = min(max(margin / 4.0, -1.0), 3.0)
        job[n, 13] = math.log(pools) - 1.0
        cheapest = ratio[i].min()
        for p in range(pools):
            there, mean, square, change = 0.0, 0.0, 0.0, 0.0
            for k in range(hazard.shape[0]):
                share = 0.0
                for state in range(2):
                    for b in range(hazard.shape[2]):
                        weight = belief[i, p, state, k, b]
                        share += weight
                        there += weight * state
                        change += weight * hazard[k, state, b]
                mean += share * availability[k]
                square += share * availability[k] * availability[k]
            gap = costs[i, p + 2] - best if legal[i, p + 2] else HIGHEST_GAP
            per_hour = -math.log(1.0 - min(change, 0.999)) / hours
            pool[n, p, 0] = min(gap, HIGHEST_GAP)
            pool[n, p, 1] = legal[i, p + 2]
            pool[n, p, 2] = placement[i] == p + 2
            pool[n, p, 3] = min(4.0 * ratio[i, p] - 2.0, 4.0)
            pool[n, p, 4] = min(8.0 * (ratio[i, p] - cheapest), 4.0)
            pool[n, p, 5] = 2.0 * there - 1.0
            pool[n, p, 6] = 2.0 * mean - 1.0
            pool[n, p, 7] = 4.0 * math.sqrt(max(square - mean * mean, 0.0)) - 1.0
            pool[n, p, 8] = (math.log(per_hour + 1e-3) + 1.0) / 1.5
            pool[n, p, 9] = math.log(age[i, p] + 1.0) / 2.0 if age[i, p] >= 0 else 3.0
