"""One clock for several files: the span they share, cut into whole ticks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError
from simulator.market.readers.records import CapacityTrace

_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Span:
    """When a file has data.

    Attributes:
        file: The file and, where it holds several, the pool.
        start_ms: First moment, milliseconds since 1970 UTC.
        end_ms: Moment after the last.
    """

    file: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class Clock:
    """A grid of ticks.

    Attributes:
        start_ms: Moment at which tick 0 begins, milliseconds since 1970 UTC.
        tick_seconds: Seconds per tick.
        ticks: Number of ticks, 1 or more.
    """

    start_ms: int
    tick_seconds: int
    ticks: int

    @property
    def start(self) -> datetime:
        """UTC time at which tick 0 begins."""
        return _moment(self.start_ms)

    def moments_ms(self) -> NDArray[np.int64]:
        """(ticks,) moments at which the ticks begin."""
        return self.start_ms + np.arange(self.ticks, dtype=np.int64) * (self.tick_seconds * 1000)


def common_clock(
    spans: Sequence[Span],
    *,
    tick_seconds: int,
    start: datetime | None = None,
    end: datetime | None = None,
    align: bool = False,
) -> Clock:
    """The whole ticks inside every span, and inside [start, end] where given.

    Args:
        spans: At least one.
        tick_seconds: Seconds per tick.
        start: Begin here.
        end: End here.
        align: Begin on a whole multiple of the tick since 1970 where `start` is not given.

    Raises:
        InputError: The spans do not overlap by a tick, or `start` or `end` lies outside them.
    """
    latest = max(spans, key=lambda span: span.start_ms)
    earliest = min(spans, key=lambda span: span.end_ms)
    tick_ms = tick_seconds * 1000
    start_ms, end_ms = latest.start_ms, earliest.end_ms
    if start is None and align:
        start_ms = -(-start_ms // tick_ms) * tick_ms
    available = (
        f"{latest.file} begins at {_moment(latest.start_ms)}, {earliest.file} ends at {_moment(end_ms)}"
    )
    if latest.start_ms >= end_ms:
        raise InputError(
            f"the files share no span: {available}; accepted: files of the same time, or fewer pools "
            "(--instance-type, --zone, --region, --drop-incomplete)"
        )
    if start is not None:
        start_ms = milliseconds(start)
        if not latest.start_ms <= start_ms < end_ms:
            raise InputError(
                f"--start {start} lies outside the data: {available}; accepted: a time in between"
            )
    if end is not None:
        if not start_ms < milliseconds(end) <= end_ms:
            raise InputError(f"--end {end} lies outside the data: {available}; accepted: a time in between")
        end_ms = milliseconds(end)
    ticks = (end_ms - start_ms) // tick_ms
    if ticks < 1:
        raise InputError(
            f"less than one tick of {tick_seconds} s: {available}; "
            "accepted: a shorter --tick-seconds or more data"
        )
    return Clock(start_ms, tick_seconds, ticks)


def refuse_unequal_traces(traces: Sequence[CapacityTrace]) -> None:
    """Check that all traces have one start, and undated ones one sample gap and length.

    Where the date of the first sample is known, traces are resampled to the tick, a shorter one just ends
    earlier, and all are cut to the shortest. Without dates nobody can tell which end of it is missing.

    Raises:
        InputError: Two differ; the message names them and says how to build from them all the same.
    """
    for trace in traces[1:]:
        first = traces[0]
        for what, one, other in (
            ("ticks", f"a sample every {first.gap_seconds} s", f"a sample every {trace.gap_seconds} s"),
            ("lengths", f"{first.capacity.size} samples", f"{trace.capacity.size} samples"),
            ("starts", f"its first sample at {first.start}", f"its first sample at {trace.start}"),
        ):
            dated = first.start is not None and first.start == trace.start
            if one != other and not (dated and what != "starts"):
                raise InputError(
                    f"zones with different {what}: {first.file} has {one}, {trace.file} has {other}; "
                    "accepted: traces of one gap, length and start, or --common-span to cut them to one span"
                )


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970 UTC."""
    return round((moment - _EPOCH).total_seconds() * 1000)


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)
