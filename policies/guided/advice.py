"""What the planner tells the network: how much worse each choice is, and what it believes of the pool."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.deadline.observation import BoolArray, FloatArray, IntArray

HIGHEST_GAP = 5.0
"""On-demand ticks; a choice that is worse by more, or not legal, counts as this much worse."""
COST_GAPS = 3
"""The first columns: expected cost of idle, on-demand and spot above the cheapest legal one."""
ADVICE_NAMES = (
    "idle_cost_gap",
    "on_demand_cost_gap",
    "spot_cost_gap",
    "believed_availability",
    "believed_hazard",
    "belief_entropy",
    "believed_availability_spread",
)


@njit(cache=True, nogil=True)
def write_advice(
    rows: IntArray,
    costs: FloatArray,  # (N, 3)
    legal: BoolArray,  # (N, P + 2)
    pool: IntArray,
    belief: NDArray[np.float32],  # (N, K, B)
    up: NDArray[np.int8],
    hazard: FloatArray,  # (K, 2, B) per tick
    hours_per_tick: float,
    availability: FloatArray,  # (K,)
    out: NDArray[np.float32],  # (N, F + 7)
) -> None:
    """Write the advice on jobs `rows` into the last columns of their rows; the first hold features."""
    first = out.shape[1] - 7
    types, buckets = belief.shape[1], belief.shape[2]
    for i in rows:
        best = costs[i, 1]
        if legal[i, 0]:
            best = min(best, costs[i, 0])
        may_spot = legal[i, pool[i] + 2]
        if may_spot:
            best = min(best, costs[i, 2])
        for action in range(3):
            allowed = action == 1 or (legal[i, 0] if action == 0 else may_spot)
            gap = costs[i, action] - best if allowed else HIGHEST_GAP
            out[i, first + action] = min(gap, HIGHEST_GAP)
        mean = 0.0
        square = 0.0
        rate = 0.0
        entropy = 0.0
        state = max(up[i], 0)
        for k in range(types):
            weight = 0.0
            for b in range(buckets):
                weight += belief[i, k, b]
                rate += belief[i, k, b] * hazard[k, state, b]
            mean += weight * availability[k]
            square += weight * availability[k] * availability[k]
            if weight > 1e-12:
                entropy -= weight * math.log(weight)
        per_hour = -math.log(1.0 - min(rate, 0.999)) / hours_per_tick
        out[i, first + 3] = 2.0 * mean - 1.0
        out[i, first + 4] = (math.log(per_hour + 1e-3) + 1.0) / 1.5
        out[i, first + 5] = entropy - 1.0
        out[i, first + 6] = 4.0 * math.sqrt(max(square - mean * mean, 0.0)) - 1.0
