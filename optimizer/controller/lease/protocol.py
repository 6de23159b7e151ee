"""Who may act, and calls that leave only while it is this controller."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from optimizer.controller.providers import (
    Capacity,
    Group,
    Groups,
    Instance,
    Interruptions,
    Launch,
    LaunchResult,
    Notice,
    Refused,
)
from optimizer.controller.providers.protocol import LAST_WORD
from optimizer.plan import PlanPool

SAFE_SHARE = 2.0 / 3.0
"""Of the lease's time in which the leader acts: the rest is for clocks that differ and calls on their way."""


class Lease(Protocol):
    """Who may act."""

    @property
    def problem(self) -> str:
        """Why nobody could be asked the last time; empty if somebody could."""
        ...

    @property
    def fence(self) -> int:
        """Grows with each change of leader; 0 = not held."""
        ...

    def hold(self) -> bool:
        """Renew, or take it if it is free; whether it is held now."""
        ...

    def keep(self) -> bool:
        """Renew, never take; whether it is held now."""
        ...

    def valid(self) -> bool:
        """Whether it is certainly still held, without asking anybody."""
        ...

    def fresh(self) -> bool:
        """Whether it will be held for a good while, without asking anybody."""
        ...

    def release(self) -> None:
        """Give it back, so that another need not wait; if nobody can be asked it expires."""
        ...


class Hold:
    """How long a lease is certainly held, by a clock that never jumps.

    The time counts from before the question was sent, and ends before anybody else may take the lease.
    """

    def __init__(self, seconds: float, steady: Callable[[], float]) -> None:
        """Not held yet.

        Args:
            seconds: The lease lasts so long after a renewal.
            steady: Clock that never jumps, seconds.
        """
        self._seconds, self._steady = seconds, steady
        self._renewed = float("-inf")

    def asking(self) -> float:
        """The moment to give to `renewed` if the answer is yes."""
        return self._steady()

    def renewed(self, asked: float) -> None:
        """Held from the moment that it was asked for."""
        self._renewed = asked

    def lost(self) -> None:
        """Not held any more."""
        self._renewed = float("-inf")

    def valid(self) -> bool:
        """Whether nobody else can have it yet."""
        return self._steady() < self._renewed + self._seconds * SAFE_SHARE

    def fresh(self) -> bool:
        """Whether less than half of that time is over."""
        return self._steady() < self._renewed + self._seconds * SAFE_SHARE / 2.0


class FencedCapacity:
    """A capacity whose calls leave only while the lease is certainly held."""

    def __init__(self, inner: Capacity, lease: Lease) -> None:
        """Guard a capacity."""
        self._inner, self._lease = inner, lease

    def instances(self) -> Sequence[Instance]:
        """As the capacity behind."""
        return self._inner.instances()

    def offers(self, pools: Sequence[PlanPool]) -> Mapping[str, int]:
        """As the capacity behind."""
        return self._inner.offers(pools)

    def launch(self, request: Launch) -> LaunchResult:
        """As the capacity behind, if this is the leader."""
        with _leading(self._lease):
            return self._inner.launch(request)

    def terminate(self, ids: Sequence[str]) -> None:
        """As the capacity behind, if this is the leader."""
        with _leading(self._lease):
            self._inner.terminate(ids)


class FencedGroups:
    """Groups whose calls leave only while the lease is certainly held."""

    def __init__(self, inner: Groups, lease: Lease) -> None:
        """Guard groups."""
        self._inner, self._lease = inner, lease

    def describe(self, region: str, names: Sequence[str]) -> Mapping[str, Group]:
        """As the groups behind."""
        return self._inner.describe(region, names)

    def shape(self, region: str, name: str, desired: int | None, base: int, percentage: int) -> None:
        """As the groups behind, if this is the leader."""
        with _leading(self._lease):
            self._inner.shape(region, name, desired, base, percentage)

    def remove(self, region: str, instance: str) -> None:
        """As the groups behind, if this is the leader."""
        with _leading(self._lease):
            self._inner.remove(region, instance)


class FencedInterruptions:
    """Messages are the leader's: one that a standby reads is hidden from it."""

    def __init__(self, inner: Interruptions, lease: Lease) -> None:
        """Guard a queue."""
        self._inner, self._lease = inner, lease

    def receive(self) -> Sequence[Notice]:
        """As the queue behind, if this is the leader; otherwise there are none."""
        return self._inner.receive() if self._lease.valid() else ()

    def acknowledge(self, receipts: Sequence[str]) -> None:
        """As the queue behind, if this is the leader; otherwise they come again."""
        if self._lease.valid():
            self._inner.acknowledge(receipts)


@contextmanager
def _leading(lease: Lease) -> Generator[None, None, None]:
    """Renew when it is time, and ask again at the last moment before each packet.

    Raises:
        Refused: Somebody else may lead by now.
    """

    def check() -> None:
        if not lease.valid():
            raise Refused("this controller is not the leader any more; the call did not leave")

    if lease.valid() and not lease.fresh():
        lease.keep()
    check()
    before = LAST_WORD.set(check)
    try:
        yield
    finally:
        LAST_WORD.reset(before)
