"""Services: so many instances needed at every tick, with an availability target."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from simulator.deadline.observation import IntArray
from simulator.errors import InputError

HIGHEST_DEMAND = 1_000_000
LONGEST_COLD_START_TICKS = 60
LONGEST_MINIMUM_TICKS = 240


@dataclass(frozen=True, eq=False)
class Service:
    """A demand for instances at every tick. Immutable.

    Attributes:
        demand: (T,) int64 instances needed at each tick, 0 or more.
        tick_seconds: Length of a tick.
        availability_target: Share of ticks at which all of the demand should be ready, more than 0 and
            less than 1: nobody can promise every tick.
        cold_start_seconds: Time a new instance is paid for before it is ready.
        committed: Instances of on-demand capacity that are paid for whether they are used or not.
        minimum_billed_seconds: Time that each launched instance is billed for at least, even if it is given
            up or taken back sooner; 0 for the time it was held.

    Raises:
        InputError: A value is out of range.
    """

    demand: IntArray
    tick_seconds: int
    availability_target: float = 0.99
    cold_start_seconds: float = 0.0
    committed: int = 0
    cold_start_ticks: int = field(init=False)
    minimum_billed_seconds: float = 0.0

    @classmethod
    def of(
        cls,
        demand: ArrayLike,
        *,
        tick_seconds: int,
        ticks: int | None = None,
        availability_target: float = 0.99,
        cold_start_seconds: float = 0.0,
        committed: int = 0,
        minimum_billed_seconds: float = 0.0,
    ) -> Service:
        """Make a service from a number (with `ticks`) or a series.

        Raises:
            InputError: See the class; a number needs `ticks`.
        """
        series = np.asarray(demand)
        if series.ndim == 0:
            if ticks is None:
                raise InputError("demand is one number; accepted: with it the number of ticks, or a series")
            series = np.full(ticks, series)
        return cls(
            _whole(series),
            tick_seconds,
            availability_target,
            cold_start_seconds,
            committed,
            minimum_billed_seconds=minimum_billed_seconds,
        )

    def __post_init__(self) -> None:
        """Check every range and freeze the series."""
        demand = np.array(_whole(self.demand))
        demand.flags.writeable = False
        object.__setattr__(self, "demand", demand)
        if self.tick_seconds < 1 or self.tick_seconds != int(self.tick_seconds):
            raise InputError(f"tick of {self.tick_seconds} s; accepted: a positive whole number of seconds")
        if not 0.0 < self.availability_target < 1.0:
            raise InputError(
                f"availability target of {self.availability_target:g}; accepted: more than 0 and less "
                "than 1, such as 0.995; no target of 1 can be promised on capacity that may be taken back"
            )
        if not math.isfinite(self.cold_start_seconds) or self.cold_start_seconds < 0.0:
            raise InputError(f"cold start of {self.cold_start_seconds} s; accepted: finite, 0 or more")
        ticks = math.ceil(self.cold_start_seconds / self.tick_seconds - 1e-9)
        if ticks > LONGEST_COLD_START_TICKS:
            raise InputError(
                f"cold start of {self.cold_start_seconds:g} s is {ticks} ticks of {self.tick_seconds} s; "
                f"accepted: at most {LONGEST_COLD_START_TICKS} ticks"
            )
        if self.committed < 0 or self.committed != int(self.committed):
            raise InputError(f"{self.committed} committed instances; accepted: 0, 1, 2, ...")
        longest = LONGEST_MINIMUM_TICKS * self.tick_seconds
        if not 0.0 <= self.minimum_billed_seconds <= longest:
            raise InputError(
                f"minimum bill of {self.minimum_billed_seconds:g} s per launch; accepted: 0 to {longest} s "
                f"({LONGEST_MINIMUM_TICKS} ticks)"
            )
        object.__setattr__(self, "cold_start_ticks", ticks)

    @property
    def ticks(self) -> int:
        """Number of ticks T."""
        return int(self.demand.shape[0])


def _whole(values: ArrayLike) -> IntArray:
    series = np.asarray(values)
    if series.ndim != 1 or series.size == 0:
        raise InputError(f"demand of shape {series.shape}; accepted: one value per tick, at least one")
    if series.dtype.kind not in "iuf":
        raise InputError(f"demand of type {series.dtype}; accepted: numbers")
    bad = ~np.isfinite(series) | (series < 0) | (series > HIGHEST_DEMAND) | (series != np.floor(series))
    if bad.any():
        tick = int(np.argmax(bad))
        raise InputError(
            f"demand at tick {tick} is {series[tick]}; accepted: whole numbers from 0 to {HIGHEST_DEMAND:,}; "
            "fill gaps first"
        )
    return series.astype(np.int64)
