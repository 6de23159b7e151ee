"""What the planner believes of each of several pools, seen or not: type, state and age of the run."""

from __future__ import annotations

import numpy as np
from numba import njit

from simulator.deadline.observation import BoolArray, FloatArray, IntArray


@njit(cache=True, nogil=True)
def step_belief(
    weight: FloatArray,  # (K, 2, B)
    hazard: FloatArray,
    advance: FloatArray,
    prior: FloatArray,
    drift: float,
    after: FloatArray,  # (K, 2, B)
) -> None:
    """Write the belief one tick later into `after`."""
    types, _, buckets = hazard.shape
    after[:] = 0.0
    for k in range(types):
        for state in range(2):
            for b in range(buckets):
                p = weight[k, state, b]
                if p == 0.0:
                    continue
                ends = p * hazard[k, state, b]
                older = (p - ends) * advance[b]
                after[k, 1 - state, 0] += ends
                after[k, state, b] += p - ends - older
                after[k, state, min(b + 1, buckets - 1)] += older
    if drift > 0.0:
        for state in range(2):
            for b in range(buckets):
                total = 0.0
                for k in range(types):
                    total += after[k, state, b]
                if total > 0.0:
                    for k in range(types):
                        after[k, state, b] += drift * (prior[k] * total - after[k, state, b])


@njit(cache=True, nogil=True)
def _learn(belief: FloatArray, state: int) -> None:
    total = belief[:, state].sum()
    if total > 0.0:
        belief[:, state] /= total
        belief[:, 1 - state] = 0.0


@njit(cache=True, nogil=True)
def fold_pools(
    available: BoolArray,  # (N, P)
    age: IntArray,  # (N, P)
    placement: IntArray,  # (N,)
    hazard: FloatArray,  # (K, 2, B)
    advance: FloatArray,
    stationary: FloatArray,
    prior: FloatArray,
    drift: float,
    begun: BoolArray,  # (N,)
    weight: FloatArray,  # (N, P, K, 2, B)
) -> None:
    """Update beliefs in place with one more look: what is known of each pool, and how many ticks ago.

    A job that has not begun starts from the stationary distribution. An answer from the tick before (a launch
    that failed, or the one that the job now holds) is taken in before time moves on.
    """
    after = np.empty(hazard.shape)
    for i in range(available.shape[0]):
        for p in range(available.shape[1]):
            belief = weight[i, p]
            if begun[i]:
                if placement[i] == p + 2:
                    _learn(belief, 1)
                elif age[i, p] == 1:
                    _learn(belief, 1 if available[i, p] else 0)
                step_belief(belief, hazard, advance, prior, drift, after)
                belief[:] = after
            else:
                for k in range(hazard.shape[0]):
                    belief[k] = prior[k] * stationary[k]
            if age[i, p] == 0:
                _learn(belief, 1 if available[i, p] else 0)
        begun[i] = True


@njit(cache=True, nogil=True)
def phase_odds(
    weight: FloatArray,  # (K, 2, B)
    hazard: FloatArray,
    advance: FloatArray,
    prior: FloatArray,
    drift: float,
    of_state: IntArray,  # (K, 2, B)
    spare: FloatArray,  # (2, K, 2, B)
    odds: FloatArray,  # (2, M)
) -> None:
    """Write the probability of each state now (row) with each phase at the next tick (column)."""
    types, _, buckets = hazard.shape
    odds[:] = 0.0
    for state in range(2):
        spare[0] = 0.0
        spare[0, :, state] = weight[:, state]
        step_belief(spare[0], hazard, advance, prior, drift, spare[1])
        for k in range(types):
            for then in range(2):
                for b in range(buckets):
                    odds[state, of_state[k, then, b]] += spare[1, k, then, b]
