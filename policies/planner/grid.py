"""Where the planner's tables have entries: slack in minutes, time left in ticks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.deadline.observation import FloatArray, IntArray

COARSE_MINUTES = 10.0
"""Steps beyond the fine part grow from this, or from the tick if that is longer."""
FINE_POINTS = 44
"""At most about this many entries in the fine part near the shield's limits."""
LEAST_STEP_MINUTES = 0.5
"""Slack is not told apart any finer."""


@dataclass(frozen=True, slots=True)
class Spacing:
    """How far apart entries are where it matters little.

    Attributes:
        slack_steps: Steps beyond the fine part, to 24, 60 and 132 coarse steps of slack, in coarse steps.
        slack_growth: Ratio of neighbouring entries of slack beyond that.
        time_parts: A step along time left is this part of it: to 448 ticks (three days of ten minutes), to
            4480, beyond.
    """

    slack_steps: tuple[float, float, float] = (0.4, 2.0, 4.0)
    slack_growth: float = 1.2
    time_parts: tuple[int, int, int] = (32, 5, 2)


CLOSE = Spacing()
WIDE = Spacing((0.4, 3.0, 8.0), 1.6, (6, 2, 1))
"""Takes a quarter of the memory, and costs about 0.1 points of the way to the optimum."""


def slack_grid(
    tick_minutes: float, overhead_minutes: float, most_minutes: float, spacing: Spacing = CLOSE
) -> FloatArray:
    """Entries along slack, minutes, increasing from 0 to at least `most_minutes`.

    Steps are a fifth of a tick (2 minutes of 10) up to where the shield limits the choice, then as `spacing`
    says. Coarser steps near the limit cost a percentage point of the saving. The
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
            step = spacing.slack_steps[0] * coarse
        elif at < 60 * coarse:
            step = spacing.slack_steps[1] * coarse
        elif at < 132 * coarse:
            step = spacing.slack_steps[2] * coarse
        else:
            step = (spacing.slack_growth - 1.0) * at
        entries.append(at + step)
    return np.array(entries)


def with_due_time(
    grid: FloatArray,
    tick_minutes: float,
    overhead_minutes: float,
    most_minutes: float,
    late_minutes: float,
    spacing: Spacing = CLOSE,
) -> FloatArray:
    """The entries of a slack grid, and around a due time `late_minutes` before the deadline more.

    They are as fine there as around the deadline, on both sides.
    """
    if late_minutes >= most_minutes:
        return grid
    ahead = slack_grid(tick_minutes, overhead_minutes, most_minutes - late_minutes, spacing)
    behind = late_minutes - ahead[ahead <= min(3.0 * (tick_minutes + overhead_minutes), late_minutes)]
    return np.unique(np.round(np.concatenate([grid, late_minutes + ahead, behind]), 6))


def time_levels(ticks: int, spacing: Spacing = CLOSE) -> IntArray:
    """Entries along time left, ticks, increasing from 0 to at least `ticks`; every tick near the deadline.

    Steps grow with the time left, as `spacing` says: the cost-to-go at a given slack is nearly linear in it.
    Which entries there are does not depend on `ticks`.
    """
    levels = [0]
    while levels[-1] < ticks:
        part = spacing.time_parts[(levels[-1] >= 448) + (levels[-1] >= 4480)]
        levels.append(levels[-1] + max(1, levels[-1] // part))
    return np.array(levels, dtype=np.int64)
