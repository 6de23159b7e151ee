"""Growing demand: when it may step up next, by how much, and how many instances to have ready for it.

The demand of a service changes on the steps of its own series. They are believed to be hours once a change
was seen, and the greatest common divisor of an hour and all distances of changes from then on. How far demand
rises over all steps that fit in a cold start is a histogram of what was seen, relative to the demand: demand
that goes up and down does not add up. Before each possible step, as many instances are started as pay: one
instance for the cold start against the chance that it is wanted.

A rise from zero is one that nothing is ready for: headroom is a share of the demand. While its cold start
lasts, nothing is owed, so that it does not count as the fault of a layout.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.service.holdings import RING

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

RISES = np.array([0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.34, 0.4, 0.5, 0.6, 0.75, 1.0, 1.5, 2.0, 3.0])
"""Upper ends of the bins, as shares of the demand; a greater rise counts as the last."""
STEPS_REMEMBERED = 400.0
"""A step counts less by a factor e after this many."""


def no_growth(services: int) -> dict[str, NDArray[np.generic]]:
    """Memory of services whose demand has not been seen to change."""
    return {
        "changed": np.full(services, -1, np.int64),
        "step": np.zeros(services, np.int64),
        "rises": np.zeros((services, len(RISES))),
        "recent": np.zeros((services, RING), np.int32),
        "nothing_owed": np.full(services, -1, np.int64),
    }


@njit(cache=True, nogil=True)
def foresee(
    elapsed: IntArray,
    demand: IntArray,
    before: IntArray,
    cold_start: IntArray,
    worth: FloatArray,
    bins: FloatArray,
    first_step: int,
    changed: IntArray,
    step: IntArray,
    rises: FloatArray,
    recent: NDArray[np.int32],
    nothing_owed: IntArray,
    headroom: IntArray,
) -> None:
    """Learn from the demand of this tick and write the headroom; arrays without a shape are (N,).

    Args:
        elapsed: Ticks since the episode began.
        demand: Of the tick that is decided.
        before: Of the tick before; not read in the first one.
        cold_start: Ticks.
        worth: What a missed step costs, in instance-ticks.
        bins: `RISES`.
        first_step: Ticks that are believed to lie between possible changes once one was seen.
        changed: Tick of the last change, -1 before any; changed in place.
        step: Ticks between possible changes, 0 while unknown; changed in place.
        rises: (N, B) histogram; changed in place.
        recent: (N, RING) demand of the last ticks, a ring; changed in place.
        nothing_owed: First tick whose demand instances could be ready for after a rise from zero; changed in
            place.
        headroom: Instances beyond the demand to hold now; written.
    """
    keep = np.exp(-1.0 / STEPS_REMEMBERED)
    for i in range(elapsed.shape[0]):
        headroom[i] = 0
        recent[i, elapsed[i] % recent.shape[1]] = demand[i]
        rise = demand[i] - before[i] if elapsed[i] > 0 else 0
        if elapsed[i] == 0:
            nothing_owed[i] = -1
        elif before[i] == 0 and rise > 0:
            nothing_owed[i] = elapsed[i] + cold_start[i]
        possible = step[i] > 0 and (elapsed[i] - changed[i]) % step[i] == 0
        if rise != 0:
            if changed[i] < 0:
                step[i] = first_step
            else:
                step[i] = _divisor(step[i], elapsed[i] - changed[i])
            changed[i] = elapsed[i]
        if rise != 0 or possible:
            share = _risen(elapsed[i], (_steps(cold_start[i], step[i]) - 1) * step[i], recent[i])
            place = min(np.searchsorted(bins, share - 1e-9), bins.shape[0] - 1)
            rises[i] *= keep
            rises[i, place] += 1.0
        if step[i] > 0:
            ahead = step[i] - (elapsed[i] - changed[i]) % step[i]
            if ahead <= cold_start[i]:
                headroom[i] = _paying(demand[i], cold_start[i] + 1, worth[i], bins, rises[i])


@njit(cache=True, nogil=True)
def _steps(cold_start: int, step: int) -> int:
    """Possible steps from the moment an instance is asked for until it is ready."""
    return int((cold_start + step) // step)


@njit(cache=True, nogil=True)
def _risen(elapsed: int, ticks: int, recent: NDArray[np.int32]) -> float:
    """Highest demand of the last `ticks` ticks and this one above that before them, as a share of it."""
    first = max(elapsed - 1 - ticks, 0)
    base = recent[first % recent.shape[0]]
    peak = base
    for tick in range(first + 1, elapsed + 1):
        peak = max(peak, recent[tick % recent.shape[0]])
    return float((peak - base) / max(base, 1))


@njit(cache=True, nogil=True)
def _divisor(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return int(a)


@njit(cache=True, nogil=True)
def _paying(demand: int, ticks: int, worth: float, bins: FloatArray, rises: FloatArray) -> int:
    """Instances that cost least, what is missed included."""
    total = rises.sum()
    tail, best, lowest = 1.0, 0, np.inf
    for place in range(bins.shape[0]):
        tail -= rises[place] / total
        more = int(np.ceil(bins[place] * demand))
        cost = more * ticks + worth * max(tail, 0.0)
        if cost < lowest - 1e-9:
            best, lowest = more, cost
    return best
