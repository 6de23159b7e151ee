"""The fake cloud's time: moved by hand in tests, or real time at some speed."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from simulator.errors import InputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def moment(ms: int) -> datetime:
    """The UTC time that is `ms` milliseconds after 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


class Clock(Protocol):
    """Where the fake cloud takes its time from."""

    def now(self) -> datetime:
        """The time, UTC."""

    def real_seconds(self, seconds: float) -> float:
        """Real seconds in which `seconds` of this clock go by; 0 where only a hand moves it."""


class ManualClock:
    """Time that stands still until it is moved."""

    def __init__(self, start: datetime) -> None:
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """The time, UTC."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the time by `seconds`; a negative number makes the clock jump back."""
        self._now += timedelta(seconds=seconds)

    def real_seconds(self, seconds: float) -> float:
        """0: waiting does not move this clock."""
        return 0.0


class ScaledClock:
    """Real time, `speed` times as fast, from `start` on."""

    def __init__(self, start: datetime, speed: float = 1.0) -> None:
        if not 0 < speed <= 1e6:
            raise InputError(f"speed {speed}; accepted: above 0, at most 1,000,000")
        self._start, self.speed, self._began = start.astimezone(UTC), speed, time.monotonic()

    def now(self) -> datetime:
        """The time, UTC."""
        return self._start + timedelta(seconds=(time.monotonic() - self._began) * self.speed)

    def real_seconds(self, seconds: float) -> float:
        """`seconds` of this clock in real seconds."""
        return seconds / self.speed
