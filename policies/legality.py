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
        legal[i, 0], may_hold, may_launch = limits(
            tick_seconds, work_left[i], time_left[i], unsaved[i], restart_overhead[i], checkpoint_interval[i]
        )
        legal[i, 1] = True
        for p in range(available.shape[1]):
            legal[i, p + 2] = available[i, p] and (may_hold if placement[i] == p + 2 else may_launch)


@njit(cache=True, nogil=True)
def write_safe(
    asked: I8,
    tick_seconds: float,
    work_left: F8,
    time_left: F8,
    placement: I8,
    unsaved: F8,
    restart_overhead: F8,
    checkpoint_interval: F8,
    available: B1,  # (N, P)
    safe: I8,
) -> None:
    """Write the asked action of each job, or what takes its place where it is not legal.

    Spot in a pool without capacity becomes idling where that is legal; everything else that is not
    legal, or not an action, becomes on-demand.
    """
    for i in range(asked.shape[0]):
        choice = asked[i]
        safe[i] = 1
        if choice < 0 or choice >= available.shape[1] + 2 or choice == 1:
            continue
        may_idle, may_hold, may_launch = limits(
            tick_seconds, work_left[i], time_left[i], unsaved[i], restart_overhead[i], checkpoint_interval[i]
        )
        if choice >= 2 and available[i, choice - 2]:
            if may_hold if placement[i] == choice else may_launch:
                safe[i] = choice
        elif may_idle:
            safe[i] = 0


@njit(cache=True, nogil=True)
def limits(
    tick_seconds: float,
    work_left: float,
    time_left: float,
    unsaved: float,
    restart_overhead: float,
    checkpoint_interval: float,
) -> tuple[bool, bool, bool]:
    """Whether a job may idle, hold running spot, and launch spot that is available."""
    slack = time_left - work_left + EPSILON_SECONDS
    at_risk = min(unsaved + tick_seconds, checkpoint_interval)
    to_hold = restart_overhead + tick_seconds
    may_launch = slack - at_risk >= restart_overhead + to_hold
    return slack >= to_hold, slack - at_risk >= to_hold, may_launch
