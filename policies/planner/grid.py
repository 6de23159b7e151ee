"""Where the planner's tables have entries: slack in minutes, time left in ticks."""

from __future__ import annotations

import numpy as np

from simulator.deadline.observation import FloatArray, IntArray

COARSE_MINUTES = 10.0
"""Steps beyond the fine part grow from this, or from the tick if that is longer."""
FINE_POINTS = 44
"""At most about this many entries in the fine part near the shield's limits."""
LEAST_STEP_MINUTES = 0.5
"""Slack is not told apart any finer."""
GROWTH = 1.2
"""Ratio of neighbouring entries far from the limits."""


def slack_grid(tick_minutes: float, overhead_minutes: float, most_minutes: float) -> FloatArray:
    """Entries along slack, minutes, increasing from 0 to at least `most_minutes`.

    Steps are a fifth of a tick (2 minutes of 10) up to where the shield limits the choice, then 0.4, 2 and
    4 ticks, then 20 % of the slack. Coarser steps near the limit cost a percentage point of the saving. The
    entries do not depend on `most_minutes` but for how many there are, so that tables of different extent
    agree where they overlap.

    Returns:
        (S,) minutes, S >= 3.
    """
    coarse = max(tick_minutes, COARSE_MINUTES)
    limits = max(6 * tick_minutes, 2 * overhead_minutes + 3 * tick_minutes)
    entries = [0.0]
    while entries[-1] < most_minutes or len(entries) < 3:
        at = entries[-1]
        if at < limits:
            step = max(tick_minutes / 5, limits / FINE_POINTS, LEAST_STEP_MINUTES)
        elif at < 24 * coarse:
            step = 0.4 * coarse
        elif at < 60 * coarse:
            step = 2 * coarse
        elif at < 132 * coarse:
            step = 4 * coarse
        else:
            step = (GROWTH - 1) * at
        entries.append(at + step)
    return np.array(entries)


def with_due_time(
    grid: FloatArray, tick_minutes: float, overhead_minutes: float, most_minutes: float, late_minutes: float
) -> FloatArray:
    """The entries of a slack grid, and around a due time `late_minutes` before the deadline more.

    They are as fine there as around the deadline, on both sides.
    """
    if late_minutes >= most_minutes:
        return grid
    ahead = slack_grid(tick_minutes, overhead_minutes, most_minutes - late_minutes)
    behind = late_minutes - ahead[ahead <= min(3.0 * (tick_minutes + overhead_minutes), late_minutes)]
    return np.unique(np.round(np.concatenate([grid, late_minutes + ahead, behind]), 6))


def time_levels(ticks: int) -> IntArray:
    """Entries along time left, ticks, increasing from 0 to at least `ticks`; every tick near the deadline.

    Steps grow with the time left: to a 32nd of it, beyond 448 ticks (three days of ten minutes) to a fifth,
    beyond 4480 to a half. The cost-to-go at a given slack is nearly linear in it. Which entries there are
    does not depend on `ticks`.
    """
    levels = [0]
    while levels[-1] < ticks:
        part = 32 if levels[-1] < 448 else 5 if levels[-1] < 4480 else 2
        levels.append(levels[-1] + max(1, levels[-1] // part))
    return np.array(levels, dtype=np.int64)
