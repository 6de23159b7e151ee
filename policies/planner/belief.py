"""What the planner remembers of a pool: a belief over zone types and the age of the present run."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.deadline.observation import BoolArray, FloatArray, IntArray


@njit(cache=True, nogil=True)
def fold(
    available: BoolArray,  # (N, P)
    hazard: FloatArray,  # (K, 2, B)
    advance: FloatArray,
    first_age: FloatArray,
    stationary: FloatArray,
    prior: FloatArray,
    drift: float,
    weight_before: NDArray[np.float32],  # (N, K, B)
    last_before: NDArray[np.int8],
    age_before: IntArray,
    known_before: BoolArray,
    weight: NDArray[np.float32],  # (N, K, B)
    last: NDArray[np.int8],
    age: IntArray,
    known: BoolArray,
) -> None:
    """Write beliefs after one more look at the pool; arrays without a shape are (N,) or per bucket.

    Before the first change the age of the run is not known and the belief covers types x buckets, starting
    from the stationary distribution. After it the age is known and only the type is uncertain. Between
    ticks a zone draws a new type with probability `drift`. Every cell of the last four arrays is written.
    """
    types, _, buckets = hazard.shape
    stay, in_bucket = np.zeros(buckets), np.zeros(buckets)
    for i in range(available.shape[0]):
        now = 0
        for p in range(available.shape[1]):
            if available[i, p]:
                now = 1
        before = last_before[i]
        belief, earlier = weight[i], weight_before[i]
        last[i] = now
        if before < 0:
            for k in range(types):
                for b in range(buckets):
                    belief[k, b] = prior[k] * stationary[k, now, b]
            age[i] = 1
            known[i] = False
            _settle(belief, 0, buckets, drift, prior, in_bucket)
            continue
        changed = now != before
        held = _bucket(age_before[i], first_age) if known_before[i] else -1
        age[i] = 1 if changed else age_before[i] + 1
        known[i] = known_before[i] or changed
        if known[i]:
            exact = _bucket(age[i], first_age)
            _of_known_age(earlier, hazard, before, changed, held, exact, belief)
            _settle(belief, exact, exact + 1, drift, prior, in_bucket)
        else:
            _older(earlier, hazard, before, advance, stay, belief)
            _settle(belief, 0, buckets, drift, prior, in_bucket)


@njit(cache=True, nogil=True)
def _older(
    earlier: NDArray[np.float32],  # (K, B)
    hazard: FloatArray,
    state: int,
    advance: FloatArray,
    stay: FloatArray,
    belief: NDArray[np.float32],
) -> None:
    """A run of unknown age that goes on; `stay` is room for a row."""
    for k in range(belief.shape[0]):
        for b in range(stay.shape[0]):
            stay[b] = earlier[k, b] * (1.0 - hazard[k, state, b])
        belief[k, 0] = stay[0] * (1.0 - advance[0])
        for b in range(1, stay.shape[0]):
            belief[k, b] = stay[b - 1] * advance[b - 1] + stay[b] * (1.0 - advance[b])


@njit(cache=True, nogil=True)
def _of_known_age(
    earlier: NDArray[np.float32],  # (K, B)
    hazard: FloatArray,
    state: int,
    changed: bool,
    held: int,
    exact: int,
    belief: NDArray[np.float32],
) -> None:
    """A run in bucket `exact`, after one in bucket `held` of `state`, or in any if that is -1."""
    for k in range(belief.shape[0]):
        for b in range(belief.shape[1]):
            belief[k, b] = 0.0
        if held >= 0:  # all other buckets are empty
            h = hazard[k, state, held]
            belief[k, exact] = earlier[k, held] * (h if changed else 1.0 - h)
        else:
            ended = 0.0
            for b in range(belief.shape[1]):
                ended += earlier[k, b] * hazard[k, state, b]
            belief[k, exact] = ended


@njit(cache=True, nogil=True)
def _bucket(age: int, first_age: FloatArray) -> int:
    exact = 0
    while exact + 1 < first_age.shape[0] and age >= first_age[exact + 1]:
        exact += 1
    return exact


@njit(cache=True, nogil=True)
def _settle(
    belief: NDArray[np.float32], first: int, end: int, drift: float, prior: FloatArray, in_bucket: FloatArray
) -> None:
    """Make buckets `first` to `end` a distribution, after a chance of `drift` of a new type."""
    in_bucket[:] = 0.0
    total = 0.0
    for k in range(belief.shape[0]):
        for b in range(first, end):
            total += belief[k, b]
            in_bucket[b] += belief[k, b]
    for k in range(belief.shape[0]):
        for b in range(first, end):
            fresh = drift * prior[k] * in_bucket[b]
            belief[k, b] = ((1.0 - drift) * belief[k, b] + fresh) / total
