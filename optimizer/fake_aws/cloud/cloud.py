"""The cloud as a whole: launches within capacity, interruptions when it goes, events, and the bill."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from functools import partial
from itertools import count
from typing import Any, Protocol

from optimizer.fake_aws.clock import moment
from optimizer.fake_aws.cloud.instances import Holdings, Instance
from optimizer.fake_aws.cloud.pools import UNITS_PER_USD, Pools
from optimizer.fake_aws.cloud.queues import Queue
from optimizer.fake_aws.cloud.schedule import RECOMMEND, TICK, WARN, Schedule
from optimizer.fake_aws.errors import AwsError
from optimizer.fake_aws.options import Options
from simulator.errors import InputError
from simulator.market import UNLIMITED_CAPACITY, Market

SPOT_TAKEN = (
    "Server.SpotInstanceTermination",
    "Server.SpotInstanceTermination: Spot instance termination",
    "Server.SpotInstanceTermination",
)
USER_ENDED = ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown", "")


class Owner(Protocol):
    """A group or fleet that keeps instances."""

    def lost(self, instance: Instance) -> None:
        """One of its instances ended, not by the owner's own doing."""

    def endangered(self, instance: Instance) -> None:
        """One of its instances got an interruption warning or a rebalance recommendation."""


@dataclass(frozen=True)
class Event:
    """One event that the cloud published.

    Attributes:
        at: When.
        region: Where.
        kind: `detail-type` of the event.
        instance_id: The instance that it is about.
        body: The event as queues got it.
    """

    at: datetime
    region: str
    kind: str
    instance_id: str
    body: dict[str, Any]


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


@dataclass(eq=False)
class Region:
    """What one region holds.

    Attributes:
        name: Its name.
        zones: Its zones.
        instances: By id, in the order of launch.
        queues: By name.
        templates: Launch templates by id.
        fleets: EC2 fleets by id.
        groups: Auto Scaling groups by name.
        tokens: What each client token stood for: fingerprint of the request, time, reply.
    """

    name: str
    zones: list[str]
    instances: dict[str, Instance] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    templates: dict[str, Any] = field(default_factory=dict)
    fleets: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)
    tokens: dict[tuple[str, str], tuple[str, int, dict[str, Any]]] = field(default_factory=dict)


class Cloud:
    """All regions of a market.

    Attributes:
        pools: What the market offers.
        options: How the cloud behaves.
        schedule: Its time and what is to come.
        regions: By name.
        owners: Groups and fleets by `Instance.owner`.
        events: Every event published, in order.
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
        self.events: deque[Event] = deque(maxlen=log_limit)
        self.holdings = Holdings(len(self.pools.pools))
        self.on_demand = Holdings(len(self.pools.pools))
        self.on_demand_limits: dict[int, int | None] = {}
        self._numbers = count(1)
        self._forgotten: dict[str, int] = {}
        self._false_recommendations_owed = 0.0
        for region in self.regions.values():
            self.add_queue(region, options.notice_queue, {})
        self._warn_ms = int(options.notice_seconds * 1000)
        self._recommend_ms = max(int(options.rebalance_seconds * 1000), self._warn_ms)
        first = self.pools.tick_at(now) + 1
        self._chain(first, 0, TICK, self._tick_starts)
        self._chain(first, self._warn_ms, WARN, self._warn_of)
        if options.rebalance_recall > 0:
            self._chain(first, self._recommend_ms, RECOMMEND, self._recommend_before)

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
        self._announce_state(instance, 0, "pending")
        self._announce_state(instance, instance.boot_ms, "running")
        if lifecycle != "spot":
            self.on_demand.add(instance)
        else:
            self.holdings.add(instance)
            for tick in range(self.tick + 1, self.pools.tick_at(self.now + self._warn_ms) + 1):
                self._warn_pool(pool, tick)
        return instance

    def end(self, instance: Instance, reason: tuple[str, str, str], *, by_owner: bool = False) -> None:
        """Terminate an instance, or take it."""
        if not instance.held:
            return
        instance.ended_ms, instance.reason = self.now, reason
        (self.holdings if instance.lifecycle == "spot" else self.on_demand).remove(instance)
        self._announce_state(instance, 0, "shutting-down")
        self._announce_state(instance, instance.shutdown_ms, "terminated")
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

    # ---------------------------------------------------------------------------------- interruptions
    def _chain(self, tick: int, lead_ms: int, order: int, event: Callable[[int], None]) -> None:
        """Run `event(tick)` `lead_ms` before each tick from `tick` on begins."""
        if tick >= self.pools.ticks:
            return

        def due() -> None:
            event(tick)
            self._chain(tick + 1, lead_ms, order, event)

        self.schedule.at(self.pools.starts_at(tick) - lead_ms, order, due)

    def _tick_starts(self, tick: int) -> None:
        start = self.pools.starts_at(tick)
        for pool in range(len(self.pools.pools)):
            if not self.holdings.count(pool):
                continue
            self._warn_pool(pool, tick)
            for instance in self.holdings.of(pool):
                if instance.taken_ms is not None and instance.taken_ms <= start:
                    self.end(instance, SPOT_TAKEN)

    def _warn_of(self, tick: int) -> None:
        for pool in range(len(self.pools.pools)):
            self._warn_pool(pool, tick)

    def _warn_pool(self, pool: int, tick: int) -> None:
        """Warn those that a tick will take: above their highest price, then the youngest above capacity."""
        start = self.pools.starts_at(tick)
        for instance in self._taken_by(pool, tick):
            self._warn(instance, start)

    def interrupt(self, instance_id: str) -> None:
        """Warn of, and after `notice_seconds` take, a spot instance although there is capacity.

        Raises:
            InputError: It is no spot instance that is held and not yet warned.
        """
        for region in self.regions.values():
            instance = region.instances.get(instance_id)
            if instance and instance.held and instance.lifecycle == "spot" and instance.taken_ms is None:
                self._warn(instance, self.now + self._warn_ms)
                self.schedule.at(self.now + self._warn_ms, TICK, partial(self.end, instance, SPOT_TAKEN))
                return
        raise InputError(f"instance {instance_id}; accepted: a spot instance that runs and is not yet warned")

    def _warn(self, instance: Instance, taken_ms: int) -> None:
        instance.taken_ms = taken_ms
        detail = {"instance-id": instance.id, "instance-action": "terminate"}
        self.publish(instance, "EC2 Spot Instance Interruption Warning", detail)
        self._endangered(instance)

    def _taken_by(self, pool: int, tick: int) -> list[Instance]:
        if not self.holdings.count(pool):
            return []
        price = self.pools.price(pool, "spot", tick)
        staying = self.holdings.staying(pool, self.pools.starts_at(tick))
        dear = [i for i in staying if i.max_price is not None and i.max_price < price]
        others = [i for i in staying if i.max_price is None or i.max_price >= price]
        kept = self.pools.capacity(pool, tick)
        return dear + others[kept:][::-1]

    def _recommend_before(self, tick: int) -> None:
        options = self.options
        for pool in range(len(self.pools.pools)):
            for instance in self._taken_by(pool, tick):
                if not instance.recommended and self.rng.random() < options.rebalance_recall:
                    self._recommend(instance)
                    precision = options.rebalance_precision
                    self._false_recommendations_owed += (1 - precision) / precision
        while self._false_recommendations_owed >= 1:
            safe = [
                instance
                for pool in range(len(self.pools.pools))
                for instance in self.holdings.of(pool)[: self.pools.capacity(pool, tick)]
                if instance.taken_ms is None and not instance.recommended
            ]
            if not safe:
                return
            self._false_recommendations_owed -= 1
            self._recommend(self.rng.choice(safe))

    def _recommend(self, instance: Instance) -> None:
        instance.recommended = True
        self.publish(instance, "EC2 Instance Rebalance Recommendation", {"instance-id": instance.id})
        self._endangered(instance)

    def _endangered(self, instance: Instance) -> None:
        owner = self.owners.get(instance.owner)
        if owner is not None:
            owner.endangered(instance)

    # ----------------------------------------------------------------------------------------- events
    def _announce_state(self, instance: Instance, delay_ms: int, state: str) -> None:
        if not self.options.state_change_events:
            return
        detail = {"instance-id": instance.id, "state": state}

        def send() -> None:
            if instance.state(self.now)[1] == state:
                self.publish(instance, "EC2 Instance State-change Notification", detail)

        self.schedule.at(self.now + delay_ms, WARN, send)

    def publish(self, instance: Instance, kind: str, detail: dict[str, Any]) -> None:
        """Send an event, in the form of EventBridge, to the notice queue of the instance's region."""
        self.publish_raw(
            instance.region,
            kind,
            instance.id,
            detail,
            resource=f"arn:aws:ec2:{instance.zone}:instance/{instance.id}",
        )

    def publish_raw(
        self, region: str, kind: str, instance_id: str, detail: dict[str, Any], *, resource: str
    ) -> None:
        """Send an event about any instance id, also of one that does not exist."""
        at = moment(self.now)
        body = {
            "version": "0",
            "id": self.uuid(),
            "detail-type": kind,
            "source": "aws.ec2",
            "account": self.options.account,
            "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": region,
            "resources": [resource],
            "detail": detail,
        }
        self.events.append(Event(at, region, kind, instance_id, body))
        queue = self.regions[region].queues.get(self.options.notice_queue)
        if queue is None:  # the user deleted it: the rule has no target any more
            return
        message = queue.send(json.dumps(body), self.now)
        if self.rng.random() < self.options.duplicate_share:
            queue.send_copy(message, self.now)
