"""Faults on request: what a controller has to survive, at the calls that a test names."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal

from simulator.errors import InputError

Kind = Literal["unreachable", "throttle", "error", "lost_reply", "slow_reply"]
KINDS: tuple[Kind, ...] = ("unreachable", "throttle", "error", "lost_reply", "slow_reply")


@dataclass
class Fault:
    """One fault.

    Attributes:
        kind: `unreachable` closes the connection before anything happens; `throttle` answers as AWS does
            above the request rate; `error` answers with `code` and does nothing; `lost_reply` acts and closes
            the connection; `slow_reply` acts and answers after `delay`.
        action: Action that it strikes, or `*`.
        service: Service that it strikes, or `*`.
        region: Region that it strikes, or `*`.
        skip: How many matching calls pass first.
        times: How many it strikes then; None means all.
        seconds: How long it lasts from when it is added, on the fake's clock; None means for ever.
        code: Error code of `error`.
        message: Text of `error`.
        status: HTTP status of `error`.
        delay: Real seconds of `slow_reply`.
        struck: How many calls it has struck.
    """

    kind: Kind
    action: str = "*"
    service: str = "*"
    region: str = "*"
    skip: int = 0
    times: int | None = None
    seconds: float | None = None
    code: str = "InternalError"
    message: str = "An internal error has occurred."
    status: int = 500
    delay: float = 0.0
    struck: int = 0
    _until: int | None = None

    def __post_init__(self) -> None:
        """Check the kind.

        Raises:
            InputError: There is no such kind, or a number is out of range.
        """
        if self.kind not in KINDS:
            raise InputError(f"fault of kind {self.kind!r}; accepted: {', '.join(KINDS)}")
        if self.skip < 0 or not 0 <= self.delay <= 600 or not 400 <= self.status <= 599:
            raise InputError(
                f"fault with skip {self.skip}, delay {self.delay}, status {self.status}; accepted: skip 0 or "
                "more, delay 0 to 600 s, status 400 to 599"
            )


class Faults:
    """The faults in force; the first that matches a call strikes it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault, now: int) -> Fault:
        """Put a fault in force from `now` (ms) on."""
        with self._lock:
            fault._until = None if fault.seconds is None else now + int(fault.seconds * 1000)
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Lift all faults."""
        with self._lock:
            self._faults.clear()

    def strike(self, service: str, region: str, action: str, now: int) -> Fault | None:
        """The fault that a call meets; None if it meets none."""
        with self._lock:
            self._faults = [f for f in self._faults if f._until is None or now < f._until]
            for fault in self._faults:
                wanted = (fault.service, fault.region, fault.action)
                if any(w not in ("*", is_) for w, is_ in zip(wanted, (service, region, action), strict=True)):
                    continue
                if fault.times is not None and fault.struck >= fault.times:
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.struck += 1
                return fault
        return None
