"""The cloud as a whole: its time, its regions, launches within capacity, and the bill."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from itertools import count
from typing import Any, Protocol

from optimizer.fake_aws.cloud.instances import Holdings, Instance
from optimizer.fake_aws.cloud.interruptions import Interruptions
from optimizer.fake_aws.cloud.notices import Notices
from optimizer.fake_aws.cloud.pools import UNITS_PER_USD, Pools
from optimizer.fake_aws.cloud.queues import Queue
from optimizer.fake_aws.cloud.region import Region
from optimizer.fake_aws.cloud.schedule import TICK, Schedule
from optimizer.fake_aws.errors import AwsError
from optimizer.fake_aws.options import Options
from simulator.market import UNLIMITED_CAPACITY, Market

USER_ENDED = (
    "Client.UserInitiatedShutdown",
    "Client.UserInitiatedShutdown: User initiated shutdown",
    "User initiated",
)
"""State reason code and message, and transition reason, of an instance that a user terminated."""


class Owner(Protocol):
    """A group or fleet that keeps instances."""

    def lost(self, instance: Instance) -> None:
        """One of its instances ended, not by the owner's own doing."""

    def endangered(self, instance: Instance) -> None:
        """One of its instances got an interruption warning or a rebalance recommendation."""


@dataclass(frozen=True)
class Bill:
    """USD, exact to 1e-12 USD per instance-hour.

    Attributes:
        instances: USD so far by instance id, ended ones included.
    """

    instances: dict[str, Fraction]

    @property
    def total(self) -> Fraction:
        """USD so far."""
        return sum(self.instances.values(), Fraction(0))


class Cloud:
    """All regions of a market.

    Attributes:
        pools: What the market offers.
        options: How the cloud behaves.
        schedule: Its time and what is to come.
        regions: By name.
        owners: Groups and fleets by `Instance.owner`.
        notices: Where events are published.
        interruptions: What takes instances when capacity goes.
        rng: Source of everything random.
        holdings: Spot instances held by pool.
        on_demand: On-demand instances held by pool.
        on_demand_limits: How many of them a pool can hold; no entry, or None, means any number.
    """

    def __init__(
        self, market: Market, options: Options, anchor: datetime, now: int, log_limit: int | None
    ) -> None:
        self.pools = Pools(market, anchor)
        self.options = options
        self.schedule = Schedule(now)
        self.rng = random.Random(options.seed)  # noqa: S311 - a simulation, repeatable by its seed
        self.regions = {name: Region(name, zones) for name, zones in self.pools.zones.items()}
        self.owners: dict[str, Owner] = {}
        self.holdings = Holdings(len(self.pools.pools))
        self.on_demand = Holdings(len(self.pools.pools))
        self.on_demand_limits: dict[int, int | None] = {}
        self._numbers = count(1)
        self._forgotten: dict[str, int] = {}
        for region in self.regions.values():
            self.add_queue(region, options.notice_queue, {})
        self.notices = Notices(self, log_limit)
        self.interruptions = Interruptions(self)

    @property
    def now(self) -> int:
        """Milliseconds since 1970."""
        return self.schedule.now

    @property
    def tick(self) -> int:
        """The market's tick in force."""
        return self.pools.tick_at(self.now)

    def number(self) -> int:
        """The next of the numbers from which ids are made."""
        return next(self._numbers)

    def identifier(self, prefix: str) -> str:
        """A new id: the prefix and 17 hexadecimal digits, the same in every run."""
        return f"{prefix}-{self.number() * 0x9E3779B97F4A7C15 % 2**68:017x}"

    def uuid(self) -> str:
        """A new UUID, the same in every run."""
        digits = f"{self.rng.getrandbits(128):032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def add_queue(self, region: Region, name: str, attributes: dict[str, str]) -> Queue:
        """Make a queue."""
        queue = Queue(name, self.now, attributes, shuffle=self.options.shuffle_events, rng=self.rng)
        region.queues[name] = queue
        return queue

    # ------------------------------------------------------------------------------------- instances
    def free(self, pool: int) -> int:
        """Spot instances that could be launched in a pool now."""
        return self.pools.capacity(pool, self.tick) - self.holdings.count(pool)

    def room(self, pool: int, lifecycle: str) -> int:
        """Instances of a lifecycle that could be launched in a pool now."""
        if lifecycle == "spot":
            return self.free(pool)
        limit = self.on_demand_limits.get(pool)
        return UNLIMITED_CAPACITY if limit is None else limit - self.on_demand.count(pool)

    def check_launch(self, pool: int, lifecycle: str, max_price: float | None, instances: int = 1) -> None:
        """Refuse a launch that the pool cannot take.

        Raises:
            AwsError: `InsufficientInstanceCapacity` or `SpotMaxPriceTooLow`.
        """
        place = self.pools.pools[pool]
        if lifecycle == "spot":
            price = self.pools.price(pool, "spot", self.tick)
            if max_price is not None and max_price < price:
                raise AwsError(
                    "SpotMaxPriceTooLow",
                    f"Your Spot request price of {max_price} is lower than the minimum required Spot request "
                    f"fulfillment price of {price}.",
                )
        if self.room(pool, lifecycle) < instances:
            why = (
                "There is no Spot capacity available that matches your request."
                if lifecycle == "spot"
                else ""
            )
            raise AwsError(
                "InsufficientInstanceCapacity",
                f"We currently do not have sufficient {place.instance_type} capacity in the Availability "
                f"Zone you requested ({place.zone}). {why}".strip(),
                500,
            )

    def launch(
        self,
        pool: int,
        lifecycle: str,
        *,
        max_price: float | None = None,
        owner: str = "",
        weight: float = 1.0,
        tags: dict[str, str] | None = None,
        details: dict[str, Any] | None = None,
        protected: bool = False,
    ) -> Instance:
        """Launch one instance.

        Raises:
            AwsError: See `check_launch`.
        """
        self.check_launch(pool, lifecycle, max_price)
        place = self.pools.pools[pool]
        instance = Instance(
            id=self.identifier("i"),
            number=self.number(),
            pool=pool,
            region=place.region,
            zone=place.zone,
            instance_type=place.instance_type,
            lifecycle=lifecycle,
            launched_ms=self.now,
            boot_ms=int(self.options.boot_seconds * 1000),
            shutdown_ms=int(self.options.shutdown_seconds * 1000),
            minimum_ms=int(self.options.minimum_billed_seconds * 1000),
            owner=owner,
            weight=weight,
            max_price=max_price,
            tags=dict(tags or {}),
            details=details or {},
            protected=protected,
        )
        instance.details.setdefault("ReservationId", self.identifier("r"))
        if lifecycle == "spot":
            instance.details.setdefault("SpotInstanceRequestId", self.identifier("sir"))
        self.regions[place.region].instances[instance.id] = instance
        self.notices.announce_state(instance, 0, "pending")
        self.notices.announce_state(instance, instance.boot_ms, "running")
        if lifecycle != "spot":
            self.on_demand.add(instance)
        else:
            self.holdings.add(instance)
            self.interruptions.launched(instance)
        return instance

    def end(self, instance: Instance, reason: tuple[str, str, str], *, by_owner: bool = False) -> None:
        """Terminate an instance, or take it."""
        if not instance.held:
            return
        instance.ended_ms, instance.reason = self.now, reason
        (self.holdings if instance.lifecycle == "spot" else self.on_demand).remove(instance)
        self.notices.announce_state(instance, 0, "shutting-down")
        self.notices.announce_state(instance, instance.shutdown_ms, "terminated")
        self.schedule.at(
            self.now + instance.shutdown_ms + int(self.options.forget_seconds * 1000),
            TICK,
            lambda: self._forget(instance),
        )
        owner = self.owners.get(instance.owner)
        if owner is not None and not by_owner:
            owner.lost(instance)

    def bill(self) -> Bill:
        """What every instance cost so far, those of the past included."""
        units = dict(self._forgotten)
        for region in self.regions.values():
            for instance in region.instances.values():
                units[instance.id] = instance.cost(self.pools, self.now)
        return Bill({name: Fraction(value, UNITS_PER_USD) for name, value in units.items()})

    def _forget(self, instance: Instance) -> None:
        self._forgotten[instance.id] = instance.cost(self.pools, self.now)
        self.regions[instance.region].instances.pop(instance.id, None)
