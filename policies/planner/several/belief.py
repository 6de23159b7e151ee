"""What the planner believes of each of several pools, seen or not: state, type and age of the run.

A belief about a pool is (2, K, B) over state, type and age bucket. What bounds a large batch is how much of
it is read and written. So it is kept in single precision, in halves of S = K B entries for each state, and
where the state is known only the one half that is not zero is read.
"""

# ruff: noqa: C901 -- compiled: one loop nest per job

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.planner.several.phases import chain_of
from policies.planner.tables import TickModel
from simulator.deadline.observation import BoolArray, FloatArray, IntArray

Int8Array = NDArray[np.int8]
Float32Array = NDArray[np.float32]
UNKNOWN = -1
"""State of a pool that the belief does not know; 0 is without spot, 1 with it."""
IMPOSSIBLE = np.float32(1e-20)
"""What is less likely is not told from what cannot be: single precision could not be scaled back from it."""


@dataclass(frozen=True, eq=False)
class BeliefStep:
    """How a belief about one pool goes on in a tick; S = K B entries, bucket last.

    Attributes:
        start: (2, S) belief about a pool of which nothing is known.
        stay: (2, S) probability that run and bucket stay the same.
        older: (2, S) probability that entry s - 1 moves to entry s: the same run, the next bucket.
        ends: (2, S) probability that the run ends.
        prior: (K,) share of each type.
        drift: Probability that the zone draws a new type.
    """

    start: Float32Array
    stay: Float32Array
    older: Float32Array
    ends: Float32Array
    prior: Float32Array
    drift: np.float32

    @classmethod
    def of(cls, model: TickModel) -> BeliefStep:
        """The steps of a model."""
        lasts = 1.0 - model.hazard
        advance = model.advance.copy()
        advance[-1] = 0.0  # there is no older bucket
        older = np.zeros_like(lasts)
        older[:, :, 1:] = (lasts * advance)[:, :, :-1]

        return cls(
            halves(model.prior[:, None, None] * model.stationary),
            halves(lasts * (1.0 - advance)),
            halves(older),
            halves(model.hazard),
            model.prior.astype(np.float32),
            np.float32(model.drift),
        )


def halves(of_type: FloatArray) -> Float32Array:
    """(2, S) by state, then type and age bucket, from (K, 2, B)."""
    return np.ascontiguousarray(of_type.swapaxes(0, 1), np.float32).reshape(2, -1)


def odds_ahead(model: TickModel, of_state: IntArray, phases: int) -> Float32Array:
    """(M, 2, S) probability of each phase at the next tick from each state, type and age bucket now.

    Args:
        model: Steps of types, states and age buckets.
        of_state: (K, 2, B) phase of each type, state and age bucket.
        phases: Number of phases M.
    """
    types, _, buckets = model.hazard.shape
    member = (of_state.ravel()[:, None] == np.arange(phases)).astype(np.float64)
    ahead = (chain_of(model) @ member).reshape(types, 2, buckets, phases)
    return np.ascontiguousarray(ahead.transpose(3, 1, 0, 2), np.float32).reshape(phases, 2, types * buckets)


@njit(inline="always")
def _dot(a: Float32Array, b: Float32Array) -> np.float32:
    """Sum of products, in whatever order is fastest."""
    total = np.float32(0.0)
    for s in range(a.shape[0]):
        total += a[s] * b[s]
    return total


@njit(inline="always")
def _mass(weight: Float32Array, i: int, p: int, state: int) -> np.float32:
    total = np.float32(0.0)
    for s in range(weight.shape[3]):
        total += weight[i, p, state, s]
    return total


@njit(inline="always")
def _clear(weight: Float32Array, i: int, p: int, state: int) -> None:
    for s in range(weight.shape[3]):
        weight[i, p, state, s] = 0.0


@njit(inline="always")
def _step_half(
    before: Float32Array,  # (N, P, 2, S)
    i: int,
    p: int,
    known: int,
    state: int,
    stay: Float32Array,
    older: Float32Array,
    ends: Float32Array,
    types: int,
    after: Float32Array,  # (N, P, 2, S)
) -> np.float32:
    """Write the half of the belief that is in `state` a tick later, types as before; returns its sum."""
    size = after.shape[3]
    buckets = size // types
    total = np.float32(0.0)
    if known == 1 - state:
        _clear(after, i, p, state)
    else:
        after[i, p, state, 0] = stay[state, 0] * before[i, p, state, 0]
        total += after[i, p, state, 0]
        for s in range(size - 1):
            run = (
                stay[state, s + 1] * before[i, p, state, s + 1] + older[state, s + 1] * before[i, p, state, s]
            )
            after[i, p, state, s + 1] = run
            total += run
    if known != state:
        for k in range(types):
            begun = np.float32(0.0)
            for b in range(buckets):
                at = k * buckets + b
                begun += before[i, p, 1 - state, at] * ends[1 - state, at]
            after[i, p, state, k * buckets] += begun
            total += begun
    return total


@njit(inline="always")
def _draw_types(
    weight: Float32Array,  # (N, P, 2, S)
    i: int,
    p: int,
    state: int,
    scale: np.float32,
    prior: Float32Array,
    drift: np.float32,
    drawn: Float32Array,  # (B,) scratch
) -> None:
    """A zone that draws a new type keeps its run; everything times `scale`."""
    buckets = drawn.shape[0]
    for b in range(buckets):
        drawn[b] = weight[i, p, state, b]
    for k in range(1, prior.shape[0]):
        for b in range(buckets):
            drawn[b] += weight[i, p, state, k * buckets + b]
    keeps = scale * (np.float32(1.0) - drift)
    for k in range(prior.shape[0]):
        draws = scale * drift * prior[k]
        for b in range(buckets):
            at = k * buckets + b
            weight[i, p, state, at] = keeps * weight[i, p, state, at] + draws * drawn[b]


@njit(inline="always")
def _answer(available: bool, age: int, placement: int, p: int) -> int:
    """What is known of the tick before: the job now holds the pool, or was told."""
    if placement == p + 2:
        return 1
    if age == 1:
        return 1 if available else 0
    return UNKNOWN


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def fold_pools(
    available: BoolArray,  # (N, P)
    age: IntArray,  # (N, P)
    placement: IntArray,  # (N,)
    begun: BoolArray,  # (N,)
    known: Int8Array,  # (N, P)
    weight: Float32Array,  # (N, P, 2, S)
    start: Float32Array,
    stay: Float32Array,
    older: Float32Array,
    ends: Float32Array,
    prior: Float32Array,
    drift: np.float32,
    known_after: Int8Array,  # (N, P)
    after: Float32Array,  # (N, P, 2, S)
) -> None:
    """Write the beliefs after one more look: what is known of each pool, and how many ticks ago.

    A job that has not begun starts from the stationary distribution. An answer from the tick before (a launch
    that failed, or the one that the job now holds) is taken in before time moves on. Of a pool that does what
    the model holds impossible nothing but its state is known.
    """
    types = prior.shape[0]
    drawn = np.empty(start.shape[1] // types, np.float32)
    still = np.float32(0.0)
    for i in range(available.shape[0]):
        for p in range(available.shape[1]):
            was, scale = int(known[i, p]), np.float32(1.0)
            seen = UNKNOWN
            if age[i, p] == 0:
                seen = 1 if available[i, p] else 0
            if begun[i] and was == UNKNOWN:
                answer = _answer(available[i, p], age[i, p], placement[i], p)
                total = _mass(weight, i, p, answer) if answer != UNKNOWN else np.float32(0.0)
                if total > IMPOSSIBLE:
                    was, scale = answer, np.float32(1.0) / total
            total = np.float32(0.0)
            for state in range(2):
                if seen == 1 - state:
                    _clear(after, i, p, state)
                elif begun[i]:
                    total = _step_half(weight, i, p, was, state, stay, older, ends, types, after)
                else:
                    after[i, p, state] = start[state]
                    total = _mass(after, i, p, state)
            if seen != UNKNOWN:
                if total <= IMPOSSIBLE:
                    after[i, p, seen] = start[seen]
                    total = _mass(after, i, p, seen)
                scale = np.float32(1.0) / total
            known_after[i, p] = seen
            for state in range(2):
                if seen != 1 - state:
                    _draw_types(after, i, p, state, scale, prior, drift if begun[i] else still, drawn)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def write_odds(
    known: Int8Array,  # (N, P)
    belief: Float32Array,  # (N, P, 2, S)
    ahead: Float32Array,  # (M, 2, S)
    pool: IntArray,  # (N, Q)
    odds: FloatArray,  # (N, Q, 2, M)
) -> None:
    """Write the probability of each state now with each phase at the next tick, for Q pools of each job."""
    for i in range(pool.shape[0]):
        for q in range(pool.shape[1]):
            p = pool[i, q]
            for state in range(2):
                for m in range(ahead.shape[0]):
                    if known[i, p] == 1 - state:
                        odds[i, q, state, m] = 0.0
                    else:
                        odds[i, q, state, m] = _dot(ahead[m, state], belief[i, p, state])


@njit(cache=True, nogil=True)
def shortlist(
    placement: IntArray,
    known: Int8Array,  # (N, P)
    belief: Float32Array,  # (N, P, 2, S)
    ratio: FloatArray,  # (N, P)
    outlook: Float32Array,  # (2, S)
    pool: IntArray,  # (N, Q)
    place: IntArray,
) -> None:
    """Write Q of the P pools, in their order, and the placement among them.

    The held pool is one of them; the others are those whose hours to come would cost least, with on-demand
    for the time without spot.
    """
    pools, wanted = ratio.shape[1], pool.shape[1]
    price = np.empty(pools)
    chosen = np.empty(pools, np.bool_)
    for i in range(placement.shape[0]):
        for p in range(pools):
            share = np.float32(0.0)
            for state in range(2):
                if known[i, p] != 1 - state:
                    share += _dot(outlook[state], belief[i, p, state])
            price[p] = 1.0 - share * (1.0 - ratio[i, p])
            if placement[i] == p + 2:
                price[p] = -1.0
        chosen[:] = False
        for _ in range(wanted):
            best = -1
            for p in range(pools):
                if not chosen[p] and (best < 0 or price[p] < price[best]):
                    best = p
            chosen[best] = True
        place[i] = min(placement[i], 1)
        q = 0
        for p in range(pools):
            if chosen[p]:
                pool[i, q] = p
                if placement[i] == p + 2:
                    place[i] = q + 2
                q += 1
