"""The availability dial: an error budget over a rolling window, spent evenly.

An availability target of 99.5 % over a week allows 0.5 % of its ticks to be short: the budget. What was spent
leaves it as the window rolls on. The cold start after a rise from zero spends nothing (`growth`). The rate
that may be spent next is what the budget leaves; it never exceeds the pace of the target by much, so that the
first days do not spend a week's budget.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SLOTS = 64
"""Parts into which the rolling window is divided."""
LOWEST_SHARE, HIGHEST_SHARE = 1.0 / 64.0, 1.5
"""Bounds of the rate that may be spent, as shares of the target's pace."""


class Rolling(NamedTuple):
    """The rolling window.

    Attributes:
        slot_ticks: Ticks in one of its `SLOTS` parts.
        margin: Shortages that are kept back.
    """

    slot_ticks: float
    margin: float


@njit(cache=True, nogil=True)
def spend(
    slot_ticks: float,
    elapsed: IntArray,
    short: NDArray[np.bool_],
    spent: FloatArray,  # (N, SLOTS): ticks that were short, a ring over the rolling window
) -> None:
    """Enter whether the last tick was short, (N,)."""
    slots = spent.shape[1]
    for i in range(elapsed.shape[0]):
        if elapsed[i] == 0:
            spent[i, :] = 0.0
            continue
        now = int(elapsed[i] // slot_ticks)
        if now != int((elapsed[i] - 1) // slot_ticks):
            spent[i, now % slots] = 0.0
        if short[i]:
            spent[i, now % slots] += 1.0


@njit(cache=True, nogil=True)
def allowance(
    window: Rolling,
    elapsed: IntArray,
    pace: FloatArray,
    shortage: FloatArray,  # (N,): ticks that one shortage lasts
    spent: FloatArray,
    rate: FloatArray,
) -> None:
    """Write the share of coming ticks that may be short, within the bounds above; arrays are (N,).

    For the next eighth, quarter, half and whole of the window: what is left when all that is then still
        inside
    it is taken off, and `margin` shortages more; the lowest of these rates counts.
    """
    slots, slot_ticks = spent.shape[1], window.slot_ticks
    for i in range(elapsed.shape[0]):
        now = int(elapsed[i] // slot_ticks)
        budget = pace[i] * slot_ticks * slots
        left = budget - window.margin * min(shortage[i], budget / 2.0)
        share = HIGHEST_SHARE
        for k in range(slots):
            ahead = slots - k
            if ahead == slots or ahead == slots // 2 or ahead == slots // 4 or ahead == slots // 8:
                share = min(share, left / (pace[i] * slot_ticks * ahead))
            left -= spent[i, (now - k) % slots]
        rate[i] = pace[i] * min(max(share, LOWEST_SHARE), HIGHEST_SHARE)
