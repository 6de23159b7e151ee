"""From samples and events to ticks: pure functions on arrays."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def sample_index(
    ticks: int, tick_seconds: int, gap_seconds: Fraction, *, offset_seconds: Fraction = Fraction(0)
) -> NDArray[np.int64]:
    """Which sample of an evenly spaced trace each tick takes: floor((offset + i · tick) / gap).

    Exact in whole numbers, so a tick on a sample's border never slips to its neighbour.

    Args:
        ticks: Number of ticks.
        tick_seconds: Seconds per tick.
        gap_seconds: Seconds between samples.
        offset_seconds: From the first sample to tick 0, 0 or more.

    Returns:
        (ticks,) indices.
    """
    scale = gap_seconds.denominator * offset_seconds.denominator
    gap = int(gap_seconds * scale)
    moments = int(offset_seconds * scale) + np.arange(ticks, dtype=np.int64) * (tick_seconds * scale)
    return np.asarray(moments // gap, dtype=np.int64)


def step_values(
    times_ms: NDArray[np.int64], values: NDArray[np.float64], moments_ms: NDArray[np.int64]
) -> NDArray[np.float64]:
    """A step function at the given moments: the last value at or before each is carried forward.

    Args:
        times_ms: (E,) increasing times of the values.
        values: (E,) values.
        moments_ms: (T,) moments, none before the first time.

    Returns:
        (T,) values.

    Raises:
        ValueError: A moment lies before the first time.
    """
    if moments_ms.size and moments_ms.min() < times_ms[0]:
        raise ValueError(f"no value is known at {moments_ms.min()}: the first is from {times_ms[0]}")
    return np.asarray(values[np.searchsorted(times_ms, moments_ms, side="right") - 1])
