"""What the planner remembers of a pool: a belief over zone types and the age of the present run."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.deadline.observation import BoolArray, FloatArray, IntArray


@njit(cache=True, nogil=True)
def fold(
    available: BoolArray,  # (N,)
    hazard: FloatArray,  # (K, 2, B)
    advance: FloatArray,
    first_age: FloatArray,
    stationary: FloatArray,
    prior: FloatArray,
    drift: float,
    weight: NDArray[np.float32],  # (N, K, B)
    last: NDArray[np.int8],
    age: IntArray,
    known: BoolArray,
) -> None:
    """Update beliefs with one more look at the pool; arrays without a shape are (N,) or per bucket.

    Before the first change the age of the run is not known and the belief covers types x buckets, starting
    from the stationary distribution. After it the age is known and only the type is uncertain. Between
    ticks a zone draws a new type with probability `drift`.
    """
    types, _, buckets = hazard.shape
    moved = np.zeros(buckets)
    for i in range(available.shape[0]):
        now = 1 if available[i] else 0
        before = last[i]
        belief = weight[i]
        last[i] = now
        if before < 0:
            for k in range(types):
                for b in range(buckets):
                    belief[k, b] = prior[k] * stationary[k, now, b]
            age[i] = 1
            known[i] = False
        else:
            held = _bucket(age[i], first_age)
            age[i] = age[i] + 1 if now == before else 1
            exact = _bucket(age[i], first_age)
            if known[i]:
                # all other buckets are empty
                for k in range(types):
                    h = hazard[k, before, held]
                    left = belief[k, held] * (h if now != before else 1.0 - h)
                    belief[k, held] = 0.0
                    belief[k, exact] = left
                _settle(belief, exact, exact + 1, drift, prior)
                continue
            known[i] = now != before
            for k in range(types):
                for b in range(buckets):
                    moved[b] = 0.0
                for b in range(buckets):
                    h = hazard[k, before, b]
                    if now != before:
                        moved[0] += belief[k, b] * h
                    else:
                        stay = belief[k, b] * (1.0 - h)
                        moved[b] += stay * (1.0 - advance[b])
                        moved[min(b + 1, buckets - 1)] += stay * advance[b]
                for b in range(buckets):
                    belief[k, b] = moved[b]
        _settle(belief, 0, buckets, drift, prior)


@njit(cache=True, nogil=True)
def _bucket(age: int, first_age: FloatArray) -> int:
    exact = 0
    while exact + 1 < first_age.shape[0] and age >= first_age[exact + 1]:
        exact += 1
    return exact


@njit(cache=True, nogil=True)
def _settle(belief: NDArray[np.float32], first: int, end: int, drift: float, prior: FloatArray) -> None:
    """Make buckets `first` to `end` a distribution, after a chance of `drift` of a new type."""
    total = 0.0
    for k in range(belief.shape[0]):
        for b in range(first, end):
            total += belief[k, b]
    for b in range(first, end):
        in_bucket = 0.0
        for k in range(belief.shape[0]):
            in_bucket += belief[k, b]
        for k in range(belief.shape[0]):
            belief[k, b] = ((1.0 - drift) * belief[k, b] + drift * prior[k] * in_bucket) / total
