"""What a job remembers of the availability of its pools: run lengths, averages and hazards.

Time is physical: horizons and hazards are per hour, so that one network serves every tick length.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from simulator.deadline.kernel import B1, F8

SEEN, UP, AGE, PREVIOUS_AGE, BEFORE_PREVIOUS_AGE = range(5)
"""Columns: whether anything was seen; available at the last look; ticks of this run and the two before."""
AVERAGE = 5
"""First of the columns with exponentially weighted availability, one per horizon."""
ENDS = 9
"""Runs that ended: down runs, up runs."""
EXPECTED_ENDS = 11
"""Ends that the base hazards predicted: of down runs, of up runs."""
COLUMNS = 13

HORIZON_HOURS = np.array([1.0, 4.0, 12.0, 50.0])
"""Horizons of the averages: 6, 24, 72 and 300 ticks of ten minutes."""
PRIOR_AVAILABILITY = 0.63
"""Where every average begins: mean availability of the six 2023 training zones."""
PRIOR_ENDS = 3.0
"""Weight of the base hazards against a job's own observations, in ended runs."""
BUCKET_MINUTES = np.array([20.0, 40.0, 80.0, 200.0, 600.0])
"""Upper edges of the age buckets of a run; the last bucket is open."""
BASE_RATE_PER_HOUR = np.array(
    [
        [2.12, 1.34, 0.65, 0.32, 0.24, 0.107],
        [2.07, 1.14, 0.68, 0.30, 0.151, 0.046],
    ]
)
"""Rate at which a down run (row 0) and an up run (row 1) ends, by age bucket; six 2023 training zones."""


@njit(cache=True, nogil=True)
def base_rate(state: int, age_minutes: float) -> float:
    """Rate per hour at which a run of this state and age ends, before anything was observed."""
    bucket = 0
    while bucket < BUCKET_MINUTES.shape[0] and age_minutes >= BUCKET_MINUTES[bucket]:
        bucket += 1
    return float(BASE_RATE_PER_HOUR[state, bucket])


@njit(cache=True, nogil=True)
def fading(tick_seconds: float) -> F8:
    """(4,) weight that the past keeps over one tick, per horizon."""
    return np.exp(-tick_seconds / 3600.0 / HORIZON_HOURS)


@njit(cache=True, nogil=True)
def fold_row(
    i: int,
    tick_seconds: float,
    keep: F8,
    available: B1,  # (N, P)
    history: F8,  # (N, P, COLUMNS)
) -> None:
    """Take what job i sees now into its history."""
    for p in range(available.shape[1]):
        h = history[i, p]
        now = 1 if available[i, p] else 0
        if h[SEEN] == 0.0:
            h[SEEN] = 1.0
            h[UP] = now
            h[AGE] = 1.0
            for k in range(keep.shape[0]):
                h[AVERAGE + k] = PRIOR_AVAILABILITY
        else:
            before = int(h[UP])
            rate = base_rate(before, h[AGE] * tick_seconds / 60.0)
            h[EXPECTED_ENDS + before] += 1.0 - math.exp(-rate * tick_seconds / 3600.0)
            if now == before:
                h[AGE] += 1.0
            else:
                h[ENDS + before] += 1.0
                h[BEFORE_PREVIOUS_AGE] = h[PREVIOUS_AGE]
                h[PREVIOUS_AGE] = h[AGE]
                h[AGE] = 1.0
                h[UP] = now
        for k in range(keep.shape[0]):
            h[AVERAGE + k] = keep[k] * h[AVERAGE + k] + (1.0 - keep[k]) * now


@njit(cache=True, nogil=True)
def fold_all(tick_seconds: float, available: B1, history: F8) -> None:
    """Take what all jobs see now into their histories."""
    keep = fading(tick_seconds)
    for i in range(available.shape[0]):
        fold_row(i, tick_seconds, keep, available, history)


@njit(cache=True, nogil=True)
def hazard_factor(h: F8, state: int) -> float:
    """How much faster than the base rate runs of this state end here; 1.0 before any evidence."""
    return float((h[ENDS + state] + PRIOR_ENDS) / (h[EXPECTED_ENDS + state] + PRIOR_ENDS))
