"""The shield's rule, compiled: which actions keep every deadline that can still be kept."""

from __future__ import annotations

from numba import njit

from simulator.deadline.kernel import B1, F8, I8

EPSILON_SECONDS = 1e-7
"""Slack short of a threshold by less than this is taken to be rounding. It must stay below the kernel's
`EPSILON_SECONDS`, so that what is given here and the rounding to come together still count as done."""


@njit(cache=True, nogil=True)
def write_legal(
    rows: I8,
    tick_seconds: float,
    work_left: F8,
    time_left: F8,
    placement: I8,
    unsaved: F8,
    restart_overhead: F8,
    checkpoint_interval: F8,
    available: B1,  # (N, P)
    legal: B1,  # (N, P + 2)
) -> None:
    """Write the legal actions of jobs `rows` into their rows of `legal`.

    With slack = time left - work left, restart overhead d and tick g: running spot is held only if
    slack >= d + g, spot is launched only if slack >= 2d + g, a job idles only if slack >= d + g, and
    on-demand is always legal. Work that an interruption could take back counts as lost for spot.
    """
    for i in rows:
        slack = time_left[i] - work_left[i] + EPSILON_SECONDS
        at_risk = min(unsaved[i] + tick_seconds, checkpoint_interval[i])
        to_hold = restart_overhead[i] + tick_seconds
        legal[i, 0] = slack >= to_hold
        legal[i, 1] = True
        may_hold = slack - at_risk >= to_hold
        may_launch = slack - at_risk >= restart_overhead[i] + to_hold
        for p in range(available.shape[1]):
            legal[i, p + 2] = available[i, p] and (may_hold if placement[i] == p + 2 else may_launch)
