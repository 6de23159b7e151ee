"""Compiled descriptions of deadline jobs: one row of numbers per job, free of scale, within [-3, 3]."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.features.history import (
    AGE,
    AVERAGE,
    BEFORE_PREVIOUS_AGE,
    ENDS,
    PREVIOUS_AGE,
    base_rate,
    fading,
    fold_row,
    hazard_factor,
)
from policies.legality import write_legal
from simulator.deadline.kernel import B1, F8, I8

LIMIT = 3.0
"""Every feature is clipped to [-LIMIT, LIMIT]."""


@njit(cache=True, nogil=True)
def choose_pool(i: int, placement: I8, available: B1, spot_price: F8) -> int:
    """Pool that "spot" means for job i: the held one, else the cheapest available, else the cheapest."""
    if placement[i] >= 2:
        return int(placement[i]) - 2
    best = 0
    for p in range(1, available.shape[1]):
        better = available[i, p] and not available[i, best]
        if better or (available[i, p] == available[i, best] and spot_price[i, p] < spot_price[i, best]):
            best = p
    return best


@njit(cache=True, nogil=True)
def _log(x: float) -> float:
    return math.log(1.0 + max(x, 0.0))


@njit(cache=True, nogil=True)
def _share(part: float, rest: float) -> float:
    """Share `part / (part + rest)` of two amounts that are not negative; 0 when both are 0."""
    total = part + rest
    return part / total if total > 0.0 else 0.0


@njit(cache=True, nogil=True)
def _margin(ticks: float) -> float:
    return min(max(ticks, -LIMIT), LIMIT)


@njit(cache=True, nogil=True)
def look_simple(
    rows: I8,
    fold: bool,
    tick: float,
    work_left: F8,
    time_left: F8,
    work_total: F8,
    time_total: F8,
    placement: I8,
    pending: F8,
    unsaved: F8,
    overhead: F8,
    checkpoint: F8,
    available: B1,
    spot_price: F8,
    on_demand_price: F8,
    history: F8,
    out: NDArray[np.float32],
    legal: B1,
    chosen: I8,
) -> None:
    """Write the rows of `deadline-simple`: nothing is remembered and no logarithm taken."""
    write_legal(rows, tick, work_left, time_left, placement, unsaved, overhead, checkpoint, available, legal)
    for i in rows:
        pool = choose_pool(i, placement, available, spot_price)
        chosen[i] = pool
        slack = time_left[i] - work_left[i]
        d = overhead[i]
        f = out[i]
        f[0] = _share(max(slack, 0.0), work_left[i])
        f[1] = _share(max(slack, 0.0), 4.0 * tick)
        f[2] = _share(max(slack, 0.0), 4.0 * (d + tick))
        f[3] = _margin((slack - d - tick) / tick)
        f[4] = _margin((slack - 2.0 * d - tick) / tick)
        f[5] = work_left[i] / work_total[i]
        f[6] = time_left[i] / time_total[i]
        f[7] = _share(d, tick)
        f[8] = _share(d, work_left[i])
        f[9] = min(spot_price[i, pool] / on_demand_price[i], LIMIT)
        f[10] = 1.0 if placement[i] == 1 else 0.0
        f[11] = 1.0 if placement[i] >= 2 else 0.0
        f[12] = _share(pending[i], tick)
        f[13] = 1.0 if available[i, pool] else 0.0
        f[14] = 1.0 if legal[i, 0] else 0.0
        f[15] = 1.0 if legal[i, pool + 2] else 0.0


SIMPLE_NAMES = (
    "slack_share_of_time_left",
    "slack_share_near_tick",
    "slack_share_near_launch",
    "hold_margin_ticks",
    "launch_margin_ticks",
    "work_left_share",
    "time_left_share",
    "overhead_share_of_tick",
    "overhead_share_of_work_left",
    "price_ratio",
    "on_demand_now",
    "spot_now",
    "pending_share_of_tick",
    "spot_available",
    "idle_legal",
    "spot_legal",
)
"""What the columns of `look_simple` are."""


@njit(cache=True, nogil=True)
def look_rich(
    rows: I8,
    fold: bool,
    tick: float,
    work_left: F8,
    time_left: F8,
    work_total: F8,
    time_total: F8,
    placement: I8,
    pending: F8,
    unsaved: F8,
    overhead: F8,
    checkpoint: F8,
    available: B1,
    spot_price: F8,
    on_demand_price: F8,
    history: F8,
    out: NDArray[np.float32],
    legal: B1,
    chosen: I8,
) -> None:
    """Write the rows of `deadline-rich`; with `fold`, what is seen now is first taken into `history`."""
    write_legal(rows, tick, work_left, time_left, placement, unsaved, overhead, checkpoint, available, legal)
    keep = fading(tick)
    for i in rows:
        if fold:
            fold_row(i, tick, keep, available, history)
        pool = choose_pool(i, placement, available, spot_price)
        chosen[i] = pool
        _describe_time(
            out[i],
            tick,
            work_left[i],
            max(time_left[i], 0.0),
            work_total[i],
            time_total[i],
            overhead[i],
            min(unsaved[i] + tick, checkpoint[i]),
        )
        _describe_place(
            out[i],
            tick,
            overhead[i],
            pending[i],
            placement[i],
            spot_price[i, pool] / on_demand_price[i],
        )
        _describe_history(out[i], tick, available[i, pool], history[i, pool])
        out[i, RICH_LEGAL] = 1.0 if legal[i, 0] else 0.0
        out[i, RICH_LEGAL + 1] = 1.0 if legal[i, pool + 2] else 0.0
        for k in range(out.shape[1]):
            out[i, k] = min(max(out[i, k], -LIMIT), LIMIT)


RICH_TIME_NAMES = (
    "slack_ticks",
    "slack_share_near_tick",
    "slack_of_work_left",
    "slack_share_of_time_left",
    "slack_share_of_first",
    "slack_launches",
    "hold_margin_ticks",
    "hold_margin_wide",
    "launch_margin_ticks",
    "launch_margin_wide",
    "idle_margin_ticks",
    "launches_left",
    "work_left_ticks",
    "work_left_share",
    "time_left_ticks",
    "time_left_share",
    "ahead_of_uniform_progress",
    "elapsed_ticks",
    "overhead_ticks",
    "overhead_share_of_slack",
    "overhead_share_of_work_left",
)
_PLACE = 21
RICH_PLACE_NAMES = (
    "price_ratio",
    "price_ratio_log",
    "launch_pays_after_ticks",
    "idle_now",
    "on_demand_now",
    "spot_now",
    "pending_ticks",
    "pending_share_of_overhead",
)
_HISTORY = 29
RICH_HISTORY_NAMES = (
    "spot_available",
    "age_ticks",
    "age_hours",
    "previous_age_ticks",
    "previous_age_hours",
    "before_previous_age_ticks",
    "before_previous_age_hours",
    "availability_1h",
    "availability_4h",
    "availability_12h",
    "availability_50h",
    "up_hazard_factor",
    "down_hazard_factor",
    "hazard_now",
    "transitions",
)
RICH_LEGAL = 44
RICH_NAMES = (*RICH_TIME_NAMES, *RICH_PLACE_NAMES, *RICH_HISTORY_NAMES, "idle_legal", "spot_legal")
"""What the columns of `look_rich` are."""


@njit(cache=True, nogil=True)
def _describe_time(
    f: NDArray[np.float32],
    tick: float,
    work_left: float,
    time_left: float,
    work_total: float,
    time_total: float,
    d: float,
    at_risk: float,
) -> None:
    slack = time_left - work_left
    spare = max(slack, 0.0)
    hold = (slack - at_risk - d - tick) / tick
    launch = hold - d / tick
    f[0] = _log(slack / tick) / 3.0
    f[1] = _share(spare, 4.0 * tick)
    f[2] = _log(spare / work_left) if work_left > 0.0 else LIMIT
    f[3] = _share(spare, work_left)
    f[4] = _share(spare, max(time_total - work_total - spare, 0.0))
    f[5] = _log(slack / (d + tick)) / 2.0
    f[6] = _margin(hold)
    f[7] = hold / 8.0
    f[8] = _margin(launch)
    f[9] = launch / 8.0
    f[10] = _margin((slack - d - tick) / tick)
    f[11] = _log(launch * tick / (d + 0.25 * tick)) / 2.0
    f[12] = _log(work_left / tick) / 3.0
    f[13] = work_left / work_total
    f[14] = _log(time_left / tick) / 3.0
    f[15] = time_left / time_total
    f[16] = 3.0 * (time_left / time_total - work_left / work_total)
    f[17] = _log((time_total - time_left) / tick) / 3.0
    f[18] = _log(d / tick)
    f[19] = _share(d, spare)
    f[20] = _share(d, work_left)


@njit(cache=True, nogil=True)
def _describe_place(
    f: NDArray[np.float32], tick: float, d: float, pending: float, placement: int, ratio: float
) -> None:
    f[_PLACE] = ratio
    f[_PLACE + 1] = math.log(max(ratio, 0.05))
    f[_PLACE + 2] = _log(ratio * d / tick / max(1.0 - ratio, 0.02)) / 2.0
    f[_PLACE + 3] = 1.0 if placement == 0 else 0.0
    f[_PLACE + 4] = 1.0 if placement == 1 else 0.0
    f[_PLACE + 5] = 1.0 if placement >= 2 else 0.0
    f[_PLACE + 6] = _log(pending / tick)
    f[_PLACE + 7] = _share(pending, max(d - pending, 0.0))


@njit(cache=True, nogil=True)
def _describe_history(f: NDArray[np.float32], tick: float, up: bool, h: F8) -> None:
    hours = tick / 3600.0
    f[_HISTORY] = 1.0 if up else -1.0
    for k, column in enumerate((AGE, PREVIOUS_AGE, BEFORE_PREVIOUS_AGE)):
        f[_HISTORY + 1 + 2 * k] = _log(h[column]) / 3.0
        f[_HISTORY + 2 + 2 * k] = _log(h[column] * hours) / 2.0
    for k in range(4):
        f[_HISTORY + 7 + k] = 2.0 * h[AVERAGE + k] - 1.0
    up_factor = hazard_factor(h, 1)
    down_factor = hazard_factor(h, 0)
    f[_HISTORY + 11] = math.log(up_factor)
    f[_HISTORY + 12] = math.log(down_factor)
    state = 1 if up else 0
    rate = base_rate(state, h[AGE] * tick / 60.0) * (up_factor if up else down_factor)
    f[_HISTORY + 13] = (math.log(rate) + 1.0) / 1.5
    f[_HISTORY + 14] = _log(h[ENDS] + h[ENDS + 1]) / 2.0
