"""The record of calls, for tests that ask what a client really did."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(eq=False)
class Call:
    """One call that reached the fake.

    Attributes:
        number: Position in the order of calls that reached the fake, from 1.
        at: When, on the fake's clock.
        region: Region.
        service: `ec2`, `autoscaling`, `sqs` or `sts`.
        action: For example `RunInstances`.
        mutating: Whether the action changes anything when it succeeds.
        parameters: Typed parameters.
        access_key: Key id of the caller.
        outcome: Error code; empty if it succeeded.
        acted: Whether the state may have changed: it succeeded, even if its reply was lost.
        fault: Kind of the fault that was injected; empty if none.
        reply: The reply; None if it failed.
    """

    number: int
    at: datetime
    region: str
    service: str
    action: str
    mutating: bool
    parameters: dict[str, Any]
    access_key: str
    outcome: str = ""
    acted: bool = False
    fault: str = ""
    reply: dict[str, Any] | None = field(default=None, repr=False)


class CallLog:
    """Mutating calls in the order in which they were carried out, and counts of all calls.

    Attributes:
        calls: Mutating calls; those that acted in the order of their acts, failed ones among them.
        counts: All calls by action.
        errors: Failed calls by error code.
    """

    def __init__(self, limit: int | None) -> None:
        self.calls: deque[Call] = deque(maxlen=limit)
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def count(self, call: Call) -> None:
        """Record a call whose outcome is known; one that acted is among `calls` already."""
        self.counts[call.action] += 1
        if call.outcome:
            self.errors[call.outcome] += 1
        if call.mutating and not call.acted:
            self.calls.append(call)

    def of(self, *actions: str, acted: bool | None = None) -> list[Call]:
        """Recorded calls of some actions, in order; `acted` keeps those that did, or did not, act."""
        return [
            call for call in self.calls if call.action in actions and (acted is None or call.acted == acted)
        ]
