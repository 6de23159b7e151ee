"""What the controller needs of a cloud, one narrow interface per capability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from optimizer.plan import PlanPool
from simulator.errors import SpotwiseError

Option = Literal["on-demand", "spot"]

LAST_WORD: ContextVar[Callable[[], None] | None] = ContextVar("last_word", default=None)
"""Set around calls that only the leader may make; asked before each packet, it raises if it may not leave."""


class CloudError(SpotwiseError):
    """A call to a cloud failed."""


class Unavailable(CloudError):  # noqa: N818 -- reads as what it says in `except Unavailable`
    """No answer, or throttled to the end of the patience: the call may or may not have taken effect."""


class Partly(CloudError):  # noqa: N818 -- as above
    """Some regions answered and some did not.

    Attributes:
        found: What those that answered said, in the form of the whole answer.
        regions: What was wrong, by region that did not.
    """

    def __init__(self, found: Any, regions: Mapping[str, str]) -> None:
        """Keep both."""
        super().__init__("; ".join(f"{region}: {problem}" for region, problem in regions.items()))
        self.found, self.regions = found, dict(regions)


class Refused(CloudError):  # noqa: N818 -- as above
    """The cloud said no and nothing happened: permission, quota, bad request."""


class NoCapacity(Refused):
    """The pool has no capacity for the request now."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance that carries this controller's tag.

    Attributes:
        id: The cloud's name for it.
        workload: Workload that its tag names.
        pool: Name of the pool it runs in.
        option: How it is paid.
        state: `pending` and `running` count as held; `leaving` and `gone` do not.
        launched_at: Seconds since 1970.
        token: Client token of the request that made it, where known.
        ended_at: When it stopped working, seconds since 1970, where the cloud says so.
    """

    id: str
    workload: str
    pool: str
    option: Option
    state: Literal["pending", "running", "leaving", "gone"]
    launched_at: float
    token: str = ""
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """A request for instances in one pool.

    Attributes:
        token: Makes the request idempotent: the same token never launches twice.
        workload: Goes into the instances' tags.
        pool: Where.
        option: How they are paid.
        count: How many.
        at_least: Fewer than this is `NoCapacity`; `count` for gangs, 1 for services.
    """

    token: str
    workload: str
    pool: PlanPool
    option: Option
    count: int
    at_least: int


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """What a launch gave.

    Attributes:
        ids: The instances.
        shortfall: Why there are fewer than asked; empty where there are not.
    """

    ids: tuple[str, ...]
    shortfall: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """A spot price: USD per instance-hour, and when the cloud was asked (seconds since 1970)."""

    usd_per_hour: float
    at: float


@dataclass(frozen=True, slots=True)
class Notice:
    """A message about one instance.

    Attributes:
        instance: Its id.
        kind: `interruption` is the two-minute warning; `rebalance` a recommendation.
        at: When the cloud sent it, seconds since 1970.
        receipt: What `acknowledge` takes.
    """

    instance: str
    kind: Literal["interruption", "rebalance"]
    at: float
    receipt: str


@dataclass(frozen=True, slots=True)
class Group:
    """An Auto Scaling group, or an EC2 Fleet of type maintain.

    Attributes:
        name: Its name; a fleet's id.
        desired: Desired capacity.
        smallest: Minimum size.
        largest: Maximum size.
        base: On-demand instances that come first.
        percentage: Of on-demand above the base.
        mixed: Whether it has a mixed instances policy, without which it cannot be shaped.
        members: Its instances; their `workload` is not the controller's.
        in_service: Ids of those that are in service.
        fleet: Whether it is a fleet: `desired` is its total target, `base` its on-demand target.
        shrinks: Whether a fleet terminates what is above its targets.
    """

    name: str
    desired: int
    smallest: int
    largest: int
    base: int
    percentage: int
    mixed: bool
    members: tuple[Instance, ...]
    in_service: frozenset[str]
    fleet: bool = False
    shrinks: bool = True


class Clock(Protocol):
    """Time as the provider has it: the machine's, or a simulated cloud's."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    def steady(self) -> float:
        """Seconds of a clock that never jumps."""
        ...

    def wait_until(self, moment: float) -> bool:
        """Wait for a moment; True ends early: something happened that cannot wait for the tick."""
        ...


class Prices(Protocol):
    """Spot prices."""

    def quotes(self, pools: Sequence[PlanPool]) -> Mapping[str, Quote]:
        """The present price per pool name; a pool without one is absent.

        Raises:
            Partly: A region does not answer.
            CloudError: None can be had.
        """
        ...


class Capacity(Protocol):
    """Instances."""

    def instances(self) -> Sequence[Instance]:
        """Every instance with this controller's tag, gone ones for as long as the cloud remembers them.

        Raises:
            Partly: A region does not answer.
            CloudError: No region does.
        """
        ...

    def offers(self, pools: Sequence[PlanPool]) -> Mapping[str, int]:
        """Instances that each pool is believed to grant now, by name; a guess if the cloud tells none."""
        ...

    def launch(self, request: Launch) -> LaunchResult:
        """Launch; the same token gives the same result.

        Raises:
            NoCapacity: Not even `at_least` were to be had; nothing was launched.
            Refused: The request is wrong or not allowed; nothing was launched.
            Unavailable: Nobody knows.
        """
        ...

    def terminate(self, ids: Sequence[str]) -> None:
        """Terminate; one that is gone already is no error.

        Raises:
            Refused: Not allowed.
            Unavailable: Nobody knows.
        """
        ...


class Interruptions(Protocol):
    """Warnings that instances will be taken."""

    def receive(self) -> Sequence[Notice]:
        """Messages that wait, possibly twice and in any order.

        Raises:
            CloudError: The queue cannot be read.
        """
        ...

    def acknowledge(self, receipts: Sequence[str]) -> None:
        """Remove messages that have been handled.

        Raises:
            CloudError: They will come again.
        """
        ...


class Groups(Protocol):
    """Auto Scaling groups, and fleets that maintain their capacity."""

    def describe(self, region: str, names: Sequence[str]) -> Mapping[str, Group]:
        """The groups by name.

        Raises:
            CloudError: They cannot be read.
        """
        ...

    def shape(self, region: str, name: str, desired: int | None, base: int, percentage: int) -> None:
        """Set the mix and, unless it is None, the desired capacity; running instances stay as they are.

        Raises:
            CloudError: As for `Capacity.launch`.
        """
        ...

    def remove(self, region: str, instance: str) -> None:
        """Terminate one member and lower the desired capacity by it.

        Raises:
            CloudError: As for `Capacity.launch`.
        """
        ...


@dataclass(frozen=True)
class Provider:
    """One cloud."""

    name: str
    clock: Clock
    prices: Prices
    capacity: Capacity
    interruptions: Interruptions | None = None
    groups: Groups | None = None
